"""JPEG compression: the codec step by step, as the reference implementation does it, or the codec of Pillow itself."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import at_least, one_of
from .defence import Defence, boxed, straight_through
from .low_pass import cosines

if TYPE_CHECKING:
    from torch import Tensor

Codec = Literal["dct", "pillow"]

# Annex K of the standard (ITU-T T.81, 1992): steps of the coefficients at quality 50, light and colour.
_LIGHT = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_COLOUR = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *(99,) * 32,
)  # fmt: skip
_TO_COLOUR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


@dataclass(frozen=True)
class JPEG(Defence):
    """The image is compressed as a JPEG file and decompressed, grey (one channel) or in colour (three, 4:2:0).

    `dct` computes what the reference codec computes, with tensors: colour space, halved colour planes, cosine
    transform of 8 x 8 blocks, rounding to the steps of the quality, and back; roundings and clamps pass the gradient
    straight through. It agrees with the files of Pillow but for single roundings. `pillow` writes and reads real
    files, image by image on the CPU, and takes its gradient from `dct`.

    Source: Das et al. 2017, arXiv:1705.02900; attacked through straight-through rounding by Shin and Song 2017,
    "JPEG-resistant adversarial images".
    Differs from Shin and Song: rounding passes its gradient straight through in place of a cubic approximation.
    """

    name: ClassVar[str] = "jpeg"
    summary: ClassVar[str] = "JPEG compression (Das et al. 2017)"

    quality: int = 75
    """Quality from 1 to 100, as image programs count."""
    codec: Codec = "dct"
    """dct: computed with tensors; pillow: real files, gradient of dct."""

    def __post_init__(self) -> None:
        at_least(self, quality=1)
        one_of(self, "codec", get_args(Codec))
        if self.quality > 100:
            raise BlindspotsError(f"JPEG.quality must be at most 100, got {self.quality}")

    def __call__(self, images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise BlindspotsError(
                f"JPEG takes grey images (1 channel) or colour images (3 channels), got {images.shape[1]} channels"
            )
        coded = self._coded(images)
        return coded if self.codec == "dct" else straight_through(self._files(images), coded)

    def _coded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        pixels = _rounded(images * 255)
        if images.shape[1] == 1:
            return boxed(self._plane(pixels, _LIGHT) / 255)
        planes = torch.einsum("ij,bjhw->bihw", pixels.new_tensor(_TO_COLOUR), pixels)
        light, colour = _rounded(planes[:, :1]), _rounded(planes[:, 1:] + 128)
        light = self._plane(light, _LIGHT)
        colour = _doubled(self._plane(_halved(colour), _COLOUR), height, width) - 128
        back = torch.einsum("ij,bjhw->bihw", pixels.new_tensor(_TO_RGB), torch.cat((light, colour), dim=1))
        return boxed(_rounded(back) / 255)

    def _plane(self, plane: Tensor, table: tuple[int, ...]) -> Tensor:
        """Planes (B, C, H, W) of values 0 to 255, after their way through the blocks."""
        count, channels, height, width = plane.shape
        padding = (0, -width % 8, 0, -height % 8)
        wide = torch.nn.functional.pad(plane, padding, mode="replicate") - 128
        blocks = wide.unfold(2, 8, 8).unfold(3, 8, 8)
        # The first wave is one everywhere and its weight exactly 1/8, so that means which lie half-way between two
        # steps are rounded as the reference codec rounds them.
        weight = torch.full((8,), 0.5, dtype=torch.float64)
        weight[0] = math.sqrt(0.125)
        scale = (weight.unsqueeze(1) * weight).to(plane.device, plane.dtype)
        scale[0, 0] = 0.125
        waves = cosines(8) * 2
        waves[0] = 1
        waves = waves.to(plane.device, plane.dtype)
        steps = self._steps(table).to(plane.device, plane.dtype)
        rounded = _rounded(waves @ blocks @ waves.T * scale / steps) * steps
        blocks = _rounded(waves.T @ (rounded * scale) @ waves + 128)
        whole = blocks.transpose(3, 4).reshape(count, channels, wide.shape[2], wide.shape[3])
        whole = whole[..., :height, :width]
        return straight_through(whole.detach().clamp(0, 255), whole)

    def _steps(self, table: tuple[int, ...]) -> Tensor:
        """The steps (8, 8) of the quality, by the rule of the reference codec."""
        percent = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((torch.tensor(table) * percent + 50) // 100).clamp(1, 255).view(8, 8)

    def _files(self, images: Tensor) -> Tensor:
        import numpy as np
        from PIL import Image

        values = (images.detach() * 255).round().to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy()
        read = []
        for value in values:
            file = io.BytesIO()
            Image.fromarray(value.squeeze(2) if value.shape[2] == 1 else value).save(file, "JPEG", quality=self.quality)
            read.append(np.asarray(Image.open(file), dtype=np.uint8).reshape(value.shape))
        stack = torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2)
        return stack.to(images.device, images.dtype) / 255


def _rounded(values: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero as the reference codec does it."""
    whole = values.detach()
    return straight_through(whole.sign() * (whole.abs() + 0.5).floor(), values)


def _halved(planes: Tensor) -> Tensor:
    """Half as many rows and columns: means of 2 x 2, rounded up and down in turn as the reference codec does it.

    Columns are repeated up to a whole block before, rows after.
    """
    height, width = planes.shape[-2:]
    wide = torch.nn.functional.pad(planes, (0, -width % 16, 0, height % 2), mode="replicate")
    mean = torch.nn.functional.avg_pool2d(wide, 2)
    bias = torch.tensor([0.25, 0.5], dtype=planes.dtype, device=planes.device).repeat(mean.shape[3] // 2)
    return straight_through((mean.detach() + bias).floor(), mean)


def _doubled(planes: Tensor, height: int, width: int) -> Tensor:
    """Twice as many rows and columns, each between its neighbours with weights 3/4 and 1/4."""
    own = planes[..., : (width + 1) // 2]
    double = torch.nn.functional.interpolate(own, scale_factor=2, mode="bilinear", align_corners=False)
    return _rounded(double[..., :height, :width])
