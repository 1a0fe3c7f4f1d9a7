"""`.pt2` files of torch.export: exact, differentiable, any batch, and never a program."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blindspots.errors import BlindspotsError
from blindspots.models import build, load_model
from blindspots.models.any_batch import FixedBatch


def export(path: Path, module: nn.Module, *, batch: int | None, shape: tuple[int, ...] = (1, 8, 8), **kind: Any) -> str:
    images = torch.rand(batch or 3, *shape, **kind)
    sizes = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module, (images,), dynamic_shapes=sizes), path)
    return str(path)


class Views(nn.Module):
    """A network with the example's batch size baked in."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.reshape(2, 64))


def same(loaded: Any, module: nn.Module, count: int) -> None:
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    got, wanted = loaded.module(images), module(images)
    assert torch.allclose(got, wanted, atol=1e-6)
    (one,) = torch.autograd.grad(got.square().sum(), images)
    (two,) = torch.autograd.grad(wanted.square().sum(), images)
    assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_any_batch(tmp_path: Path, batch: int | None) -> None:
    module = build("resnet20", classes=5, size=8, depth=8).eval()
    loaded = load_model(export(tmp_path / "net.pt2", module, batch=batch), classes=5, channels=1, size=8)
    assert (loaded.shape, loaded.classes, loaded.name, loaded.trained) == ((1, 8, 8), 5, "net", None)
    assert loaded.info["batch"] is None, "nothing in this network insists on the example's batch"
    for count in (1, 3, 7):
        same(loaded, module, count)
    loaded.module.train()
    loaded.module.eval()
    assert not any(part.training for part in loaded.module.modules())


def test_a_batch_that_is_baked_in(tmp_path: Path) -> None:
    loaded = load_model(export(tmp_path / "net.pt2", Views().eval(), batch=2))
    assert isinstance(loaded.module, FixedBatch)
    assert loaded.info["batch"] == 2
    images = torch.rand(5, 1, 8, 8)
    alone = torch.cat([loaded.module(image[None]) for image in images])
    assert torch.equal(loaded.module(images), alone)


def test_training_mode_is_refused(tmp_path: Path) -> None:
    path = export(tmp_path / "net.pt2", build("stadv-a", size=9), batch=None, shape=(1, 9, 9))
    with pytest.raises(BlindspotsError, match=r"training mode .*dropout.*: call model.eval\(\)"):
        load_model(path)


class Two(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flatten(1), x


class Deaf(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).round().detach()


def test_refusals(tmp_path: Path) -> None:
    path = export(tmp_path / "net.pt2", build("small-cnn", classes=5, size=8).eval(), batch=None)
    for keywords, message in (
        ({"classes": 6}, "was made with classes=5, got classes=6"),
        ({"channels": 3}, "was made with channels=1, got channels=3"),
        ({"size": 28}, "was made with size=8, got size=28"),
        ({"weights": "w.pt"}, "carries its own weights"),
    ):
        with pytest.raises(BlindspotsError, match=message):
            load_model(path, **keywords)  # type: ignore[arg-type]
    for number, (module, message, kind) in enumerate(
        (
            (Two(), "export a network that returns logits alone", {}),
            (Deaf(), "gives no gradient", {}),
            (build("fc10", size=8).double(), "export it for float32 images", {"dtype": torch.float64}),
        )
    ):
        other = export(tmp_path / f"{number}.pt2", module.eval(), batch=None, **kind)  # type: ignore[arg-type]
        with pytest.raises(BlindspotsError, match=message):
            load_model(other)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with pytest.raises(BlindspotsError, match="does not exist"):
        load_model(str(path))
    path.write_bytes(b"no archive" * 50)
    with pytest.raises(BlindspotsError, match=r"not a readable torch.export file"):
        load_model(str(path))
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(BlindspotsError, match=r"not a readable torch.export file"):
        load_model(str(path))


def change(path: str, part: str, old: str, new: str) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            if part in name:
                assert old.encode() in content
                content = content.replace(old.encode(), new.encode())
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("models/model.json", "torch.ops.aten.linear.default", "torch.os.system", "the operation 'torch.os.system'"),
        ("models/model.json", "Symbol('s", "exec('s", "the size expression"),
        ("weights_config", '"use_pickle": false', '"use_pickle": true', "a pickled object"),
        ("weights_config", '"weight_0"', '"custom_obj_0"', "a pickled object"),
    ],
)
def test_programs_in_the_archive_are_refused(tmp_path: Path, part: str, old: str, new: str, message: str) -> None:
    path = export(tmp_path / "net.pt2", build("fc10", size=8).eval(), batch=None)
    change(path, part, old, new)
    with pytest.raises(BlindspotsError, match=f"holds {message}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_archives_are_what_the_scan_expects(tmp_path: Path) -> None:
    path = export(tmp_path / "net.pt2", build("fc10", size=8).eval(), batch=None)
    with zipfile.ZipFile(path) as archive:
        (model,) = [name for name in archive.namelist() if "/models/" in name]
        assert "graph_module" in json.loads(archive.read(model))
