"""Precision and processes of a run: what of Lightning Fabric a step needs, and nothing where it needs none of it.

One process in 32 bit does not import Fabric. The gradients of several processes are summed by one all-reduce a step
instead of the hooks of DistributedDataParallel: a step of adversarial training has many forwards and several backwards
of pieces of unequal size, of which only the sum is to be shared; attacks see the bare network under autocast.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Team:
    """The processes of a run, seen from one of them.

    Args:
        device: where this process computes.
        fabric: a launched Fabric, where there are several processes or 16 bit.
        rank, count: which process this is, of how many; process 0 tells and writes.
    """

    def __init__(self, device: torch.device, fabric: Fabric | None = None, rank: int = 0, count: int = 1) -> None:
        self.device, self.fabric, self.rank, self.count = device, fabric, rank, count

    def share(self, rows: Tensor) -> Tensor:
        """The part of the rows of a batch that this process works on."""
        return rows if self.count == 1 else rows.tensor_split(self.count)[self.rank]

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of forwards."""
        return nullcontext() if self.fabric is None else self.fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the weights."""
        if self.fabric is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self.fabric.backward(loss)

    def update(self, network: nn.Module, optimiser: torch.optim.Optimizer, clip: float | None) -> None:
        """Sum the gradients of all processes, clip their norm, and move the weights."""
        self.sum(*(weight.grad for weight in network.parameters() if weight.grad is not None))
        if self.fabric is None:
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimiser.step()
            return
        strategy = self.fabric.strategy
        if clip is not None:
            strategy.clip_gradients_norm(network, optimiser, max_norm=clip, error_if_nonfinite=False)
        strategy.optimizer_step(optimiser)

    def sum(self, *tensors: Tensor) -> None:
        """Replace tensors of one kind by their sums over all processes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over all processes, for buffers such as running means."""
        if self.count == 1:
            return
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        self.sum(*floating)
        for tensor in floating:
            tensor /= self.count

    def scaler(self) -> dict[str, Any]:
        """The state of the loss scaling of 16 bit; empty where there is none."""
        return {} if self.fabric is None else self.fabric.strategy.precision.state_dict()

    def restore_scaler(self, values: dict[str, Any]) -> None:
        if self.fabric is not None and values:
            self.fabric.strategy.precision.load_state_dict(values)
