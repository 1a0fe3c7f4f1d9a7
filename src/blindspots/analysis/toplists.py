"""The images with the highest scores, for many columns of scores at once, while the scores stream by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TopList:
    """The best of all images seen so far, best first.

    Attributes:
        scores: (k, J), of column j; k grows up to the length asked for.
        rows: (k, J), which image of the data each belongs to.
        ties: (k, J), a number of each image that decides between equal scores, the smaller first. Without it dead units
            would all choose the first images of the data, which often are of one class.
        least: (J,), the lowest score of all images, for telling columns that answer all alike.
    """

    scores: Tensor
    rows: Tensor
    ties: Tensor
    least: Tensor

    @property
    def constant(self) -> Tensor:
        """Columns (J,), bool, whose score is the same for all images."""
        return self.scores[0] == self.least


def extended(best: TopList | None, scores: Tensor, rows: Tensor, ties: Tensor, length: int) -> TopList:
    """The list with more images: scores (B, J), their rows (B,) and ties (B,). In any order, the end is the same."""
    wide = scores.shape[1]
    rows, ties = (values.unsqueeze(1).expand(-1, wide) for values in (rows, ties))
    least = scores.amin(0)
    if best is not None:
        scores, rows, ties = (torch.cat(pair) for pair in ((best.scores, scores), (best.rows, rows), (best.ties, ties)))
        least = torch.minimum(best.least, least)
    by_tie = ties.argsort(0)
    by_score = scores.gather(0, by_tie).argsort(dim=0, descending=True, stable=True)[:length]
    order = by_tie.gather(0, by_score)
    return TopList(scores.gather(0, order), rows.gather(0, order), ties.gather(0, order), least)
