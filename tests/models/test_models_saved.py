"""Saving and loading: one file, bit for bit, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from blindspots.errors import BlindspotsError
from blindspots.models import build, load_model, save_model


def save(path: Path, module: torch.nn.Module, network: str = "small-cnn", **changes: Any) -> None:
    about: dict[str, Any] = {"network": network, "settings": {}, "shape": (1, 8, 8), "classes": 5, "info": {}}
    save_model(path, module, **(about | changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("network", "settings"), [("resnet20", {"depth": 8}), ("stadv-c:maxpool", {}), ("ae30-10", {})]
)
def test_round_trip_is_exact(tmp_path: Path, network: str, settings: dict[str, Any], dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    module = build(network, classes=5, channels=2, size=12, **settings).to(dtype)
    path = tmp_path / "deep" / "net.safetensors"
    info = {"data": "digits", "epochs": 3, "accuracy": 0.97}
    save_model(
        path,
        module,
        network=network,
        settings=settings,
        mean=(0.1, 0.2),
        std=(0.3, 0.4),
        shape=(2, 12, 12),
        classes=5,
        info=info,
    )
    loaded = load_model(str(path))
    state = loaded.module.state_dict()
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    assert {p.dtype for p in loaded.module.parameters()} == {dtype}
    assert (loaded.mean, loaded.std, loaded.shape) == ((0.1, 0.2), (0.3, 0.4), (2, 12, 12))
    assert (loaded.classes, loaded.name, loaded.trained) == (5, "net", True)
    assert info.items() <= loaded.info.items()
    assert not loaded.module.training


def test_library_networks_too(tmp_path: Path) -> None:
    module = load_model("torchvision:squeezenet1_1", classes=3, size=64).module
    save(tmp_path / "s.safetensors", module, "torchvision:squeezenet1_1", shape=(3, 64, 64), classes=3)
    loaded = load_model(str(tmp_path / "s.safetensors"))
    assert torch.equal(loaded.module.classifier[1].weight, module.classifier[1].weight)  # type: ignore[index, union-attr]


def test_same_content_same_bytes(tmp_path: Path) -> None:
    module = build("small-cnn", classes=5, size=8)
    for name in "ab":
        save(tmp_path / f"{name}.safetensors", module, info={"z": 1, "a": 2})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_shared_and_strided_tensors(tmp_path: Path) -> None:
    module = build("fc10", classes=5, size=8)
    module.output.weight.data = module.output.weight.data.t().contiguous().t()  # type: ignore[union-attr, operator]
    save(tmp_path / "m.safetensors", module, "fc10")
    again = load_model(str(tmp_path / "m.safetensors")).module
    assert torch.equal(again.output.weight, module.output.weight)  # type: ignore[arg-type, union-attr]


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save(path, build("small-cnn", classes=5, size=8))
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save(path, build("small-cnn", classes=5, size=8))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_own_code_is_not_run_from_a_saved_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from blindspots.models import build\ndef f(classes): return build('fc10', classes=classes, size=8)\n"
    )
    spec = f"{tmp_path}/net.py:f"
    path = tmp_path / "m.safetensors"
    module = load_model(spec, classes=5).module
    save(path, module, spec, mean=(0.5,), std=(0.25,), info={"epochs": 2})
    with pytest.raises(BlindspotsError, match="which is code of yours: load the model"):
        load_model(str(path))
    loaded = load_model(spec, weights=str(path))
    assert torch.equal(loaded.module.output.weight, module.output.weight)  # type: ignore[arg-type, union-attr]
    assert (loaded.mean, loaded.std, loaded.shape, loaded.classes) == ((0.5,), (0.25,), (1, 8, 8), 5)
    assert loaded.info["epochs"] == 2


def test_a_saved_file_as_weights_brings_its_notes(tmp_path: Path) -> None:
    module = build("densenet22", classes=5, size=8, growth=4)
    save(tmp_path / "m.safetensors", module, "densenet22", settings={"growth": 4}, mean=(0.5,), std=(0.25,))
    loaded = load_model("densenet22", weights=str(tmp_path / "m.safetensors"))
    assert (loaded.mean, loaded.shape, loaded.classes, loaded.trained) == ((0.5,), (1, 8, 8), 5, True)


def test_refusals(tmp_path: Path) -> None:
    module = build("small-cnn", classes=5, size=8)
    path = tmp_path / "m.safetensors"
    with pytest.raises(BlindspotsError, match=r"saved as NAME.safetensors"):
        save(tmp_path / "m.pt", module)
    with pytest.raises(BlindspotsError, match="must be JSON values"):
        save(path, module, info={"x": torch.ones(1)})
    with pytest.raises(BlindspotsError, match="must be JSON values"):
        save(path, module, info={"accuracy": float("nan")})
    assert not path.exists()
    save(path, module)
    with pytest.raises(BlindspotsError, match="carries its own weights"):
        load_model(str(path), weights="w.pt")
    with pytest.raises(BlindspotsError, match="was made with classes=5, got classes=10"):
        load_model(str(path), classes=10)
    with pytest.raises(BlindspotsError, match="was made with size=8, got size=28"):
        load_model(str(path), size=28)
    with pytest.raises(BlindspotsError, match="does not exist"):
        load_model(str(tmp_path / "other.safetensors"))


def test_headers_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    good = {
        "format": 1,
        "network": "fc10",
        "settings": {},
        "mean": None,
        "std": None,
        "shape": [1, 8, 8],
        "classes": 5,
        "info": {},
    }
    state = build("fc10", classes=5, size=8).state_dict()
    for text, message in (
        ("{", "not a readable model file"),
        ("[]", "not a readable model file"),
        (json.dumps(good | {"shape": "wide"}), "not a readable model file"),
        (json.dumps(good | {"format": 2}), "model format 2, this version reads 1"),
        (json.dumps(good | {"network": "nothing"}), "unknown model 'nothing'"),
        (json.dumps(good | {"settings": {"evil": 1}}), "unknown setting"),
        (json.dumps(good | {"classes": 6}), "do not fit the network"),
    ):
        safetensors.torch.save_file(state, path, metadata={"blindspots": text})
        with pytest.raises(BlindspotsError, match=message):
            load_model(str(path))
