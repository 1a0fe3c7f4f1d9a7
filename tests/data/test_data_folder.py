"""Image folders and zips: order, sizes, colours, broken files, the model's numbers for classes."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blindspots.data import dataset, loader
from blindspots.errors import BlindspotsError


def save(path: Path, value: Any = 0, *, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Three classes, in an order of creation unlike the sorted one; image k has red k."""
    for number, name in enumerate(["cat/b.png", "dog/10.png", "dog/9.png", "ant/x.png", "cat/a/deep.PNG"]):
        save(tmp_path / "pets" / name, (number, 0, 0))
    return tmp_path / "pets"


def reds(data: Any) -> list[int]:
    return [round(value * 255) for value in data.batch(0, len(data))[0][:, 0, 0, 0].tolist()]


def test_sorted_classes_and_stable_index(pets: Path) -> None:
    data = dataset(f"imagefolder:{pets}")
    assert data.class_names == ("ant", "cat", "dog")
    assert data.labels.tolist() == [0, 1, 1, 2, 2]
    assert reds(data) == [3, 4, 0, 1, 2]  # by path within the class: cat/a/deep.PNG, cat/b.png, dog/10.png, dog/9.png
    assert data.index.tolist() == [0, 1, 2, 3, 4]
    assert data.shape == (3, 4, 6)
    few = dataset(pets, limit=3, seed=1)
    assert reds(few) == [reds(data)[i] for i in few.index.tolist()]


def test_what_is_no_image_does_not_count(pets: Path) -> None:
    before = dataset(pets).fingerprint()
    (pets / "cat" / "notes.txt").write_text("x")
    (pets / "cat" / ".hidden.png").write_text("x")
    (pets / ".git").mkdir()
    save(pets / "loose.png")
    assert dataset(pets).fingerprint() == before


def test_an_empty_class_keeps_its_number(pets: Path) -> None:
    (pets / "bat").mkdir()
    data = dataset(pets)
    assert data.class_names == ("ant", "bat", "cat", "dog")
    assert data.describe()["per_class"] == [1, 0, 2, 2]
    assert data.describe()["notes"] == ["classes without images: bat"]


def test_zip_equals_folder_and_is_read_in_place(pets: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(pets.rglob("*.*"), reverse=True):
            archive.write(path, path.relative_to(pets))
    before = sorted(tmp_path.rglob("*"))
    zipped = dataset(f"imagefolder:{tmp_path / 'pets.zip'}")
    assert zipped.fingerprint() == dataset(pets).fingerprint()
    assert sorted(tmp_path.rglob("*")) == before
    again = pickle.loads(pickle.dumps(zipped))  # what a spawned loader worker gets
    assert torch.equal(again.batch(0, 5)[0], zipped.batch(0, 5)[0])


def test_zip_through_worker_processes(pets: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in pets.rglob("*.*"):
            archive.write(path, path.relative_to(pets))
    data = dataset(tmp_path / "pets.zip")
    here = [images for images, _, _ in loader(data, 2)]
    there = [images for images, _, _ in loader(data, 2, workers=2)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_a_forked_process_opens_the_zip_anew(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle shared with the parent would share its place in the file: pixels of two images could mix."""
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in pets.rglob("*.*"):
            archive.write(path, path.relative_to(pets))
    data = dataset(tmp_path / "pets.zip")
    opened: list[Any] = []
    real = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args: opened.append(args) or real(*args))
    data.batch(0, 5)
    assert not opened
    monkeypatch.setattr(os, "getpid", lambda: -1)
    data.batch(0, 5)
    assert len(opened) == 1


def test_splits(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "0.png", (1, 0, 0))
    save(tmp_path / "val" / "a" / "0.png", (2, 0, 0))
    assert reds(dataset(tmp_path, split="val")) == [2]
    assert reds(dataset(tmp_path / "val")) == [2]
    with pytest.raises(BlindspotsError, match="has no split 'test': pass one of train, val"):
        dataset(tmp_path)


def test_relative_path_below_the_data_folder(pets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(dataset("imagefolder:pets", data_dir=tmp_path)) == 5


def test_size_resizes_the_shorter_side_and_cuts_the_centre(tmp_path: Path) -> None:
    wide = Image.new("RGB", (12, 4))
    wide.paste((255, 0, 0), (4, 0, 8, 4))  # the middle third
    (tmp_path / "a").mkdir()
    wide.save(tmp_path / "a" / "0.png")
    save(tmp_path / "a" / "1.png", size=(5, 9))
    data = dataset(tmp_path, size=4)
    images, _, _ = data.batch(0, 2)
    assert images.shape == (2, 3, 4, 4)
    assert torch.equal(images[0, 0], torch.ones(4, 4))
    assert data.describe()["notes"] == ["each image resized to 4 pixels on its shorter side and cut to its centre"]


def test_size_agrees_with_torchvision(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    rng = np.random.default_rng(0)
    for number, shape in enumerate([(37, 23), (23, 37), (50, 50), (16, 61)]):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / "a" / f"{number}.png")
    ours = dataset(tmp_path, size=15).batch(0, 4)[0]
    theirs = v2.Compose([v2.Resize(15), v2.CenterCrop(15), v2.PILToTensor()])
    for number in range(4):
        with Image.open(tmp_path / "a" / f"{number}.png") as image:
            assert torch.equal((ours[number] * 255).round().to(torch.uint8), theirs(image))


def test_sizes_that_differ_are_named(pets: Path) -> None:
    save(pets / "dog" / "9.png", size=(8, 3))
    data = dataset(pets)
    assert data.batch(0, 4)[0].shape == (4, 3, 4, 6)  # lazily: the offender is the last
    with pytest.raises(BlindspotsError) as error:
        data.batch(4, 5)
    assert str(error.value) == (
        f"images differ in size: {pets}/ant/x.png is 6x4 and {pets}/dog/9.png is 8x3, pass --size to resize and crop "
        "all to one"
    )


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGBA", (200, 100, 50, 0), (200, 100, 50)),
        ("P", 3, None),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 10), (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, value: Any, expected: tuple[int, ...] | None) -> None:
    save(tmp_path / "a" / "0.png", (1, 2, 3))
    name = "1.tif" if mode == "CMYK" else "1.png"
    if mode == "P":
        image = Image.new("P", (6, 4), 3)
        image.putpalette([0] * 9 + [9, 8, 7])
        image.save(tmp_path / "a" / name, transparency=bytes([0, 128, 255, 3]))
        expected = (9, 8, 7)
    else:
        save(tmp_path / "a" / name, value, mode=mode)
    pixel = dataset(tmp_path).batch(1, 2)[0][0, :, 0, 0] * 255
    assert tuple(pixel.round().int().tolist()) == expected


def test_all_gray_gives_one_channel_and_one_coloured_class_gives_three(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", 10, mode="L")
    save(tmp_path / "b" / "0.png", 20, mode="L")
    assert dataset(tmp_path).shape == (1, 4, 6)
    assert reds(dataset(tmp_path)) == [10, 20]
    save(tmp_path / "c" / "0.png", (1, 2, 3))
    assert dataset(tmp_path).shape == (3, 4, 6)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a" / "deep.png")
    with pytest.raises(BlindspotsError, match=r"deep\.png has more than 8 bits a channel: save it with 8 bits"):
        dataset(tmp_path)


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "gif", "tif", "webp"])
def test_broken_files_are_named(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    for name in ("0", "1"):
        (tmp_path / "a").mkdir(exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        image.save(tmp_path / "a" / f"{name}.{form}")
    path = tmp_path / "a" / f"1.{form}"
    whole = path.read_bytes()
    data = dataset(tmp_path)
    for broken in (whole[: len(whole) // 2], b"", b"not an image at all"):
        path.write_bytes(broken)
        data.batch(0, 1)
        with pytest.raises(BlindspotsError, match=rf"image .*/a/1\.{form} cannot be read \(.*\): replace or remove it"):
            data.batch(1, 2)
    path.unlink()
    with pytest.raises(BlindspotsError, match=rf"a/1\.{form} cannot be read"):
        data.fingerprint()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagefolder:{0}/none", "no folder or .zip at"),
        ("imagefolder:{0}/empty", "holds no images: .* needs a subfolder for each class"),
        ("imagefolder:{0}/text.zip", "is neither a folder nor a readable .zip"),
        ("{0}/empty", "is a path, not a name: write imagefolder:"),
    ],
)
def test_paths_that_are_wrong(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(BlindspotsError, match=message):
        dataset(source.format(tmp_path))


def test_size_below_one(pets: Path) -> None:
    with pytest.raises(BlindspotsError, match="size must be at least 1 pixel, got 0"):
        dataset(pets, size=0)


IMAGENET = ["n01440764", "n01443537", "n02123394"]


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    for number, name in enumerate(["n01443537_goldfish", "n02123394_Persian_cat"]):
        save(tmp_path / "wordnet" / name / "0.png", (number, 0, 0))
    return tmp_path / "wordnet"


def test_labels_from_every_form(wordnet: Path, tmp_path: Path) -> None:
    files = {
        "list.txt": "\n".join(IMAGENET),
        "pairs.txt": "n01443537_goldfish 1\nn02123394_Persian_cat 2\n",
        "list.json": json.dumps(IMAGENET),
        "map.json": json.dumps({"n01443537": 1, "n02123394": 2}),
        "index.json": json.dumps({str(i): [name, f"name{i}"] for i, name in enumerate(IMAGENET)}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    forms: list[Any] = [str(tmp_path / name) for name in files]
    forms += [tmp_path / "list.txt", {"n01443537_goldfish": 1, "n02123394": 2}, [1, 2], tuple(IMAGENET)]
    for form in forms:
        data = dataset(wordnet, labels=form)
        assert data.labels.tolist() == [1, 2], form
        assert data.classes == 3
        assert data.class_names[1:] == ("n01443537_goldfish", "n02123394_Persian_cat")
    assert dataset(wordnet).labels.tolist() == [0, 1]


def test_two_folders_may_share_a_number(wordnet: Path) -> None:
    data = dataset(wordnet, labels=[4, 4])
    assert data.labels.tolist() == [4, 4]
    assert data.class_names == ("0", "1", "2", "3", "n01443537_goldfish")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"n01443537": 1}, "unknown class folder without a number in labels 'n02123394_Persian_cat'"),
        ([1], "labels has 1 numbers for 2 class folders: give one for each"),
        ([1, -2], "labels gives 'n02123394_Persian_cat' the number -2: give a whole number of at least 0"),
        ([1, 2.0], "the number 2.0: give a whole number"),
        ({"n01443537": "x"}, "labels gives 'n01443537' the number 'x'"),
        ("nowhere.txt", "labels file nowhere.txt cannot be read"),
        ([], "labels must map class folders to numbers"),
        (7, r"labels must map class folders to numbers \(a mapping, a sequence or a file of them\), got 7"),
    ],
)
def test_labels_that_are_wrong(wordnet: Path, labels: Any, message: str) -> None:
    with pytest.raises(BlindspotsError, match=message):
        dataset(wordnet, labels=labels)


def test_labels_files_that_are_wrong(wordnet: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "twice.txt").write_text("a 1\na 2\n")
    with pytest.raises(BlindspotsError, match=r"bad\.json cannot be read: give a \.json or a text file of names"):
        dataset(wordnet, labels=tmp_path / "bad.json")
    with pytest.raises(BlindspotsError, match=r"twice\.txt names a class twice: give each class one line"):
        dataset(wordnet, labels=tmp_path / "twice.txt")


def test_class_names(wordnet: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("fish\ncat\n")
    for names in (["fish", "cat"], tmp_path / "names.txt", str(tmp_path / "names.txt")):
        assert dataset(wordnet, class_names=names).class_names == ("fish", "cat")
    with pytest.raises(BlindspotsError, match="has the label 1 but only 1 classes: labels go from 0 to 0"):
        dataset(wordnet, class_names=["fish"])
    with pytest.raises(BlindspotsError, match="class_names must be a name for each class"):
        dataset(wordnet, class_names=[])
