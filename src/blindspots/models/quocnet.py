"""A small relative of the network that learned without labels: local filters, l2 pooling, local contrast normalisation.

Source: Le et al. 2012, "Building high-level features using large scale unsupervised learning", arXiv:1112.6209; called
QuocNet in Szegedy et al. 2014, arXiv:1312.6199. Differs from the paper: two stages, not three; sizes for small images.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BlindspotsError

KERNELS, MAPS, POOLS = (9, 5), (8, 16), ((5, 2), (2, 1))  # of each stage; pools as (size, stride)
_EPSILON = 1e-8  # under the root of the pool, which has no gradient at 0


class LocallyConnected(nn.Module):
    """A linear layer of patches, as a convolution, but with weights of its own (maps, channels * k * k) at every place.

    Args:
        channels, size: of the images (B, channels, size, size).
        maps: filters at each place; the answer is (B, maps, size - k + 1, size - k + 1).
        kernel: k.
    """

    def __init__(self, channels: int, size: int, maps: int, kernel: int) -> None:
        super().__init__()
        self.kernel, self.side, self.size = kernel, size - kernel + 1, size
        # A value lies in kernel^2 patches: with this spread the mean of W^T W x is x, away from the border.
        spread = (maps * kernel**2) ** -0.5
        self.weight = nn.Parameter(spread * torch.randn(self.side**2, maps, channels * kernel**2))

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.kernel)
        answers = torch.einsum("bip,pmi->bmp", patches, self.weight)
        return answers.view(*answers.shape[:2], self.side, self.side)

    def transposed(self, answers: Tensor, weight: Tensor) -> Tensor:
        """Images from answers (B, maps, side, side) by the transposed layer with these weights; overlaps add up."""
        patches = torch.einsum("bmp,pmi->bip", answers.flatten(2), weight)
        return F.fold(patches, self.size, self.kernel)


class L2Pool(nn.Module):
    """sqrt(epsilon + sum of squares) over windows of each map, without weights."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, maps: Tensor) -> Tensor:
        return (F.avg_pool2d(maps.square(), self.size, self.stride) * self.size**2 + _EPSILON).sqrt()


class ContrastNorm(nn.Module):
    """g = h - mean(h), y = g / max(c, sqrt(mean(g^2))), means being over all maps and a Gaussian window at each place.

    The weights of a window add up to 1, at the border over what there is of it, so that a constant gives 0.
    """

    window: Tensor

    def __init__(self, size: int = 5, least: float = 0.01) -> None:
        super().__init__()
        self.least = least
        away = torch.arange(size) - (size - 1) / 2
        line = torch.exp(-(away**2) / (2 * (size / 4) ** 2))
        self.register_buffer("window", (line[:, None] * line[None, :])[None, None], persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        centred = maps - self._mean(maps)
        deviation = self._mean(centred.square()).clamp(min=self.least**2).sqrt()
        return centred / deviation

    def _mean(self, maps: Tensor) -> Tensor:
        over = maps.mean(1, keepdim=True)
        window, margin = self.window.to(maps.dtype), self.window.shape[-1] // 2
        return F.conv2d(over, window, padding=margin) / F.conv2d(torch.ones_like(over), window, padding=margin)


def quocnet(classes: int, channels: int, size: int) -> nn.Sequential:
    """Two stages of local filters, l2 pooling and contrast normalisation, and a linear detector on top."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    side, inputs = size, channels
    for number, (kernel, maps, (pool, stride)) in enumerate(zip(KERNELS, MAPS, POOLS, strict=True), 1):
        if side < kernel + pool - 1:
            raise BlindspotsError(
                f"'quocnet' needs images of at least 23x23 pixels, got {size}x{size}: use larger images, or another "
                "network (small-cnn takes 8x8)"
            )
        parts = OrderedDict(
            local=LocallyConnected(inputs, side, maps, kernel), pool=L2Pool(pool, stride), norm=ContrastNorm()
        )
        stages[f"stage{number}"] = nn.Sequential(parts)
        side, inputs = (side - kernel + 1 - pool) // stride + 1, maps
    return nn.Sequential(OrderedDict(**stages, flatten=nn.Flatten(), output=nn.Linear(inputs * side * side, classes)))
