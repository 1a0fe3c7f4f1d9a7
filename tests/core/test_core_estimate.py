"""Estimated gradients: right where they can be known, each image on its own, exact in what they cost."""

from __future__ import annotations

import pytest
import torch
from test_core_oracle import oracle

from blindspots import NES, SPSA, Classifier, Goal, noise
from blindspots.estimate import estimated
from blindspots.noise import key
from blindspots.objectives import Margin
from blindspots.oracle import Oracle
from blindspots.spaces import Additive


def test_orthogonal_draws_give_the_gradient_of_a_linear_model() -> None:
    """g = mean of n u u^T grad over an orthogonal basis of n draws of length sqrt(n): the gradient itself."""
    o = oracle(2, "lowest")
    o.judge_clean()
    draws = (torch.eye(3, dtype=torch.float64) * 3**0.5).view(1, 3, 3, 1, 1).expand(2, -1, -1, -1, -1)
    theta = o.space.zero()
    theta[1, 0] = 0.7
    loss, gradient = estimated(o, theta, draws, 0.01)
    assert loss.tolist() == pytest.approx([0.4, 0.2])
    expected = torch.tensor([[1.0, -1.0, 0.0]] * 2, dtype=torch.float64)
    torch.testing.assert_close(gradient.flatten(1), expected, rtol=0, atol=1e-4)
    assert o.record.forwards.tolist() == [8, 8]
    assert not o.record.backwards.any()


@pytest.mark.parametrize("count", [1, 32])
def test_an_estimate_does_not_depend_on_the_company(linear, count: int) -> None:
    """Trap 6: estimated from a loss summed over the batch, the cosine to the true gradient falls with its size."""
    net = linear(pixels=16)
    images = torch.rand(count, 1, 4, 4, dtype=torch.float64) * 0.5 + 0.25
    goal = Goal(net(images).argmax(1))
    o = Oracle(
        Classifier(net, classes=3, batch=8),
        images,
        goal,
        Additive(images, "linf", 0.1),
        Margin(),
        key(0, torch.arange(count)),
        keep="lowest",
        knowledge="scores",
    )
    o.judge_clean()
    draws = noise.normal(o.keys(), (200, 1, 4, 4), images.dtype)
    _, gradient = estimated(o, images, draws, 1e-4)
    leaf = images.clone().requires_grad_()
    (true,) = torch.autograd.grad(goal.margin(net(leaf)).sum(), leaf)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(1), true.flatten(1))
    assert float(cosine.min()) > 0.9


@pytest.mark.parametrize("make", [NES, SPSA])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_falls_at_about_its_distance(linear, make, norm: str) -> None:
    """With a radius of 1.3 times the exact distance the estimates must lead there; at 0.9 times nothing can."""
    net = linear(classes=2, pixels=16)
    slope = (net[1].weight[0] - net[1].weight[1]).detach()
    images = torch.full((4, 1, 4, 4), 0.5, dtype=torch.float64)
    with torch.no_grad():
        net[1].bias.copy_(torch.tensor([0.1, -0.1]) - net[1].weight @ images[0].flatten())
    distance = 0.2 / float(slope.abs().sum() if norm == "linf" else slope.norm())
    model, labels = Classifier(net, classes=2, batch=8), torch.zeros(4, dtype=torch.int64)
    settings = {"norm": norm, "queries": 1200, **({"rate": distance / 5} if make is SPSA else {})}
    found = make(1.3 * distance, **settings)(model, images, labels)
    assert found.success.all()
    assert (found.size[norm] <= 1.3 * distance * (1 + 1e-6)).all()
    assert not make(0.9 * distance, **{**settings, "queries": 300})(model, images, labels).success.any()
    assert not found.backwards.any()


@pytest.mark.parametrize("queries", [3, 50, 51, 52, 103, 110])
def test_queries_are_a_hard_limit(victim, queries: int) -> None:
    result = NES(0.01, queries=queries)(victim.classifier(), victim.images, victim.labels, index=victim.index)
    assert (result.forwards <= queries).all()
    stand = ~result.success
    assert (result.forwards[stand] == queries - 1).all(), "all but the verification, which failures do not need"
