"""Pairs, .npz files, torch Datasets, the hub: what is taken, what is refused, and that loading is lazy."""

from __future__ import annotations

import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from blindspots.data import ImageData, dataset
from blindspots.errors import BlindspotsError

BYTES = np.arange(6 * 4 * 5 * 3, dtype=np.int64).reshape(6, 4, 5, 3).astype(np.uint8)  # (N, H, W, C)
LABELS = np.array([0, 1, 2, 0, 1, 2])
EXPECTED = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255


def pixels(data: ImageData) -> Tensor:
    return data.batch(0, len(data))[0]


@pytest.mark.parametrize(
    "images",
    [
        BYTES,
        BYTES.transpose(0, 3, 1, 2),
        BYTES / 255,
        (BYTES / 255).astype(">f8"),
        EXPECTED,
        EXPECTED.double(),
        torch.from_numpy(BYTES).permute(0, 3, 1, 2),
        EXPECTED.clone().requires_grad_(),
    ],
    ids=["nhwc", "nchw", "float64", "big endian", "tensor", "double", "uint8 tensor", "grad"],
)
def test_pairs_of_every_layout_and_type(images: Any) -> None:
    data = dataset((images, LABELS))
    assert data.shape == (3, 4, 5)
    assert data.classes == 3
    got, labels, index = data.batch(1, 4)
    assert got.dtype == torch.float32
    assert not got.requires_grad
    assert labels.tolist() == [1, 2, 0]
    assert index.tolist() == [1, 2, 3]
    assert torch.allclose(got, EXPECTED[1:4], atol=1e-7)


def test_half_precision_and_gray_and_many_channels() -> None:
    assert pixels(dataset((torch.ones(2, 3, 3).bfloat16(), [0, 1]))).shape == (2, 1, 3, 3)
    assert dataset((torch.zeros(2, 2, 1, 1), [0, 1])).shape == (2, 1, 1)  # a tensor is channels first, always
    assert dataset((np.zeros((2, 7, 6, 6)), [0, 1])).shape == (7, 6, 6)
    assert dataset((np.zeros((2, 3, 5, 3)), [0, 1])).shape == (3, 5, 3)  # could be either: channels first
    assert dataset((np.zeros((2, 1, 4, 1)), [0, 1])).shape == (1, 4, 1)


def test_labels_of_every_whole_type() -> None:
    for labels in (
        LABELS.tolist(),
        LABELS.astype(np.uint8),
        LABELS.astype(">i4"),
        torch.from_numpy(LABELS).short(),
        LABELS[:, None],
    ):
        assert dataset((BYTES, labels)).labels.tolist() == LABELS.tolist()
        assert dataset((BYTES, labels)).labels.dtype == torch.int64


def test_the_source_is_left_alone() -> None:
    images = torch.full((2, 1, 2, 2), 1 + 5e-7)
    got = pixels(dataset((images, [0, 1])))
    assert got.max() == 1
    assert images.max() > 1
    got.zero_()
    assert images.max() > 1
    low = pixels(dataset((np.full((1, 1, 2, 2), -5e-7), [0])))
    assert low.min() == 0


NAN = np.full((3, 1, 2, 2), 0.5)
NAN[1, 0, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((0, 1, 2, 2)), [], "'arrays' holds no images: their shape is (0, 1, 2, 2)"),
        (BYTES, LABELS[:4], "'arrays' has 6 images but 4 labels: pass one label an image"),
        (BYTES, LABELS - 1, "labels of 'arrays' start at -1: class numbers start at 0, drop unlabelled images first"),
        (BYTES, LABELS * 1.0, "labels of 'arrays' are float64: pass whole class numbers 0, 1, 2, ..."),
        (BYTES, torch.ones(6), "labels of 'arrays' are float32: pass whole class numbers 0, 1, 2, ..."),
        (BYTES, LABELS > 0, "labels of 'arrays' are bool: pass whole class numbers 0, 1, 2, ..."),
        (BYTES, list("aabbcc"), "labels of 'arrays' are text: pass whole class numbers 0, 1, 2, ..."),
        (
            BYTES,
            np.eye(6, dtype=int),
            "labels of 'arrays' have the shape (6, 6), which must be (N,): one class number an image",
        ),
        (
            BYTES.astype(int),
            LABELS,
            "images of 'arrays' are int64: pass uint8 in 0..255 or floating point in [0, 1]",
        ),
        (
            torch.zeros(6, 1, 2, 2, dtype=torch.bool),
            LABELS,
            "images of 'arrays' are bool: pass uint8 in 0..255 or floating point in [0, 1]",
        ),
        (
            BYTES[0, 0],
            LABELS,
            "images of 'arrays' have the shape (5, 3), which must be (N, C, H, W) or (N, H, W)",
        ),
        (
            BYTES.astype(np.float32),
            LABELS,
            "images of 'arrays' range from 0 to 255 and must lie in [0, 1]: divide by 255",
        ),
        (
            EXPECTED * 4000,
            LABELS,
            "images of 'arrays' range from 0 to 4000 and must lie in [0, 1]: divide by their greatest possible value",
        ),
        (
            EXPECTED * 2 - 1,
            LABELS,
            "images of 'arrays' range from -1 to 1 and must lie in [0, 1]: undo the normalisation and give mean and "
            "std to the classifier instead",
        ),
        (
            EXPECTED + 2e-6,
            LABELS,
            "images of 'arrays' range from 2e-06 to 1.000002 and must lie in [0, 1]: clip what goes beyond",
        ),
        (NAN, [0, 0, 0], "image 1 of 'arrays' has NaN pixels: repair or remove it"),
        ([1, 2], [0, 0], "images of a pair must be a tensor or an array, got list: pass (images, labels)"),
    ],
)
def test_pairs_that_are_wrong(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(BlindspotsError) as error:
        dataset((images, labels)).fingerprint()
    assert str(error.value) == message


def test_range_is_checked_when_loaded() -> None:
    images = EXPECTED.clone()
    images[5] *= 255
    data = dataset((images, LABELS))
    data.batch(0, 5)
    with pytest.raises(BlindspotsError, match="divide by 255"):
        data.batch(5, 6)


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": -3}, {"limit": True}, {"limit": 2.0}, {"seed": -1}])
def test_limit_and_seed_that_are_wrong(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    least = 1 if name == "limit" else 0
    with pytest.raises(BlindspotsError) as error:
        dataset((BYTES, LABELS), **options)
    assert str(error.value) == f"{name} must be a whole number of at least {least}, got {value}"


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=BYTES, y=LABELS)
    for source in ((BYTES, LABELS), "digits", tmp_path / "a.npz"):
        with pytest.raises(BlindspotsError, match="size applies to"):
            dataset(source, size=4)
        with pytest.raises(BlindspotsError, match="labels applies to imagefolder:PATH, not to"):
            dataset(source, labels=[1, 2])
    opened = dataset("digits")
    assert dataset(opened) is opened
    with pytest.raises(BlindspotsError, match="apply when data is opened"):
        dataset(opened, limit=3)


def test_batch_arguments() -> None:
    data = dataset((BYTES, LABELS))
    with pytest.raises(BlindspotsError, match="batch needs 0 <= start <= stop, got start 3 and stop 2"):
        data.batch(3, 2)
    with pytest.raises(BlindspotsError, match="the batch size must be at least 1, got 0"):
        list(data.batches(0))


@pytest.mark.parametrize("source", ["mnst", "", "CIFAR10", 7, None])
def test_unknown_sources(source: Any) -> None:
    with pytest.raises(BlindspotsError) as error:
        dataset(source)
    if source == "mnst":
        assert str(error.value).startswith("unknown data 'mnst': did you mean 'mnist'? known: ")
    elif isinstance(source, str):
        assert str(error.value).startswith(f"unknown data '{source}': ")
    else:
        assert str(error.value) == (
            f"data must be a name, a path, a pair (images, labels) or a torch Dataset, got {type(source).__name__}"
        )


def test_unknown_split() -> None:
    with pytest.raises(BlindspotsError, match="unknown split of 'digits' 'tests': did you mean 'test'"):
        dataset("digits", split="tests")


def test_fingerprint_sees_pixels_labels_order_and_part_but_not_storage() -> None:
    base = dataset((BYTES, LABELS)).fingerprint()
    assert dataset((EXPECTED, LABELS)).fingerprint() == base
    changed = BYTES.copy()
    changed[3, 2, 1, 0] += 1
    others = [
        dataset((changed, LABELS)),
        dataset((BYTES, LABELS[::-1].copy())),
        dataset((BYTES[::-1].copy(), LABELS)),
        dataset((BYTES, LABELS), limit=5),
        dataset((BYTES.transpose(0, 2, 1, 3).copy(), LABELS)),
    ]
    assert len({base, *(other.fingerprint() for other in others)}) == 6


class Counting(Dataset[Any]):
    """Ten images that note who was asked for."""

    def __init__(self, form: Any = lambda image: image) -> None:
        self.form = form
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> Any:
        if number >= 10:
            raise IndexError(number)
        self.asked.append(number)
        return self.form(torch.full((1, 2, 2), number / 10)), number % 2


def test_a_dataset_is_read_once_for_labels_and_then_only_where_asked() -> None:
    source = Counting()
    data = dataset(source)
    assert max(source.asked.count(i) for i in range(1, 10)) == 1
    source.asked.clear()
    images, labels, index = data.batch(4, 7)
    assert source.asked == [4, 5, 6]
    assert images[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert labels.tolist() == [0, 1, 0]
    assert index.tolist() == [4, 5, 6]


def test_known_targets_spare_the_pass() -> None:
    source = Counting()
    source.targets = [i % 2 for i in range(10)]
    data = dataset(source, limit=4)
    assert set(source.asked) == {0}
    source.asked.clear()
    data.batch(0, 4)
    assert source.asked == data.index.tolist()

    part = dataset(Subset(source, [9, 3, 4]))
    assert part.labels.tolist() == [1, 1, 0]
    assert part.batch(0, 1)[0].mean().item() == pytest.approx(0.9)

    source.targets[7] = 0
    with pytest.raises(BlindspotsError, match=r"image 7 of 'Counting' comes with the label 1, but .* says 0"):
        dataset(source).fingerprint()


def test_a_target_transform_is_obeyed() -> None:
    source = Counting()
    source.targets = [5] * 10
    source.target_transform = lambda label: label
    assert dataset(source).labels.tolist() == [i % 2 for i in range(10)]


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0] * 250).round().byte().numpy())


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (lambda image: (image * 250).round().byte(), (1, 2, 2)),
        (lambda image: image[0].double() * 250 / 255, (1, 2, 2)),
        (lambda image: (image * 250).round().byte().permute(1, 2, 0).numpy(), (1, 2, 2)),
        (as_pil, (1, 2, 2)),
        (lambda image: as_pil(image).convert("RGB"), (3, 2, 2)),
    ],
    ids=["uint8", "float64 (H, W)", "numpy (H, W, C)", "PIL L", "PIL RGB"],
)
def test_items_of_every_form(form: Any, shape: tuple[int, ...]) -> None:
    data = dataset(Counting(form))
    assert data.shape == shape
    assert pixels(data)[:, 0, 0, 0].tolist() == pytest.approx([25 * i / 255 for i in range(10)], abs=1e-6)


def test_size_applies_to_pil_items() -> None:
    assert dataset(Counting(as_pil), size=3).shape == (1, 3, 3)
    with pytest.raises(BlindspotsError, match="size applies to files and PIL images, but 'Counting' gives arrays"):
        dataset(Counting(), size=3)


def test_items_that_are_dicts() -> None:
    rows = [{"img": np.full((4, 4, 3), i, np.uint8), "fine_label": torch.tensor(i)} for i in range(3)]
    data = dataset(rows)
    assert data.shape == (3, 4, 4)
    assert data.labels.tolist() == [0, 1, 2]
    with pytest.raises(BlindspotsError, match="items of 'list' have the keys picture, label: name the image one of"):
        dataset([{"picture": 1, "label": 2}])


def test_tensor_dataset_and_class_names() -> None:
    assert len(dataset(TensorDataset(EXPECTED, torch.from_numpy(LABELS)), limit=3)) == 3
    source = Counting()
    source.classes = ["even", "odd"]
    assert dataset(source).class_names == ("even", "odd")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "'list' holds no images"),
        (Stream(), "'Stream' has no length: give a dataset with __len__ and __getitem__"),
        ([torch.zeros(1, 2, 2)], r"items of 'list' are Tensor: give \(image, label\), or a dict of both"),
        ([("picture.png", 0)], "image 0 of 'list' is str: items give a tensor"),
        ([(torch.zeros(2, 1, 2, 2), 0)], r"image 0 of 'list' is of shape \(2, 1, 2, 2\)"),
        ([(torch.zeros(1, 2, 2).int(), 0)], "images of 'list' are int32"),
        ([(torch.zeros(1, 2, 2), 0.5)], "labels of 'list' are float64"),
        ([(torch.zeros(1, 2, 2), 0), (torch.zeros(1, 3, 2), 0)], "differ in shape: image 0 is .* and image 1 is"),
        ([(torch.zeros(1, 2, 2), 0), (torch.zeros(1, 2, 2).byte(), 0)], "'list' mixes uint8 and floating point"),
        ([(torch.full((1, 2, 2), 9.0), 0)], "images of 'list' range from 9 to 9"),
    ],
)
def test_datasets_that_are_wrong(items: Any, message: str) -> None:
    with pytest.raises(BlindspotsError, match=message):
        dataset(items).fingerprint()


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("x_test", "y_test")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, keys: tuple[str, str], save: Any) -> None:
    save(tmp_path / "a.npz", **{keys[0]: BYTES, keys[1]: LABELS})
    for source in (f"{tmp_path}/a.npz", tmp_path / "a.npz"):
        data = dataset(source)
        assert data.name == "a.npz"
        assert torch.equal(pixels(data), EXPECTED)
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(BYTES / 255), y=LABELS[:, None])
    assert torch.equal(pixels(dataset(tmp_path / "f.npz")), EXPECTED)


def test_npz_split_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=BYTES, y_train=LABELS, x_test=BYTES[:2], y_test=LABELS[:2])
    assert len(dataset(tmp_path / "a.npz")) == 2
    assert len(dataset(tmp_path / "a.npz", split="train")) == 6
    with pytest.raises(BlindspotsError, match=r"no pair of images and labels: it has x_train, .* x_val/y_val"):
        dataset(tmp_path / "a.npz", split="val")


def test_npz_is_mapped_where_it_is_not_compressed(tmp_path: Path) -> None:
    """The pixels are read from the file when asked for: what is written there after opening is seen."""
    np.savez(tmp_path / "a.npz", x=np.zeros((6, 4, 4), np.uint8), y=LABELS)
    data = dataset(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        start = archive.getinfo("x.npy").header_offset
    whole = (tmp_path / "a.npz").read_bytes()
    place = whole.index(bytes(96), start)
    with (tmp_path / "a.npz").open("r+b") as file:
        file.seek(place + 2 * 16)
        file.write(b"\xff" * 16)
    assert pixels(data).flatten(1).mean(1).tolist() == [0, 0, 1, 0, 0, 0]


def test_npz_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(BlindspotsError, match=r"there is no file .*a\.npz"):
        dataset(path)
    path.write_text("no zip")
    with pytest.raises(BlindspotsError, match=r"is not a readable .npz: write it with numpy.savez"):
        dataset(path)
    np.savez(path, x=BYTES, y=LABELS, images=BYTES, labels=LABELS)
    with pytest.raises(BlindspotsError, match="more than one pair of images and labels: it has x, y, images, labels"):
        dataset(path)
    np.savez(path, pictures=BYTES)
    with pytest.raises(BlindspotsError, match=r"'a.npz' holds no pair of images and labels: it has pictures"):
        dataset(path)
    np.savez(path, x=BYTES, y=np.array([{}] * 6, object))
    with pytest.raises(BlindspotsError, match=r"'y' of 'a.npz' cannot be read as a plain numeric array"):
        dataset(path)
    np.savez(path, x=BYTES, y=LABELS)
    with zipfile.ZipFile(path) as archive:
        member = archive.read("x.npy")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(BlindspotsError, match=r"'a.npz' holds the key 'x' twice: write the file anew"):
        dataset(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00")
        archive.writestr("y.npy", b"")
    with pytest.raises(BlindspotsError, match=r"'x' of 'a.npz' cannot be read"):
        dataset(path)


def test_hub_offline_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, split: str) -> None:
        raise ConnectionError(f"Couldn't reach {name} on the Hub\nand much more")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(BlindspotsError) as error:
        dataset("hf:someone/something", split="validation")
    assert str(error.value) == (
        "data 'hf:someone/something' with the split 'validation' cannot be loaded (Couldn't reach someone/something on "
        "the Hub): check the name, the split and the network, or pass hf:DIRECTORY of a local copy"
    )


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BlindspotsError, match=r"data 'hf:x' needs the package 'datasets'.*'blindspots\[hub\]'"):
        dataset("hf:x")


def test_hub_reads_local_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets", reason="the package datasets (extra hub) is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, value in (("ant", 10), ("bee", 20)):
        (tmp_path / "insects" / "test" / name).mkdir(parents=True)
        Image.new("RGB", (6, 4), (value, 0, 0)).save(tmp_path / "insects" / "test" / name / "0.png")
    data = dataset(f"hf:{tmp_path / 'insects'}")
    assert data.class_names == ("ant", "bee")
    assert data.labels.tolist() == [0, 1]
    assert (pixels(data)[:, 0, 0, 0] * 255).round().tolist() == [10, 20]
    table = datasets.load_dataset(str(tmp_path / "insects"), split="test")
    table.save_to_disk(tmp_path / "saved")
    assert dataset(f"hf:{tmp_path / 'saved'}", size=2).shape == (3, 2, 2)
    datasets.DatasetDict({"val": table}).save_to_disk(tmp_path / "dict")
    assert len(dataset(f"hf:{tmp_path / 'dict'}", split="val")) == 2
    with pytest.raises(BlindspotsError, match="with the split 'test' cannot be loaded"):
        dataset(f"hf:{tmp_path / 'dict'}")
