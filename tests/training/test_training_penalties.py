"""The methods spectral and expected: their losses are what they say, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blindspots import BlindspotsError, noise
from blindspots.analysis.norms import layer_power
from blindspots.training.methods import make_method
from blindspots.training.step import Step


def step_of(module: nn.Module, **more: Any) -> Step:
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    return Step(module, module, images, torch.arange(6) % 4, torch.arange(6) * 7, **more)


def loss_of(method: Any, step: Step) -> Tensor:
    (part,) = method.parts(step, method.craft(step))
    return part.loss


def test_the_spectral_penalty_is_the_sum_of_norms_with_their_gradient() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).double()
    state: dict[str, Tensor] = {}
    method = make_method("spectral", {"beta": 0.5, "iterations": 300})
    loss = loss_of(method, step_of(net, state=state))
    norms = [
        layer_power(net[0], (1, 8, 8), iterations=2000),
        float(torch.linalg.matrix_norm(net[3].weight.detach(), 2)),
    ]
    plain = loss_of(make_method("plain", {}), step_of(net))
    assert float((loss - plain).detach()) == pytest.approx(0.5 * sum(norms), rel=1e-6)
    (slope,) = torch.autograd.grad(loss - plain, net[3].weight)
    u, _, v = torch.linalg.svd(net[3].weight.detach())
    assert torch.allclose(slope, 0.5 * torch.outer(u[:, 0], v[0]), atol=1e-4)
    # From step to step the vectors live on: one iteration from there is as good.
    again = loss_of(make_method("spectral", {"beta": 0.5}), step_of(net, state=state))
    assert float(again.detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
    assert sorted(state) == ["vector.0", "vector.3"]


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_expected_answer_is_that_of_the_formula(slope: float) -> None:
    middle = nn.LeakyReLU(slope) if slope else nn.ReLU()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), middle, nn.Linear(9, 4)).double()
    step = step_of(net, seed=5, epoch=2)
    loss = loss_of(make_method("expected", {"sigma": 0.4, "weight": 2.0, "pairs": 3}), step)
    drawn = [noise.normal(step.keys("expected", p), (1, 8, 8), torch.float64).flatten(1) for p in range(3)]
    s = torch.stack([(0.4 * n @ net[1].weight.mT).square() for n in drawn]).mean(0).sqrt()
    m = net[1](step.images.flatten(1))
    normal = torch.distributions.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    e = m * normal.cdf(m / s) + s * normal.log_prob(m / s).exp()
    expected = net[3](slope * m + (1 - slope) * e)
    byhand = F.cross_entropy(net(step.images), step.labels) + 2 * F.cross_entropy(expected, step.labels)
    assert float(loss.detach()) == pytest.approx(float(byhand.detach()), rel=1e-9)
    ours, theirs = (torch.autograd.grad(one, list(net.parameters())) for one in (loss, byhand))
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(ours, theirs, strict=True))


def test_networks_that_they_cannot_train_are_refused() -> None:
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Sigmoid(), nn.Linear(9, 4))
    with pytest.raises(BlindspotsError, match="needs a network with a ReLU-like layer"):
        make_method("expected", {}).check(smooth, (1, 8, 8), 4)
    relu = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(64, 4))
    with pytest.raises(BlindspotsError, match="unknown ReLU-like layer '7': known: 1"):
        make_method("expected", {"layer": "7"}).check(relu, (1, 8, 8), 4)
    with pytest.raises(BlindspotsError, match="dense layers or convolutions"):
        make_method("spectral", {}).check(nn.Sequential(nn.Flatten(), nn.ReLU()), (1, 2, 2), 4)
    twice = nn.ReLU()
    again = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), twice, nn.Linear(4, 4), twice).double()
    with pytest.raises(BlindspotsError, match="must run once"):
        loss_of(make_method("expected", {}), step_of(again))
