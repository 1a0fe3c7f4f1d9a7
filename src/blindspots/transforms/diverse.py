"""DI: diverse inputs, the image shrunk and put at a random place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..errors import BlindspotsError
from ..flows import read
from ..lazy import torch
from .transform import Transform

if TYPE_CHECKING:
    from torch import Tensor

# The smallest side of a shrunken image, as a share of the whole.
SMALLEST = 0.9


@dataclass(frozen=True)
class Diverse(Transform):
    """With this probability the image is resized to a random side, from 0.9 of its own up, and put at a random place on
    black; bilinear.

    Source: Xie et al. 2019, "Improving transferability of adversarial examples with input diversity", arXiv:1803.06978.
    Differs from the paper: the image shrinks instead of growing (299 to 330 there), since most models take one size
    only; each image has its own draw.
    """

    name: ClassVar[str] = "di"
    summary: ClassVar[str] = "diverse inputs: shrunk and put at a random place (Xie et al. 2019)"

    probability: float = 0.5
    """How often an image is changed."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise BlindspotsError(f"Diverse.probability must be from 0 to 1, got {self.probability}")

    @property
    def copies(self) -> int:
        return 1

    def change(self, images: Tensor, keys: Tensor, copy: int) -> Tensor:
        height, width = images.shape[2:]
        draw = noise.uniform(noise.key(0, keys, self.name), (5,), torch.float64)
        lines, inside = [], []
        for axis, side in enumerate((height, width)):
            least = min(side, max(2, int(SMALLEST * side)))
            # One draw for both sides keeps the shape of the image.
            size = least + (draw[:, 0] * (side - least + 1)).floor()
            offset = (draw[:, 1 + axis] * (side - size + 1)).floor()
            place = torch.arange(side, dtype=torch.float64, device=images.device) - offset.unsqueeze(1)  # (R, side)
            lines.append((place + 0.5) * (side / size).unsqueeze(1) - 0.5)
            inside.append((place >= 0) & (place < size.unsqueeze(1)))
        rows, columns = (line.to(images.dtype) for line in lines)
        shape = (len(images), height, width)
        small = read(images, rows.unsqueeze(2).expand(shape), columns.unsqueeze(1).expand(shape))
        small = small * (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)
        return torch.where((draw[:, 3] < self.probability).view(-1, 1, 1, 1), small, images)

    def smooth(self, gradient: Tensor) -> Tensor:
        return gradient
