"""The perturbation: what it does to images, what it may be, and its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import blindspots as bs
from blindspots import BlindspotsError, Delta, Perturbation
from blindspots.universal.perturbation import KEY, onto_ball

DELTA = torch.tensor([[[0.1, -0.1], [0.05, 0.0]]])


def made(**changes: object) -> Delta:
    given = {"delta": DELTA, "norm": "linf", "radius": "0.1", "method": "test", "meta": {"seed": 3}, **changes}
    return Delta(**given)  # type: ignore[arg-type]


def sentence(call) -> str:
    with pytest.raises(BlindspotsError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_added_and_clamped() -> None:
    images = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]], [[[0.5, 0.5], [0.5, 0.5]]]], dtype=torch.float64)
    expected = torch.tensor([[[[0.1, 0.0], [1.0, 1.0]]], [[[0.6, 0.4], [0.55, 0.5]]]], dtype=torch.float64)
    torch.testing.assert_close(made().apply(images), expected, rtol=0, atol=1e-7)


def test_sizes_and_picture() -> None:
    v = made()
    expected = {"linf": 0.1, "l2": 0.15, "l1": 0.25, "l0": 3.0}
    assert {name: round(size, 6) for name, size in v.size.items()} == expected
    assert v.shape == (1, 2, 2)
    assert v.to_image().flatten().tolist() == pytest.approx([1.0, 0.0, 0.75, 0.5])
    assert made(delta=torch.zeros(1, 2, 2)).to_image().unique().tolist() == [0.5]


def test_it_does_not_change_with_the_tensor_it_was_made_of() -> None:
    delta = DELTA.clone()
    v = made(delta=delta)
    delta.zero_()
    assert torch.equal(v.delta, DELTA)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("norm", "radius"), [("linf", "8/255"), ("linf", 1 / 255), ("l2", "0.5"), ("l2", 1e-3)])
def test_the_nearest_point_of_a_ball_lies_in_it(norm: str, radius: str | float, dtype: torch.dtype) -> None:
    """Rounded inwards: linf exactly, l2 to the tolerance of every radius; inside points stay, directions too."""
    delta = torch.randn(3, 64, 64, dtype=dtype)
    v = made(delta=onto_ball(delta, norm, float(bs.settings.Radius(radius))), norm=norm, radius=radius)
    assert v.size[norm] <= float(v.radius) * (1 if norm == "linf" else 1 + 1e-6)
    assert v.size[norm] >= float(v.radius) * (1 - 1e-6)
    assert torch.equal(onto_ball(v.delta, norm, 2 * float(v.radius)), v.delta)
    if norm == "l2":
        torch.testing.assert_close(v.delta / v.delta.norm(), delta / delta.norm())
    else:
        assert torch.equal(v.delta.sign(), delta.sign())
    assert not onto_ball(delta, norm, 0.0).any()
    assert not onto_ball(torch.zeros_like(delta), norm, 1.0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_gives_back_what_was_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    v = made(
        delta=torch.rand(3, 5, 4, dtype=dtype).transpose(1, 2) * 0.1, meta={"settings": {"epochs": 3}, "none": None}
    )
    path = v.save(tmp_path / "deep" / "v.safetensors")
    loaded = Perturbation.load(path)
    assert torch.equal(loaded.delta, v.delta)
    assert loaded.delta.dtype == dtype
    assert (loaded.norm, str(loaded.radius), loaded.method, loaded.meta) == ("linf", "0.1", "test", v.meta)
    assert [file.name for file in path.parent.iterdir()] == ["v.safetensors"], "a temporary file was left"
    loaded.save(path)
    assert torch.equal(Perturbation.load(path).delta, v.delta)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made().save(tmp_path / "v.safetensors")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert "No space left on device" in sentence(lambda: made(delta=DELTA / 2).save(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["v.safetensors"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"delta": DELTA.unsqueeze(0)}, "a perturbation must be a float tensor (C, H, W), got torch.float32 of shape"),
        ({"delta": DELTA.long()}, "a perturbation must be a float tensor (C, H, W), got torch.int64"),
        ({"delta": [0.1]}, "a perturbation must be a float tensor (C, H, W), got <class 'list'>"),
        ({"delta": DELTA * float("nan")}, "a perturbation must be finite"),
        ({"norm": "l3"}, "the norm of a perturbation must be one of linf, l2, got 'l3'"),
        ({"radius": "0.05"}, "a perturbation must lie in its ball, got linf size 0.1 for the radius 0.05"),
        ({"radius": "wide"}, "radius 'wide' is not a number"),
    ],
)
def test_what_is_no_perturbation_is_refused(changes: dict[str, object], told: str) -> None:
    assert sentence(lambda: made(**changes)).startswith(told)


def test_other_shapes_and_meta_are_refused(tmp_path: Path) -> None:
    shape = "the perturbation is for images of shape (1, 2, 2), got images of shape (1, 2, 3): fit one to them"
    assert sentence(lambda: made().apply(torch.rand(4, 1, 2, 3))) == shape
    assert "meta of a perturbation must be JSON values" in sentence(
        lambda: made(meta={"a": DELTA}).save(tmp_path / "v.safetensors")
    )
    assert not list(tmp_path.iterdir())
    assert "is saved as NAME.safetensors, got 'v.pt'" in sentence(lambda: made().save("v.pt"))


def header(path: Path, **changes: object) -> None:
    """A file as `save` writes it, but for some entries of its header."""
    about = {"format": 1, "norm": "linf", "radius": "0.1", "method": "test", "meta": {}, **changes}
    told = {key: value for key, value in about.items() if value is not None}
    safetensors.torch.save_file({"delta": DELTA}, path, metadata={KEY: json.dumps(told)})


def test_files_that_hold_no_perturbation_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    unreadable = f"'{path}' is not a readable perturbation file (cut off, corrupt or another format): copy it again"

    def load() -> Perturbation:
        return Perturbation.load(path)

    assert sentence(load) == f"perturbation file '{path}' does not exist: check the path"
    path.write_bytes(b"")
    assert "is empty (0 bytes)" in sentence(load)
    path.write_bytes(b"no safetensors at all, but long enough to have a length")
    assert sentence(load) == unreadable
    made().save(path)
    whole = path.read_bytes()
    for cut in (7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert sentence(load) == unreadable
    safetensors.torch.save_file({"weight": DELTA}, path)
    assert "holds no perturbation: give a file that blindspots fit or save wrote" in sentence(load)
    safetensors.torch.save_file({"delta": DELTA}, path, metadata={KEY: "no JSON"})
    assert sentence(load) == unreadable
    header(path, norm=None)
    assert sentence(load) == unreadable
    safetensors.torch.save_file({"other": DELTA}, path, metadata={KEY: "{}"})
    assert sentence(load) == unreadable
    header(path, norm="l3")
    assert "one of linf, l2, got 'l3'" in sentence(load)
    header(path, radius="0.01")
    assert "must lie in its ball" in sentence(load)
    header(path, format=2)
    assert "has the perturbation format 2, this version reads 1: update blindspots" in sentence(load)
    header(path)
    assert load().norm == "linf"
    assert "is a folder" in sentence(lambda: Perturbation.load(tmp_path))


def test_a_perturbation_is_no_model_and_a_model_no_perturbation(tmp_path: Path) -> None:
    path = made().save(tmp_path / "v.safetensors")
    assert str(path) in sentence(lambda: bs.classifier(str(path)))
    net = bs.build("lenet", channels=1, size=28)
    model = tmp_path / "m.safetensors"
    bs.save_model(model, net, network="lenet", settings={}, shape=(1, 28, 28), classes=10, info={})
    assert "holds no perturbation" in sentence(lambda: Perturbation.load(model))
