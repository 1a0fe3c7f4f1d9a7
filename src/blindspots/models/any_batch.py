"""Exported networks: try them once, and let those made for one batch size take any."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import BlindspotsError


class FixedBatch(nn.Module):
    """Runs a module that takes exactly `batch` images on any number of them: in groups, the last one filled up."""

    def __init__(self, module: nn.Module, batch: int) -> None:
        super().__init__()
        self.module = module
        self.batch = batch

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, K), any B of at least 1."""
        filling = -len(images) % self.batch
        full = torch.cat([images, images[:1].expand(filling, -1, -1, -1)]) if filling else images
        return torch.cat([self.module(group) for group in torch.split(full, self.batch)])[: len(images)]


def any_batch(module: nn.Module, batch: int | None, shape: tuple[int, int, int], spec: str) -> tuple[nn.Module, int]:
    """A module for any batch size, and its number of classes.

    `batch` is the size the export was made for, None where it is free. A module that takes other sizes all the same,
    and answers alike, is left as it is.
    Raises `BlindspotsError` where the module fails, gives no logits (B, K), or no gradient.
    """
    whole = module if batch is None else FixedBatch(module, batch)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        logits = whole(images)
    except Exception as error:  # the code of an export can fail in any way
        raise BlindspotsError(f"'{spec}' fails on images of shape {shape}: {_first_line(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 3 or not logits.is_floating_point():
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise BlindspotsError(f"'{spec}' gives {got} for 3 images: export a network that returns logits alone, (B, K)")
    try:
        (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    except (RuntimeError, NotImplementedError) as error:
        raise BlindspotsError(
            f"'{spec}' gives no gradient with respect to its images ({_first_line(error)}): export it without "
            "decompositions, quantisation and no_grad"
        ) from error
    del gradient
    if batch is not None and _alike(module, images.detach(), logits.detach()):
        whole = module
    return whole, logits.shape[1]


def freed(fixed: FixedBatch, candidate: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """`candidate`, meant to be the same network for any batch size, where it proves to be; else `fixed`."""
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = fixed(images)
    return candidate if _alike(candidate, images, logits) else fixed


def _alike(module: nn.Module, images: torch.Tensor, logits: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            for count in (1, 2, 3):
                if not torch.allclose(module(images[:count]), logits[:count], rtol=1e-4, atol=1e-5):
                    return False
    except Exception:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
