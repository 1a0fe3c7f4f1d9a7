"""torchvision and timm: random weights, local files, and no network."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from blindspots.errors import BlindspotsError
from blindspots.models import load_model


def answers(loaded: Any, size: int) -> torch.Tensor:
    images = torch.rand(2, loaded.shape[0], size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits: torch.Tensor = loaded.module(images)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert logits.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    return logits


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("mobilenet_v3_small", 64), ("googlenet", 64)])
def test_torchvision_random_weights(name: str, size: int) -> None:
    loaded = load_model(f"torchvision:{name}", classes=7, size=size)
    assert answers(loaded, size).shape == (2, 7)
    assert loaded.trained is False
    assert loaded.shape == (3, size, size)
    assert loaded.mean == (0.485, 0.456, 0.406)
    assert loaded.std == (0.229, 0.224, 0.225)


def test_torchvision_transformers_are_built_for_the_size() -> None:
    loaded = load_model("torchvision:vit_b_32", classes=7, size=64)
    assert loaded.module(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_random_weights_are_the_same_every_time_and_leave_the_random_state() -> None:
    before = torch.random.get_rng_state()
    first = load_model("torchvision:resnet18", classes=2).module.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    second = load_model("torchvision:resnet18", classes=2).module.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_torchvision_local_file(tmp_path: Path) -> None:
    torch.manual_seed(2)
    module = torchvision.models.resnet18(num_classes=5).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, tmp_path / "r.pth")
    loaded = load_model("torchvision:resnet18", weights=str(tmp_path / "r.pth"), size=32)
    images = torch.rand(2, 3, 32, 32)
    assert loaded.classes == 5
    assert loaded.trained is True
    assert torch.equal(loaded.module(images), module(images))


def test_torchvision_densenet_file_with_its_old_names(tmp_path: Path) -> None:
    module = torchvision.models.densenet121(num_classes=3)
    old = {
        k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in k else k: v
        for k, v in module.state_dict().items()
    }
    torch.save(old, tmp_path / "d.pth")
    loaded = load_model("torchvision:densenet121", weights=str(tmp_path / "d.pth"))
    state = loaded.module.state_dict()
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())


def test_torchvision_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BlindspotsError, match=r"cannot be downloaded.*give that file as weights") as caught:
        load_model("torchvision:resnet18", weights="default")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "keywords", "message"),
    [
        ("torchvision:resnet1", {}, "unknown torchvision model 'resnet1': did you mean 'resnet1"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "unknown torchvision model"),
        ("torchvision:resnet18", {"channels": 1}, "was made with channels=3, got channels=1"),
        ("torchvision:resnet18", {"weights": "default", "classes": 10}, "was made with classes=1000, got classes=10"),
        ("torchvision:vit_b_16", {"size": 30}, "cannot be built"),
        ("torchvision:resnet18", {"weights": "none.pth"}, "'none.pth' does not exist"),
        ("", {}, "no model was named"),
        ("resnett20", {}, "did you mean 'resnet20'"),
    ],
)
def test_torchvision_refusals(spec: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(BlindspotsError, match=message) as caught:
        load_model(spec, **keywords)
    assert "\n" not in str(caught.value)


def test_timm_random_weights() -> None:
    pytest.importorskip("timm")
    loaded = load_model("timm:resnet18", classes=4, channels=1, size=64)
    assert answers(loaded, 64).shape == (2, 4)
    assert loaded.trained is False
    assert loaded.shape == (1, 64, 64)
    assert loaded.mean == pytest.approx((0.449,))


def test_timm_knows_its_own_normalisation_and_size() -> None:
    pytest.importorskip("timm")
    loaded = load_model("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert (loaded.mean, loaded.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (loaded.shape, loaded.classes) == ((3, 224, 224), 1000)
    small = load_model("timm:vit_tiny_patch16_224", size=64, classes=3)
    assert answers(small, 64).shape == (2, 3)


def test_timm_local_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model("mobilenetv3_small_050", num_classes=5).eval()
    torch.save(module.state_dict(), tmp_path / "m.pth")
    loaded = load_model("timm:mobilenetv3_small_050", weights=str(tmp_path / "m.pth"))
    images = torch.rand(2, 3, 64, 64)
    assert loaded.classes == 5
    assert torch.equal(loaded.module(images), module(images))


def test_timm_offline_is_quick_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from huggingface_hub import constants

    monkeypatch.setattr("blindspots.models.timm_models._answers", lambda _: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(BlindspotsError, match=r"cannot be loaded from the hub.*give the file as weights") as caught:
        load_model("timm:resnet18", weights="default")
    assert "\n" not in str(caught.value)
    assert before == constants.HF_HUB_OFFLINE


def test_timm_refusals() -> None:
    pytest.importorskip("timm")
    with pytest.raises(BlindspotsError, match="unknown timm model 'resnet1': did you mean resnet"):
        load_model("timm:resnet1")
