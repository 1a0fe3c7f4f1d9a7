"""The inner attack of adversarial training: projected steepest ascent of a loss in a ball, and little else.

No parameter gradient is computed, nothing waits for the device, and nothing is judged: the last point is what is
trained on. So k steps cost k forwards and k backwards down to the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...geometry import BallName
from ...lazy import torch
from ...optimisers import Steepest
from ...spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ...optimisers import Optimiser
    from ..step import Step

# Share of the values that an l1 step moves at once, as in the attack `pgd`.
L1_SHARE = 0.05


def ball_ascent(
    step: Step,
    norm: BallName,
    radius: float,
    steps: int,
    size: float,
    start: Tensor | None = None,
    gain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Images (n, C, H, W) in the ball and the box: `steps` steepest steps of `size` up the gain, from `start`.

    The start is the images themselves, where none is given, or a uniform point of the ball for "random" starts, see
    `random_start`. The gain of logits (n, K) is a number (); by default the summed cross-entropy with the labels.
    """
    space = Additive(step.images, norm, radius)
    theta = space.zero() if start is None else space.project(start)
    return ascend(step, space, theta, Steepest(norm, size, L1_SHARE if norm == "l1" else 0.0), steps, gain)


def random_start(step: Step, norm: BallName, radius: float, *words: int | str) -> Tensor:
    """A uniform point of the ball and the box for each image, a function of image and epoch."""
    return Additive(step.images, norm, radius).start(step.keys("start", *words))


def ascend(
    step: Step,
    space: Space,
    theta: Tensor,
    optimiser: Optimiser,
    steps: int,
    gain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The images of theta after `steps` steps up the gain in a space; the optimiser descends its negative."""
    rise = gain or step.cross_entropy
    with step.frozen():
        state, everyone = optimiser.init(theta), slice(None)
        for _ in range(steps):
            theta = theta.detach().requires_grad_()
            loss = -rise(step.logits(space.apply(theta, everyone)))
            (gradient,) = torch.autograd.grad(loss, theta)
            theta = theta.detach()
            moved, state = optimiser.update(theta, loss.detach(), gradient, state)
            theta = space.project(moved)
        with torch.no_grad():
            return space.apply(theta, everyone).detach()
