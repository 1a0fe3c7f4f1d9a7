"""Flow and ball together: what each part may do, and closed forms on linear victims."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blindspots import PGD, Classifier, FlowBall


def ramp(threshold: float) -> tuple[Classifier, torch.Tensor]:
    """A 2 x 2 image, 0 on the left and 0.8 on the right; z_0 - z_1 = right pixels - 2 * threshold."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
        net[1].bias.copy_(torch.tensor([-2 * threshold, 0.0]))
    image = torch.tensor([[0.0, 0.8], [0.0, 0.8]], dtype=torch.float64).view(1, 1, 2, 2)
    return Classifier(net, classes=2, batch=1), image


@pytest.mark.parametrize(("threshold", "falls"), [(0.672, True), (0.668, False)])
def test_both_parts_add_up(threshold: float, falls: bool) -> None:
    """A flow of 0.1 pixels takes a tenth off the right pixels, 0.8 -> 0.72, and the ball 0.05 more: 0.67."""
    model, image = ramp(threshold)
    attack = FlowBall("0.05", bend=2.0, tau=0.0, steps=20, random_start=False, keep="lowest")
    result = attack(model, image, torch.tensor([0]))
    assert result.success.tolist() == [falls]
    torch.testing.assert_close(result.margin, torch.tensor([2 * (0.67 - threshold)], dtype=torch.float64))
    torch.testing.assert_close(result.size["ball"], torch.tensor([0.05], dtype=torch.float64))
    torch.testing.assert_close(result.size["flow"], torch.tensor([0.1], dtype=torch.float64))
    torch.testing.assert_close(result.size["flow-linf"], torch.tensor([0.05], dtype=torch.float64))
    assert not PGD("0.05", random_start=False)(model, image, torch.tensor([0])).success.any(), "the ball alone fails"


def test_on_a_flat_image_only_the_ball_counts(linear) -> None:
    """A flow moves nothing there: success where radius * |w_0 - w_1|_1 exceeds the margin, as in closed form."""
    net = linear(2, 16)
    image = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    label = net(image).argmax(1)
    weight = net[1].weight.detach()
    reach = float((net(image)[0, label] - net(image)[0, 1 - label]).detach()) / float(
        (weight[0] - weight[1]).abs().sum()
    )
    for factor, falls in ((1.01, True), (0.99, False)):
        result = FlowBall(reach * factor, steps=10)(Classifier(net, classes=2, batch=1), image, label)
        assert result.success.tolist() == [falls]


def test_parts_keep_to_their_limits(victim) -> None:
    attack = FlowBall("0.03", bend=8.0, steps=12, keep="lowest")
    result = attack(victim.classifier(), victim.images, victim.labels, index=victim.index)
    assert (result.size["ball"] <= 0.03 * (1 + 1e-6)).all()
    assert (result.size["flow"] <= 0.24 * (1 + 1e-6)).all()
    assert result.flow.shape == (13, 2, 8, 8)
    torch.testing.assert_close(result.flow.norm(dim=1).amax((1, 2)), result.size["flow"])


def test_a_weight_on_the_flow_loss_smooths_the_flow(victim) -> None:
    rough, smooth = (
        FlowBall("0.03", tau=tau, steps=12, keep="lowest", random_start=False)(
            victim.classifier(), victim.images, victim.labels, index=victim.index
        )
        for tau in (0.0, 0.02)
    )
    right = ~victim.wrong
    assert (smooth.size["flow_loss"] <= rough.size["flow_loss"])[right].all()
    assert float(smooth.size["flow_loss"][right].mean()) < 0.8 * float(rough.size["flow_loss"][right].mean())
