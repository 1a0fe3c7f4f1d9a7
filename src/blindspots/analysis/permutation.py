"""Do two groups of numbers differ? By permutation: keyed, so that the same call always gives the same answer.

Source: Fisher, "The design of experiments", 1935, chapter 3; the add-one p value of Phipson and Smyth, "Permutation
p-values should never be zero", 2010, arXiv:1603.05766.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import noise
from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

LEVEL = 0.95
_CHUNK = 2**22  # random numbers held at a time


def compare(first: Tensor, second: Tensor, *, seed: int, purpose: str, draws: int = 2000) -> dict[str, Any]:
    """The difference of the means of two groups (n,) and (m,), as JSON values.

    Keys:
        difference: mean of the first less mean of the second.
        low, high: its 95 % interval: the difference less the quantiles of what random regrouping makes of the values,
            each group centred on its own mean (right where one group is the other moved).
        null_low, null_high: where 95 % of the differences lie after a random regrouping of the values themselves, that
            is, if there were no difference.
        p: share of regroupings, the given one among them, whose difference is as far from 0.
        of: sizes of both groups.

    >>> import torch
    >>> compare(torch.ones(20), torch.zeros(20), seed=0, purpose="doctest")["difference"]
    1.0
    """
    first, second = first.double(), second.double()
    difference = float(first.mean() - second.mean())
    pooled = torch.cat((first, second))
    centred = torch.cat((first - first.mean(), second - second.mean()))
    keys = noise.key(seed, torch.arange(draws), "permutation", purpose)
    parts = keys.tensor_split(-(-draws * len(pooled) // _CHUNK))
    found = torch.cat([_regrouped(torch.stack((pooled, centred)), len(first), part) for part in parts], 1)
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    null, moved = (torch.quantile(row, tails).tolist() for row in found)
    # Equal sums may differ in their last bit.
    slack = 1e-12 * float(pooled.abs().max())
    beyond = int((found[0].abs() >= abs(difference) - slack).sum())
    return {
        "difference": difference,
        "low": difference - moved[1],
        "high": difference - moved[0],
        "null_low": null[0],
        "null_high": null[1],
        "p": (1 + beyond) / (1 + draws),
        "of": [len(first), len(second)],
    }


def _regrouped(values: Tensor, size: int, keys: Tensor) -> Tensor:
    """Differences (V, R) of means after R random choices of `size` of the n values of each row (V, n)."""
    count = values.shape[1]
    order = noise.uniform(keys, (count,), torch.float64).argsort(dim=1, stable=True)
    chosen = torch.zeros_like(order, dtype=torch.float64).scatter_(1, order[:, :size], 1.0)
    inside = values @ chosen.T
    return inside / size - (values.sum(1, keepdim=True) - inside) / (count - size)
