"""Networks from the user's own file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from blindspots.errors import BlindspotsError
from blindspots.models import load_model

CODE = """
import torch
from parts import head
class Net(torch.nn.Module):
    def __init__(self, num_classes=10, in_channels=1):
        super().__init__()
        self.in_channels = in_channels
        self.out = head(num_classes)
    def forward(self, x):
        return self.out(x.flatten(1))
def make(): return Net(3)
def fails(): raise KeyError("gone")
def wrong(): return 5
def needs(this): return Net()
ready = Net(4)
number = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "parts.py").write_text("import torch\ndef head(k): return torch.nn.Linear(16, k)\n")
    (tmp_path / "own.py").write_text(CODE)
    sys.modules.pop("parts", None)
    return str(tmp_path / "own.py")


def test_function_class_and_instance(file: str) -> None:
    path = list(sys.path)
    assert load_model(f"{file}:make").module.out.out_features == 3  # type: ignore[union-attr]
    assert load_model(f"{file}:ready").module.out.out_features == 4  # type: ignore[union-attr]
    loaded = load_model(f"{file}:Net", classes=6, channels=3, size=4)
    assert loaded.module.out.out_features == 6  # type: ignore[union-attr]
    assert loaded.module.in_channels == 3
    assert (loaded.classes, loaded.shape, loaded.trained) == (6, (3, 4, 4), None)
    assert sys.path == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":nothing", "unknown network in .* known: Net, fails, make, needs, ready, wrong"),
        (":fails", "failed with KeyError: 'gone'"),
        (":wrong", "returned a int: it must return a torch.nn.Module"),
        (":number", "is a int: name a function"),
        (":needs", "failed with TypeError: .*this"),
        ("", "names a file but no network in it"),
    ],
)
def test_refusals(file: str, name: str, message: str) -> None:
    with pytest.raises(BlindspotsError, match=message) as caught:
        load_model(file + name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["import nothing_of_this_name", "def broken(:", "1 / 0"])
def test_files_that_do_not_import(tmp_path: Path, code: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(BlindspotsError, match="failed on import with"):
        load_model(f"{tmp_path}/bad.py:f")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(BlindspotsError, match="does not exist"):
        load_model(f"{tmp_path}/absent.py:f")


def test_random_weights_are_the_same_every_time(file: str) -> None:
    first: Any = load_model(f"{file}:make").module
    second: Any = load_model(f"{file}:make").module
    assert first.out.weight.equal(second.out.weight)
