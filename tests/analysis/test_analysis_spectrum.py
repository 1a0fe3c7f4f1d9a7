"""Operator norms against dense matrices, bounds that hold for pairs of inputs, certified radii, mistakes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from blindspots import BlindspotsError, Classifier, analysis
from blindspots.analysis.chains import walk
from blindspots.analysis.norms import fourier_norm, layer_bound, layer_power
from blindspots.data import dataset


def dense(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The norm of the layer's matrix, which is made column by column."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        matrix = (layer(units) - layer(torch.zeros(1, *shape, dtype=torch.float64))).flatten(1)
    return float(torch.linalg.matrix_norm(matrix, 2))


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_fourier_form_is_the_dense_norm_on_a_torus(stride: int, dilation: int) -> None:
    layer = nn.Conv2d(
        3, 5, 5, stride=stride, dilation=dilation, padding=2 * dilation, padding_mode="circular"
    ).double()  # fmt: skip
    shape = (3, 8, 8) if dilation == 1 else (3, 12, 12)
    bound = layer_bound(layer, shape)
    assert bound is not None
    assert bound.exact
    assert bound.value == pytest.approx(dense(layer, shape), rel=1e-9)
    # The print of the paper divides by the square of the stride, and is that many times too small.
    printed = fourier_norm(layer.weight / stride, shape[1:], (stride, stride), (dilation, dilation))
    assert printed == pytest.approx(bound.value / stride, rel=1e-9)


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "padded": (nn.Conv2d(3, 5, 5, padding=2), (3, 8, 8)),
    "strided groups": (nn.Conv2d(4, 8, 3, padding=1, stride=2, groups=2), (4, 9, 9)),
    "depthwise dilated": (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), (4, 8, 8)),
    "oblong": (nn.Conv2d(3, 4, (5, 3), stride=(2, 1)), (3, 9, 7)),
    "same": (nn.Conv2d(2, 3, 3, padding="same"), (2, 7, 7)),
    "reflect": (nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), (3, 6, 6)),
    "replicate": (nn.Conv2d(3, 5, 5, padding=2, padding_mode="replicate"), (3, 6, 6)),
    "wide circular": (nn.Conv2d(3, 5, 3, padding=2, padding_mode="circular"), (3, 6, 6)),
    "larger than the image": (nn.Conv2d(2, 3, 5, padding=2), (2, 3, 3)),
    "linear": (nn.Linear(20, 30), (20,)),
    "average": (nn.AvgPool2d(2), (2, 8, 8)),
    "average, overlapping": (nn.AvgPool2d(3, 2, 1), (2, 8, 8)),
    "average of what is there": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 8, 8)),
    "average, cut": (nn.AvgPool2d(3, 2, ceil_mode=True), (2, 8, 8)),
    "global average": (nn.AdaptiveAvgPool2d(1), (2, 5, 5)),
    "uneven average": (nn.AdaptiveAvgPool2d(3), (2, 8, 7)),
    "batch norm": (nn.BatchNorm2d(3), (3, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_bounds_hold_and_power_iteration_checks_them(name: str) -> None:
    layer, shape = LAYERS[name]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    layer = layer.double().eval()
    bound, true = layer_bound(layer, shape), dense(layer, shape)
    assert bound is not None
    assert bound.value >= true * (1 - 1e-9)
    if bound.exact:
        assert bound.value == pytest.approx(true, rel=1e-9)
    # From below, whatever the number of steps; and close after many.
    assert layer_power(layer, shape, iterations=3) <= true * (1 + 1e-9)
    assert layer_power(layer, shape, iterations=500) == pytest.approx(true, rel=1e-3)


class Chain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(1.5), nn.MaxPool2d(3, 2),
            nn.Flatten(), nn.Linear(36, 6), nn.Sigmoid(), nn.Linear(6, 3),
        )  # fmt: skip
        self[1].running_var.uniform_(0.5, 2.0)
        nn.init.normal_(self[1].weight)


def test_the_product_bounds_the_change_of_the_logits_of_any_pair() -> None:
    model = Classifier(Chain().double(), mean=[0.5], std=[0.25], batch=64)
    images = torch.rand(64, 1, 8, 8, dtype=torch.float64)
    done = analysis.Spectrum(images=64, slopes=16)(model, (images, torch.zeros(64, dtype=torch.int64)))
    found = done.values["bound"]
    near = (images + 0.01 * torch.randn_like(images)).clamp(0, 1)
    for others in (images.flip(0), near):
        grown = (model.logits(images) - model.logits(others)).norm(dim=1)
        assert bool((grown <= found * (images - others).flatten(1).norm(dim=1) * (1 + 1e-9)).all())
    assert done.values["slope"] <= found
    rows = {row["layer"]: row for row in done.values["layers"]}
    assert rows["1"]["way"] == "taken together with the layer before"
    assert found == pytest.approx(4 * math.prod(row["bound"] for row in rows.values()))
    assert rows["0"]["power"] <= rows["0"]["bound"] * (1 + 1e-9)


def test_certified_radii_of_a_linear_network_are_exact_for_opposite_classes() -> None:
    # Two classes with opposite weights of length |w|: sigma = sqrt(2) |w|, the distance m / (2 |w|) = m / (sqrt(2) L).
    weight = torch.randn(1, 16, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.cat((weight, -weight)))
    images = torch.rand(20, 1, 4, 4, dtype=torch.float64)
    model = Classifier(net, batch=20)
    logits = model.logits(images)
    labels = logits.argmax(1)
    values = analysis.Spectrum(images=20, slopes=0)(model, (images, labels)).values
    shown = dataset((images, labels)).batch(0, 20)[0].double()  # float32 pixels
    distance = (shown.flatten(1) @ weight.mT).abs().squeeze(1) / weight.norm()
    assert torch.allclose(torch.tensor(values["radius"], dtype=torch.float64), distance, rtol=1e-9)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.b(x + self.a(x))


def test_networks_that_are_no_chain_have_no_product(conv) -> None:
    images, labels = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    values = analysis.Spectrum(images=4)(Classifier(Residual(), batch=4), (images[..., :4, :4], labels)).values
    assert values["bound"] is None
    assert "before the layer 'b'" in values["missing"]
    assert walk(Classifier(conv(), batch=4), images).broken == "before the layer 'head'"  # a ReLU that is no layer
    norm = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Softmax(1))
    values = analysis.Spectrum(images=4)(Classifier(norm, batch=4), (images[..., :4, :4], labels)).values
    assert "no bound is known for 2" in values["missing"]


def test_mistakes_and_the_page(tmp_path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(BlindspotsError, match=r"Spectrum\.images asks for 9999 images"):
        analysis.Spectrum(images=9999)(net, "digits")
    with pytest.raises(BlindspotsError, match="must divide the size of the torus"):
        fourier_norm(torch.rand(1, 1, 3, 3), (7, 8), (2, 2))
    done = analysis.Spectrum(images=5)(Classifier(net, batch=8), dataset("digits", limit=5), out=tmp_path)
    assert done.page is not None
    text = done.page.read_text()
    assert "Operator norms" in text
    assert "certified" in text
