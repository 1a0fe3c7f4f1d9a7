"""The transfer network: codes of style and content to an image, by convolutions and residual blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import BlindspotsError


class StyleNetwork(nn.Module):
    """Gram planes (B, S, n, n) and a content code (B, C, n, n) to images (B, channels, n, n) in [0, 1].

    The input is the style code, every Gram plane `copies` times, and the content code, one behind the other:
    S * copies + C planes (with four layers, 32 copies and VGG16's relu3_3: 128 + 256 = 384). Convolution 9 x 9 to
    `width` channels, two of stride 2 to twice and four times as many, `blocks` residual blocks, two of nearest
    enlargement and convolution 3 x 3, convolution 9 x 9 to the image, a sigmoid; instance normalisation and ReLU
    between. Since copies of a plane are equal, only the sum of their weights acts, and that is what is computed:
    the first convolution has S * copies + C planes of weights and reads S + C.

    Both codes are divided by a scale, which training sets to their root mean square (`measure`).

    Source: the sizes of the codes are those of a project report that left "a deconvolution network" open; this one
    follows Johnson et al. 2016, arXiv:1603.08155.
    Differs from the report: what it leaves open; the scales.
    """

    style_scale: Tensor
    content_scale: Tensor

    def __init__(self, planes: int, copies: int, content: int, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.planes, self.copies, self.content, self.channels = planes, copies, content, channels
        self.width, self.blocks = width, blocks
        self.first = nn.Conv2d(planes * copies + content, width, 9)
        self.opening = nn.Sequential(_after(width), _halved(width, 2 * width), _halved(2 * width, 4 * width))
        self.middle = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.closing = nn.Sequential(_doubled(4 * width, 2 * width), _doubled(2 * width, width))
        self.last = nn.Conv2d(width, channels, 9, padding=4, padding_mode="reflect")
        self.register_buffer("style_scale", torch.ones(planes))
        self.register_buffer("content_scale", torch.ones(()))

    def forward(self, grams: Tensor, content: Tensor) -> Tensor:
        size = check_size(tuple(content.shape[-2:]))
        if grams.shape[1:] != (self.planes, size, size) or content.shape[1] != self.content:
            raise BlindspotsError(
                f"the network takes {self.planes} Gram planes and {self.content} planes of content of one size, got "
                f"{tuple(grams.shape[1:])} and {tuple(content.shape[1:])}"
            )
        both = torch.cat((grams / self.style_scale.view(1, -1, 1, 1), content / self.content_scale), dim=1)
        padded = nn.functional.pad(both, (4, 4, 4, 4), mode="reflect")
        hidden = nn.functional.conv2d(padded, self.summed(), self.first.bias)
        out: Tensor = self.last(self.closing(self.middle(self.opening(hidden)))).sigmoid()
        return out

    def summed(self) -> Tensor:
        """The weights (width, S + C, 9, 9) that act on single Gram planes: those of equal copies, added up."""
        style, content = self.first.weight.tensor_split((self.planes * self.copies,), dim=1)
        return torch.cat((style.reshape(self.width, self.planes, self.copies, 9, 9).sum(2), content), dim=1)

    @torch.no_grad()
    def measure(self, grams: Tensor, content: Tensor) -> None:
        """Set the scales to the root mean square of these codes, plane by plane of the style."""
        self.style_scale.copy_(grams.square().mean((0, 2, 3)).sqrt().clamp(min=1e-12))
        self.content_scale.copy_(content.square().mean().sqrt().clamp(min=1e-12))

    def about(self) -> dict[str, int]:
        """The arguments it was made with."""
        names = ("planes", "copies", "content", "channels", "width", "blocks")
        return {name: int(getattr(self, name)) for name in names}


class Residual(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels), _after(channels), _conv(channels, channels), _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def check_size(size: tuple[int, ...]) -> int:
    """The side of square images whose size the network can halve twice and enlarge again; others are refused."""
    if size[0] != size[1] or size[0] % 4 or size[0] < 8:
        raise BlindspotsError(
            f"the style network takes square images whose side is a multiple of 4 and at least 8, got "
            f"{size[0]} x {size[1]}: resize them (--size)"
        )
    return size[0]


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, padding_mode="reflect")


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _after(channels: int) -> nn.Sequential:
    return nn.Sequential(_norm(channels), nn.ReLU())


def _halved(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_conv(before, after, 2), _after(after))


def _doubled(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), _conv(before, after), _after(after))
