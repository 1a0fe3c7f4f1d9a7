"""ONNX Slice as a module: onnx2torch's own indexes with a list, which torch warns about and will read otherwise."""

from __future__ import annotations

import torch
from torch import nn


class Slice(nn.Module):
    """`images[..., start:end:step, ...]` along `axes`, with the bounds as tensors, as ONNX has them."""

    def forward(
        self,
        x: torch.Tensor,
        starts: torch.Tensor,
        ends: torch.Tensor,
        axes: torch.Tensor | None = None,
        steps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tensor of any shape -> the part of it; negative steps run backwards, as in Python."""
        first = starts.tolist()
        along = range(len(first)) if axes is None else axes.tolist()
        strides = [1] * len(first) if steps is None else steps.tolist()
        for start, end, axis, step in zip(first, ends.tolist(), along, strides, strict=True):
            rows = range(x.shape[axis])[slice(start, None if end <= -(2**31) else end, step)]
            if step < 0:
                x = x.index_select(axis, torch.tensor(rows, dtype=torch.int64, device=x.device))
            else:
                x = x.narrow(axis, rows.start, len(rows)) if step == 1 else _stepped(x, axis, rows)
        return x


def replace_slices(module: nn.Module) -> None:
    """Put `Slice` in the place of every slice that onnx2torch made, in place."""
    for name, part in list(module.named_modules()):
        if type(part).__name__ == "OnnxSlice":
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, Slice())


def _stepped(x: torch.Tensor, axis: int, rows: range) -> torch.Tensor:
    index: list[slice] = [slice(None)] * x.ndim
    index[axis] = slice(rows.start, rows.stop, rows.step)
    return x[tuple(index)]
