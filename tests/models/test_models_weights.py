"""Weights from files: every nesting and prefix that fits, and one sentence for everything that does not."""

from __future__ import annotations

import argparse
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from blindspots.errors import BlindspotsError
from blindspots.models import build, load_model


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return build("small-cnn", size=8).state_dict()


def equal(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    loaded = module.state_dict()
    return all(torch.equal(loaded[key], state[key]) for key in state)


def load(path: Path, **keywords: Any) -> Any:
    return load_model("small-cnn", weights=str(path), size=8, **keywords)


def test_safetensors(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    loaded = load(tmp_path / "w.safetensors")
    assert equal(loaded.module, state)
    assert loaded.trained is True
    assert loaded.classes == 10
    assert not loaded.module.training


@pytest.mark.parametrize("nest", [None, "state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_nests_and_prefixes(tmp_path: Path, state: dict[str, torch.Tensor], nest: str | None, prefix: str) -> None:
    named = {prefix + key: value for key, value in state.items()}
    torch.save({nest: named, "epoch": 3} if nest else named, tmp_path / "w.pth")
    assert equal(load(tmp_path / "w.pth").module, state)


def test_a_prefix_that_belongs_there_stays(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = torch.nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        "        return self.model(x.flatten(1))\n"
    )
    own = {"model.weight": torch.ones(3, 4), "model.bias": torch.zeros(3)}
    torch.save({"module." + key: value for key, value in own.items()}, tmp_path / "w.pt")
    loaded = load_model(f"{tmp_path}/net.py:Net", weights=str(tmp_path / "w.pt"))
    assert equal(loaded.module, own)


def test_classes_come_from_the_weights(tmp_path: Path) -> None:
    torch.save(build("small-cnn", classes=7, size=8).state_dict(), tmp_path / "w.pt")
    assert load(tmp_path / "w.pt").classes == 7


def test_counters_of_batch_norm_may_be_missing(tmp_path: Path) -> None:
    state = build("resnet20", size=8).state_dict()
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, tmp_path / "w.pt")
    assert load_model("resnet20", weights=str(tmp_path / "w.pt"), size=8).trained


def test_half_precision_weights_become_float32(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "w.pt")
    assert {p.dtype for p in load(tmp_path / "w.pt").module.parameters()} == {torch.float32}


class Attack:
    """Pickled, this would make a folder on loading."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (self.target,)


def test_pickles_never_run(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": state, "x": Attack(str(tmp_path / "ran"))}, tmp_path / "zip.pt")
    with open(tmp_path / "raw.pt", "wb") as file:
        pickle.dump(Attack(str(tmp_path / "ran")), file)
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(BlindspotsError) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def sentence(path: Path, message: str, **keywords: Any) -> None:
    with pytest.raises(BlindspotsError, match=message) as caught:
        load(path, **keywords)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_python_objects(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(build("small-cnn", size=8), tmp_path / "whole.pt")
    sentence(tmp_path / "whole.pt", r"save model.state_dict\(\) instead")
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, tmp_path / "args.pt")
    sentence(tmp_path / "args.pt", r"save model.state_dict\(\) instead")


def test_no_weights_inside(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "a.pt")
    sentence(tmp_path / "a.pt", "holds no state dict .keys epoch, loss.")
    torch.save([torch.ones(2)], tmp_path / "b.pt")
    sentence(tmp_path / "b.pt", "holds no state dict .list.")
    torch.save({}, tmp_path / "c.pt")
    sentence(tmp_path / "c.pt", "holds no state dict")
    safetensors.torch.save_file({}, tmp_path / "d.safetensors")
    sentence(tmp_path / "d.safetensors", "holds no tensors")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_damaged_files(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    sentence(path, "does not exist")
    path.mkdir()
    sentence(path, "is a folder")
    path.rmdir()
    path.touch()
    sentence(path, "is empty")
    path.write_bytes(b"these are not the weights you are looking for" * 9)
    sentence(path, "is not a readable")
    torch.save(state, path) if suffix != ".safetensors" else safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[:-5000])
    sentence(path, "is not a readable")


def test_other_suffix(tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"x")
    sentence(tmp_path / "w.npz", "has the suffix '.npz': allowed are .safetensors, .pt")


def test_torchscript(tmp_path: Path) -> None:
    script = tmp_path / "s.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated; the files stay around
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), script)
    sentence(script, "is a TorchScript program")


def test_values_that_are_not_finite(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["head.output.bias"][3] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    sentence(tmp_path / "w.pt", "not finite .NaN or infinite. in 'head.output.bias'")


def test_wrong_network(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "w.pt"
    torch.save(build("lenet").state_dict(), path)
    sentence(path, "do not fit the network 'small-cnn'")
    torch.save({key: value for key, value in state.items() if "conv1" not in key}, path)
    sentence(path, r"2 missing \(features.conv1.weight, features.conv1.bias\)")
    torch.save(state | {f"extra{n}": torch.ones(1) for n in range(5)}, path)
    sentence(path, r"5 unexpected \(extra0, extra1, extra2, ...\)")
    torch.save(state, path)
    sentence(path, r"'features.conv1.weight' is \(16, 1, 3, 3\) in the file and \(16, 3, 3, 3\)", channels=3)
    sentence(path, r"'head.output.weight' is \(10, 128\) in the file and \(4, 128\) in the network", classes=4)


def test_weights_as_model(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BlindspotsError, match="holds weights only, not the network"):
        load_model(str(tmp_path / "w.pt"))
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BlindspotsError, match="holds weights only, not the network"):
        load_model(str(tmp_path / "w.safetensors"))
