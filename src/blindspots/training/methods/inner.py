"""The inner attack of adversarial training: projected steepest ascent of a loss in a ball, and little else.

No parameter gradient is computed, nothing waits for the device, and nothing is judged: the last point is what is
trained on. So k steps cost k forwards and k backwards down to the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ... import noise
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
# Deviation of the noise from which TRADES and MART start, in their papers' code.
NEAR = 0.001


def ball_ascent(
    step: Step,
    norm: BallName,
    radius: float,
    steps: int,
    size: float,
    start: Tensor | None = None,
    gain: Callable[[Tensor], Tensor] | None = None,
    logits_of: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Images (n, C, H, W) in the ball and the box: `steps` steepest steps of `size` up the gain, from `start`.

    The start is the images themselves where none is given; see `random_start`. The gain of logits (n, K) is a number
    (), by default the summed cross-entropy with the labels. The logits are those of the network, or of another one.
    """
    space = Additive(step.images, norm, radius)
    theta = space.zero() if start is None else space.project(start)
    return ascend(
        step, space, theta, Steepest(norm, size, L1_SHARE if norm == "l1" else 0.0), steps, gain, logits_of=logits_of
    )


def random_start(step: Step, norm: BallName, radius: float, *words: int | str) -> Tensor:
    """A uniform point of the ball and the box for each image, a function of image and epoch."""
    return Additive(step.images, norm, radius).start(step.keys("start", *words))


def near(step: Step) -> Tensor:
    """The images with a little normal noise, where a divergence from their answers has a gradient."""
    return step.images + NEAR * noise.normal(step.keys("start"), tuple(step.images.shape[1:]), step.images.dtype)


def step_size(given: float | None, radius: float | str, steps: int) -> float:
    """The size of a step: as given, or 2.5 radius over the number of steps (Madry et al. 2018)."""
    return given if given is not None else 2.5 * float(radius) / steps


def away_from_prediction(logits: Tensor) -> Tensor:
    """The summed cross-entropy with the predicted classes: a gain in which no label takes part."""
    return torch.nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum")


def ascend(
    step: Step,
    space: Space,
    theta: Tensor,
    optimiser: Optimiser,
    steps: int,
    gain: Callable[[Tensor], Tensor] | None = None,
    *,
    penalty: Callable[[Tensor], Tensor] | None = None,
    logits_of: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The images of theta after `steps` steps up the gain in a space; the optimiser descends its negative.

    A penalty of theta, a number (), is taken off the gain.
    """
    rise, answer = gain or step.cross_entropy, logits_of or step.logits
    with step.frozen():
        state, everyone = optimiser.init(theta), slice(None)
        for _ in range(steps):
            theta = theta.detach().requires_grad_()
            loss = -rise(answer(space.apply(theta, everyone)))
            if penalty is not None:
                loss = loss + penalty(theta)
            (gradient,) = torch.autograd.grad(loss, theta)
            theta = theta.detach()
            moved, state = optimiser.update(theta, loss.detach(), gradient, state)
            theta = space.project(moved)
        with torch.no_grad():
            return space.apply(theta, everyone).detach()
