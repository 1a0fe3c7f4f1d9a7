"""Loss and accuracy of a network on images it does not learn from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .rows import Rows
from .team import Team

BATCH = 256


def measure(
    logits_of: Callable[[Tensor], Tensor], rows: Rows, device: torch.device, team: Team | None = None
) -> tuple[float, float]:
    """Mean cross-entropy and share of right answers. The network behind `logits_of` must be in eval mode."""
    team = team or Team(device)
    loss = torch.zeros((), device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    with torch.no_grad():
        for start in range(team.rank * BATCH, len(rows), team.count * BATCH):
            images, labels, _ = rows.batch(torch.arange(start, min(start + BATCH, len(rows))))
            logits, labels = logits_of(images.to(device)), labels.to(device)
            loss += F.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
    team.sum(loss)
    team.sum(correct)
    return loss.item() / len(rows), correct.item() / len(rows)
