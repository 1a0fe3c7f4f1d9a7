"""Flow fields: reading an image at moved points, how far a flow moves, and how rough it is (the flow loss).

A flow (B, 2, H, W) is backward and in pixels: output pixel (r, c) reads the image at (r + f[0], c + f[1]).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from .errors import BlindspotsError
from .lazy import torch
from .objectives import Objective, Point
from .settings import at_least, one_of

if TYPE_CHECKING:
    from torch import Tensor

FlowKind = Literal["sum", "mean", "global", "squared"]
FlowPadding = Literal["replicate", "zero"]
Neighbours = Literal["diagonal", "von_neumann"]


def read(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The images (B, C, H, W) read bilinearly at points (B, h, w), which are clamped to the image: (B, C, h, w).

    At whole-numbered points the pixels come out bit for bit, and nothing leaves the range of the four pixels round a
    point. There the gradient is that of one side: I(c + 1) - I(c), at the last column I(c) - I(c - 1).
    """
    batch, channels, height, width = images.shape
    rows, columns = held(rows, 0, height - 1), held(columns, 0, width - 1)
    with torch.no_grad():
        top, left = rows.floor().clamp_(max=height - 2), columns.floor().clamp_(max=width - 2)
        # The clamp keeps points that are NaN from reading outside the memory of the image.
        corner = (top * width + left).long().clamp_(0, (height - 1) * width - 2).view(batch, 1, -1)
        corner = corner.expand(-1, channels, -1)
    down, right = (rows - top).view(batch, 1, -1), (columns - left).view(batch, 1, -1)
    flat = images.reshape(batch, channels, -1)
    # lerp is exact at both ends and stays between them, which a (1 - w) + b w does not.
    above = torch.lerp(flat.gather(2, corner), flat.gather(2, corner + 1), right)
    below = torch.lerp(flat.gather(2, corner + width), flat.gather(2, corner + (width + 1)), right)
    return torch.lerp(above, below, down).view(batch, channels, *rows.shape[1:])


def held(values: Tensor, low: float, high: float) -> Tensor:
    """Values clamped, with their gradient where they are at a bound: some versions of torch.clamp have none there.

    An unchanged image has its outermost pixels, and all that are black or white, at a bound.
    """
    clamped = values.detach().clamp(low, high)
    return torch.where(values == clamped, values, clamped)


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """The images (B, C, H, W) bent by a flow (B, 2, H, W) in pixels, the same for all channels.

    x'(r, c) = x(r + f_0(r, c), c + f_1(r, c)), bilinear, with read points clamped to the image. Zero flow gives the
    image bit for bit; f = (0, 1) shifts it one pixel to the left and repeats the last column.
    Source: Xiao et al. 2018, "Spatially transformed adversarial examples", arXiv:1801.02612, equation 1.

    >>> import torch
    >>> warp(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([0.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 2, 2))
    tensor([[[[1.5000, 2.0000],
              [3.5000, 4.0000]]]])
    """
    check_size(images)
    rows = torch.arange(images.shape[2], dtype=flow.dtype, device=flow.device).unsqueeze(1)
    columns = torch.arange(images.shape[3], dtype=flow.dtype, device=flow.device)
    return read(images, rows + flow[:, 0], columns + flow[:, 1])


def displacement(flow: Tensor) -> Tensor:
    """How far every pixel (B, H, W) of a flow (B, 2, H, W) reads from its own place, in pixels."""
    length: Tensor = torch.linalg.vector_norm(flow, dim=1)
    return length


def check_size(images: Tensor) -> None:
    """Refuse images between whose pixels there is nothing to read."""
    height, width = images.shape[-2:]
    if height < 2 or width < 2:
        raise BlindspotsError(
            f"images of {height} x {width} pixels cannot be bent: bilinear reading needs at least 2 pixels in each "
            "direction"
        )


def flow_of(point: Point) -> Tensor:
    """The flow (B, 2, H, W) in the theta of a `Flow` space, or in the first part of a `Combined` one's."""
    theta, (count, channels, height, width) = point.theta, point.clean.shape
    if theta.shape == (count, 2, height, width):
        return theta
    if theta.shape == (count, (2 + channels) * height * width):
        return theta[:, : 2 * height * width].reshape(count, 2, height, width)
    raise BlindspotsError(
        f"the flow loss needs a flow (B, 2, {height}, {width}), got parameters of shape {tuple(theta.shape)}: use it "
        "with a Flow space, or a flow combined with a ball"
    )


@dataclass(frozen=True)
class FlowLoss(Objective):
    """How rough a flow f is: how much it differs from pixel to pixel.

    `sum`: sum_p sum_{q in N(p)} sqrt(|f_p - f_q|^2 + epsilon), every pair of neighbours counted from both sides.
    `mean`: the same over the number of pixels. `global`: for each of the four directions the root of the sum of
    |f_p - f_q|^2 + epsilon over all pixels, added up. `squared`: sum_p sum_q |f_p - f_q|^2, without a root.
    The epsilon makes the gradient at zero flow zero, where it has no limit; with epsilon = 0 it is set to zero there.
    In a `Combined` space the flow is taken as it stands in theta, over the space's unit.

    Source: Xiao et al. 2018, arXiv:1801.02612: `sum` is equation 4; the authors' first code had `global`.
    Differs from the paper: nothing for `sum`; what it leaves open (neighbours, border) are fields.
    """

    kind: FlowKind = "sum"
    """sum, mean, global or squared."""
    padding: FlowPadding = "replicate"
    """What lies beyond the border: replicate (the border's own flow, so that shifts are free) or zero."""
    neighbours: Neighbours = "diagonal"
    """The four neighbours: diagonal, or von_neumann (above, below, left, right)."""
    epsilon: float = 1e-8
    """Added to each squared length inside the root, in square pixels."""

    def __post_init__(self) -> None:
        one_of(self, "kind", get_args(FlowKind))
        one_of(self, "padding", get_args(FlowPadding))
        one_of(self, "neighbours", get_args(Neighbours))
        at_least(self, epsilon=0)

    def __call__(self, point: Point) -> Tensor:
        return self.of(flow_of(point))

    def of(self, flow: Tensor) -> Tensor:
        """The flow loss (B,) of flows (B, 2, H, W)."""
        mode = "replicate" if self.padding == "replicate" else "constant"
        padded = torch.nn.functional.pad(flow, (1, 1, 1, 1), mode=mode)
        height, width = flow.shape[-2:]
        inner, here, there = slice(1, -1), slice(1, None), slice(None, -1)
        if self.neighbours == "diagonal":
            ahead = (
                padded[..., here, here] - padded[..., there, there],
                padded[..., here, there] - padded[..., there, here],
            )
            views = (((here, here), (there, there)), ((here, there), (there, here)))
        else:
            ahead = (
                padded[..., here, inner] - padded[..., there, inner],
                padded[..., inner, here] - padded[..., inner, there],
            )
            every = slice(None)
            views = (((here, every), (there, every)), ((every, here), (every, there)))
        # A pair of neighbours is one difference, seen from its two pixels; a pair across the border is seen from one.
        total = flow.new_zeros(len(flow))
        for step, seen in zip(ahead, views, strict=True):
            square = step.square().sum(1)
            if self.kind in ("sum", "mean"):
                square = self._root(square)
            for rows, columns in seen:
                side = square[:, rows, columns].sum((1, 2))
                total = total + (self._root(side) if self.kind == "global" else side)
        return total / (height * width) if self.kind == "mean" else total

    def _root(self, square: Tensor) -> Tensor:
        if self.epsilon > 0:
            return torch.sqrt(square + self.epsilon)
        still = square == 0
        return torch.where(still, 0, torch.sqrt(torch.where(still, 1, square)))


def bend_measures(flow: Tensor) -> dict[str, Tensor]:
    """How far flows (B, 2, H, W) bend their images, (B,) each in float64.

    `flow` and `flow_mean`: the largest and the mean displacement in pixels; `flow_loss`: that of `FlowLoss()`.
    """
    measures: dict[str, list[Tensor]] = {"flow": [], "flow_mean": [], "flow_loss": []}
    # A few at a time: the flow loss holds several times its flows, and a population may have thousands.
    for part in torch.split(flow.detach(), 64):
        length = displacement(part.double())
        measures["flow"].append(length.amax((1, 2)))
        measures["flow_mean"].append(length.mean((1, 2)))
        measures["flow_loss"].append(FlowLoss().of(part.double()))
    return {name: torch.cat(values) for name, values in measures.items()}
