"""Datasets by name: digits, the IDX files of MNIST, CIFAR in its original and its image form."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blindspots.data import dataset, list_data
from blindspots.errors import BlindspotsError

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
DATA = Path(os.environ.get("BLINDSPOTS_DATA", "nowhere"))
needs_mnist = pytest.mark.skipif(
    not (DATA / "MNIST" / "raw" / "t10k-images-idx3-ubyte").exists(), reason="no MNIST/raw files under BLINDSPOTS_DATA"
)
needs_jpeg = pytest.mark.skipif(
    not (DATA / "cifar10-jpeg.zip").exists(), reason="no cifar10-jpeg.zip under BLINDSPOTS_DATA"
)


def write_idx(path: Path, array: np.ndarray, *, packed: bool = False) -> None:
    data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


def small_mnist(root: Path, folder: str = "MNIST", *, packed: bool = False, stem: str = "t10k") -> np.ndarray:
    images = np.arange(12 * 4 * 4).reshape(12, 4, 4) % 256
    write_idx(root / folder / "raw" / f"{stem}-images-idx3-ubyte", images, packed=packed)
    write_idx(root / folder / "raw" / f"{stem}-labels-idx1-ubyte", np.arange(12) % 10, packed=packed)
    return images


def image_bytes(colour: tuple[int, int, int], form: str = "PNG", size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, form)
    return buffer.getvalue()


def test_importing_and_listing_needs_no_torch() -> None:
    code = (
        "import sys, blindspots.data as d; names = [row.name for row in d.list_data()]; "
        "assert names[0] == 'digits' and len(set(names)) == len(names); assert 'torch' not in sys.modules"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
    assert all(row.description and row.needs for row in list_data())


def test_digits_split_is_fixed_stratified_and_complete() -> None:
    train, test = dataset("digits", split="train"), dataset("digits")
    assert (len(train), len(test)) == (1297, 500)
    assert test.shape == (1, 8, 8)
    assert test.class_names == tuple("0123456789")
    assert test.index.tolist() == list(range(500))
    shares = torch.bincount(torch.cat([train.labels, test.labels])) * 500 / 1797
    assert (torch.bincount(test.labels) - shares).abs().max() < 1
    images = torch.cat([train.batch(0, 1297)[0], test.batch(0, 500)[0]])
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    theirs = torch.from_numpy(bunch.images / 16).float().flatten(1)
    assert sorted(map(tuple, images.flatten(1).tolist())) == sorted(map(tuple, theirs.tolist()))
    assert test.fingerprint() == "079fc949043bac02031468cc5fb56ee81fe08027daab50c938fff7babb22e02e"


def test_describe_holds_json_values_and_everything_asked_for() -> None:
    import json

    data = dataset("digits", limit=20, seed=3)
    told = data.describe()
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "name": "digits",
        "split": "test",
        "total": 500,
        "limit": 20,
        "seed": 3,
        "count": 20,
        "shape": [1, 8, 8],
        "classes": 10,
        "per_class": torch.bincount(data.labels, minlength=10).tolist(),
        "notes": [],
        "fingerprint": data.fingerprint(),
    }
    assert sum(told["per_class"]) == 20


def test_limits_nest_and_keep_the_number_of_each_image() -> None:
    full = dataset("digits")
    small, large = dataset("digits", limit=30, seed=2), dataset("digits", limit=80, seed=2)
    assert set(small.index.tolist()) < set(large.index.tolist())
    images, labels, index = large.batch(0, 80)
    assert (index.diff() > 0).all()
    assert torch.equal(images, full.take(index)[0])
    assert torch.equal(labels, full.labels[index])
    assert dataset("digits", limit=30, seed=4).index.tolist() != small.index.tolist()


def test_a_limit_beyond_the_data_takes_all_and_says_so() -> None:
    data = dataset("digits", limit=9999)
    assert len(data) == 500
    assert data.describe()["notes"] == ["limit 9999 is more than the 500 images of the split: all are used"]


def test_batches_are_the_rows_in_order() -> None:
    data = dataset("digits", limit=50)
    whole = data.batch(0, 50)
    parts = [torch.cat(part) for part in zip(*data.batches(16), strict=True)]
    for again in (parts, data.batch(0, 999)):
        assert all(torch.equal(part, full) for part, full in zip(again, whole, strict=True))
    assert [part.shape[0] for part in data.batch(10, 10)] == [0, 0, 0]


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_plain_and_gzipped(tmp_path: Path, packed: bool) -> None:
    images = small_mnist(tmp_path, packed=packed)
    data = dataset("mnist", data_dir=tmp_path)
    assert data.shape == (1, 4, 4)
    assert data.labels.tolist() == [i % 10 for i in range(12)]
    assert torch.equal(data.batch(0, 12)[0][:, 0], torch.from_numpy(images).float() / 255)


def test_fashion_mnist_and_train_have_their_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_mnist(tmp_path, "FashionMNIST", stem="train")
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))
    data = dataset("fashion-mnist", split="train")
    assert len(data) == 12
    assert data.class_names[9] == "ankle boot"
    with pytest.raises(BlindspotsError, match="is not in"):
        dataset("fashion-mnist")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"\0\0\x0d" + data[3:], lambda data: data[:9]]
)
def test_damaged_idx_is_named(tmp_path: Path, damage: Any) -> None:
    small_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        BlindspotsError, match="t10k-images-idx3-ubyte is not a whole IDX file of bytes: fetch it again"
    ):
        dataset("mnist", data_dir=tmp_path)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    small_mnist(tmp_path, packed=True)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BlindspotsError, match=r"labels-idx1-ubyte\.gz cannot be read .*: fetch it again"):
        dataset("mnist", data_dir=tmp_path)


def test_absent_data_says_where_and_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLINDSPOTS_DATA", raising=False)
    with pytest.raises(BlindspotsError) as error:
        dataset("mnist")
    assert str(error.value) == (
        "data 'mnist' has no folder to be looked for in: set BLINDSPOTS_DATA or pass --data-dir with the folder that "
        "holds MNIST/raw/*-ubyte (or *-ubyte.gz)"
    )
    for name, layout in {
        "mnist": "MNIST/raw/*-ubyte (or *-ubyte.gz)",
        "cifar10": "cifar-10-batches-py/, cifar10/train|test/CLASS/* or cifar10-jpeg.zip",
        "cifar100": "cifar-100-python/",
    }.items():
        with pytest.raises(BlindspotsError) as error:
            dataset(name, data_dir=tmp_path)
        assert str(error.value) == (
            f"data '{name}' is not in {tmp_path}: it needs {layout} there, so put it there, set BLINDSPOTS_DATA or "
            "--data-dir to the folder that has it, or pass download=True where there is a network"
        )


def test_download_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    asked = []

    class Fake:
        def __init__(self, root: Path, train: bool, download: bool) -> None:
            asked.append((train, download))
            small_mnist(root)

    monkeypatch.setattr(torchvision.datasets, "MNIST", Fake)
    with pytest.raises(BlindspotsError, match="is not in"):
        dataset("mnist", data_dir=tmp_path)
    assert not asked
    assert len(dataset("mnist", data_dir=tmp_path, download=True)) == 12
    assert asked == [(False, True)]


def test_download_without_a_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(*args: Any, **settings: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", offline)
    with pytest.raises(
        BlindspotsError, match=r"could not be downloaded to .* \(no route to host\): put cifar-100-python/"
    ):
        dataset("cifar100", data_dir=tmp_path, download=True)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A CIFAR-10 of 20 test images in the original layout, with torchvision's table of hashes set to it."""
    import torchvision

    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    files = {
        "test_batch": {"data": pixels, "labels": [i % 10 for i in range(20)]},
        "batches.meta": {"label_names": CIFAR10},
    }
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    hashes = {}
    for name, value in files.items():
        data = pickle.dumps(value)
        (folder / name).write_bytes(data)
        hashes[name] = hashlib.md5(data).hexdigest()
    reader = torchvision.datasets.CIFAR10
    monkeypatch.setattr(reader, "train_list", [])
    monkeypatch.setattr(reader, "test_list", [["test_batch", hashes["test_batch"]]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": hashes["batches.meta"]})
    return pixels.reshape(20, 3, 32, 32)


def test_cifar_in_its_original_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar(tmp_path, monkeypatch)
    data = dataset("cifar10", data_dir=tmp_path)
    assert data.class_names == tuple(CIFAR10)
    assert torch.equal(data.batch(0, 20)[0], torch.from_numpy(pixels).float() / 255)
    assert data.describe()["notes"] == []


def test_a_changed_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(BlindspotsError, match="cifar-10-batches-py is incomplete or damaged: fetch it again"):
        dataset("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("zipped", [False, True])
def test_cifar_as_images(tmp_path: Path, zipped: bool, form: str) -> None:
    files = {
        f"{split}/{name}/{i}.{form.lower()}": image_bytes((10 * number, 100 * i, 0), form)
        for split, count in (("train", 2), ("test", 1))
        for number, name in enumerate(CIFAR10)
        for i in range(count)
    }
    if zipped:
        with zipfile.ZipFile(tmp_path / "cifar10-jpeg.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        for name, data in files.items():
            (tmp_path / "cifar10" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cifar10" / name).write_bytes(data)
    train, test = dataset("cifar10", split="train", data_dir=tmp_path), dataset("cifar10", data_dir=tmp_path)
    assert (len(train), len(test)) == (20, 10)
    assert test.labels.tolist() == list(range(10))
    assert test.class_names == tuple(CIFAR10)
    red = test.batch(0, 10)[0][:, 0, 5, 5] * 255
    assert (red - 10 * torch.arange(10)).abs().max() < 4
    assert ("JPEG" in " ".join(test.describe()["notes"])) == (form == "JPEG")


def test_cifar_folder_with_other_classes_or_sizes_is_refused(tmp_path: Path) -> None:
    for name in [*CIFAR10[:-1], "lorry"]:
        (tmp_path / "cifar10" / "test" / name).mkdir(parents=True)
        (tmp_path / "cifar10" / "test" / name / "0.png").write_bytes(image_bytes((0, 0, 0), size=16))
    with pytest.raises(BlindspotsError, match=r"has the class folders airplane.*ship, lorry|lorry, ship: they must be"):
        dataset("cifar10", data_dir=tmp_path)
    (tmp_path / "cifar10" / "test" / "lorry").rename(tmp_path / "cifar10" / "test" / "truck")
    with pytest.raises(BlindspotsError, match=r"has images \(3, 16, 16\): they must be \(3, 32, 32\)"):
        dataset("cifar10", data_dir=tmp_path)


@pytest.mark.mnist
@needs_mnist
def test_real_mnist() -> None:
    test, train = dataset("mnist"), dataset("mnist", split="train")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mean = torch.stack([images.double().mean() for images, _, _ in train.batches(10_000)]).mean()
    assert mean.item() == pytest.approx(0.1306604, abs=1e-6)
    assert test.fingerprint() == "b8415f8e447a02ce1d99cc3107afc5e80baa9da6e2fc9372e7aec47f888551ae"
    assert (np.bincount(dataset("mnist", limit=1000).labels.numpy()) - np.bincount(test.labels) / 10 < 1).all()


@needs_jpeg
def test_real_cifar_zip() -> None:
    data = dataset("cifar10", limit=100)
    assert torch.bincount(data.labels).tolist() == [10] * 10
    assert data.shape == (3, 32, 32)
    images, _, _ = data.batch(0, 100)
    assert images.mean().item() == pytest.approx(0.475, abs=0.03)  # the mean of CIFAR-10 over its channels
    assert "JPEG" in data.describe()["notes"][0]
