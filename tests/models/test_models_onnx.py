"""ONNX files of both exporters of torch: exact, differentiable, any batch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blindspots.errors import BlindspotsError
from blindspots.models import build, load_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx2torch")


def export(path: Path, module: nn.Module, shape: tuple[int, ...], *, dynamo: bool, fixed: int | None = None) -> str:
    images = torch.rand(fixed or 3, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' notes on themselves
        logging.disable(logging.WARNING)
        try:
            if dynamo:
                pytest.importorskip("onnxscript")
                free = None if fixed else ({0: torch.export.Dim("batch")},)
                torch.onnx.export(module, (images,), path, dynamo=True, dynamic_shapes=free, verbose=False)
            else:
                axes = None if fixed else {"images": {0: "batch"}}
                torch.onnx.export(
                    module, (images,), path, dynamo=False, opset_version=17, input_names=["images"], dynamic_axes=axes
                )
        finally:
            logging.disable(logging.NOTSET)
    return str(path)


class Mixed(nn.Module):
    """What the two exporters write differently: GELU, layer norm, slices, a mean, a reshape, a split."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.conv(x)).permute(0, 2, 3, 1)
        x = self.norm(x).permute(0, 3, 1, 2)
        first, second = x[:, :, 1::2].chunk(2, dim=1)
        x = torch.cat([first.mean((2, 3)), (first * second).amax((2, 3)), second.flatten(2).mean(2)], dim=1)
        return self.out(x)


NETWORKS = {
    "small-cnn": (lambda: build("small-cnn", classes=5, size=8), (1, 8, 8)),
    "resnet": (lambda: build("resnet20", classes=5, channels=3, size=16, depth=8), (3, 16, 16)),
    "mixed": (Mixed, (3, 16, 16)),
}


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [("small-cnn", False), ("resnet", False), ("resnet", True), ("mixed", False), ("mixed", True)],
)
def test_same_logits_and_gradients(tmp_path: Path, name: str, dynamo: bool) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    module = make().eval()  # type: ignore[operator]
    loaded = load_model(export(tmp_path / "net.onnx", module, shape, dynamo=dynamo))
    assert (loaded.shape, loaded.classes, loaded.name, loaded.trained) == (shape, 5, "net", None)
    for count in (1, 4):
        images = torch.rand(count, *shape).requires_grad_()
        got, wanted = loaded.module(images), module(images)
        assert torch.allclose(got, wanted, atol=1e-5)
        (one,) = torch.autograd.grad(got.square().sum(), images)
        (two,) = torch.autograd.grad(wanted.square().sum(), images)
        assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_fixed_batch_is_freed_where_that_changes_nothing(tmp_path: Path, dynamo: bool) -> None:
    module = build("resnet20", classes=5, size=8, depth=8).eval()
    loaded = load_model(export(tmp_path / "net.onnx", module, (1, 8, 8), dynamo=dynamo, fixed=1))
    images = torch.rand(5, 1, 8, 8)
    assert loaded.info["batch"] is None
    assert torch.allclose(loaded.module(images), module(images), atol=1e-5)


def test_a_fixed_batch_that_stays(tmp_path: Path) -> None:
    class Coupled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(4, 32).reshape(2, 64)  # the 4 fits two images only

    path = export(tmp_path / "net.onnx", Coupled(), (1, 8, 8), dynamo=False, fixed=2)
    loaded = load_model(path)
    images = torch.rand(2, 1, 8, 8)
    assert loaded.info["batch"] == 2
    assert torch.allclose(loaded.module(images), Coupled()(images))


def graph(*nodes: Any, elem: int = 1, dims: tuple[Any, ...] = ("b", 1, 8, 8), opset: int = 17) -> Any:
    images = onnx.helper.make_tensor_value_info("x", elem, dims)
    logits = onnx.helper.make_tensor_value_info("y", elem, ("b", "k"))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(list(nodes), "g", [images], [logits]),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    model.ir_version = 8
    return model


def test_refusals(tmp_path: Path) -> None:
    flat = onnx.helper.make_node("Flatten", ["x"], ["y"])
    for number, (model, message) in enumerate(
        (
            (graph(onnx.helper.make_node("Det", ["x"], ["y"])), r"cannot be turned into a network .*\(Det\)"),
            (graph(flat, elem=11), "not float32"),
            (graph(flat, dims=("b", 64)), "2 dimensions"),
            (graph(onnx.helper.make_node("Relu", ["x"], ["y"])), "returns logits alone"),
            (
                graph(onnx.helper.make_node("Shape", ["x"], ["s"]), onnx.helper.make_node("Cast", ["s"], ["y"], to=1)),
                "3 images",
            ),
        )
    ):
        path = tmp_path / f"{number}.onnx"
        onnx.save(model, path)
        with pytest.raises(BlindspotsError, match=message) as caught:
            load_model(str(path))
        assert "\n" not in str(caught.value)
    onnx.save(graph(flat), tmp_path / "good.onnx")
    assert load_model(str(tmp_path / "good.onnx")).classes == 64
    with pytest.raises(BlindspotsError, match="was made with classes=64, got classes=10"):
        load_model(str(tmp_path / "good.onnx"), classes=10)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(BlindspotsError, match="does not exist"):
        load_model(str(path))
    path.write_bytes(b"\xff not protobuf" * 20)
    with pytest.raises(BlindspotsError, match="not a readable ONNX file"):
        load_model(str(path))


def test_missing_external_weights(tmp_path: Path) -> None:
    module = build("small-cnn", size=8).eval()
    path = export(tmp_path / "net.onnx", module, (1, 8, 8), dynamo=False)
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    assert load_model(path).classes == 10
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(BlindspotsError, match="weights in a second file"):
        load_model(path)
