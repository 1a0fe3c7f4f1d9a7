"""A module that counts the points asked of each image, up to the first that fools the network within the radius."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blindspots.geometry import NORMS

from .subjects import Subject

# Queries at which everybody stops; an image that has not fallen by then counts as falling never.
MOST = 6000


class Finished(Exception):  # noqa: N818 - no error: the count is complete
    """Nothing is left to be found out."""


class Counter(nn.Module):
    """Counts the points asked of each image up to the first one that fools the network within the radius.

    Args:
        subject: network, images and labels.
        norm, radius: the ball round each image.
        rows: whose the rows of a call are: `aligned` (row i is of image i), `nearest` (the image that is nearest in
            linf), or the number of the one image that is attacked.
        softmax: answer with probabilities, for attacks that want them.
    """

    def __init__(self, subject: Subject, norm: str, radius: float, rows: str | int, softmax: bool = False) -> None:
        super().__init__()
        self.subject, self.norm, self.radius, self.mode, self.softmax = subject, norm, radius, rows, softmax
        self.counts = torch.zeros(len(subject.images), dtype=torch.int64)
        self.first = torch.zeros_like(self.counts)
        self._before: Tensor | None = None
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        images = images.to(self.subject.images.dtype)
        logits = self.subject.module(images)
        self._count(images, logits.argmax(1))
        return logits.softmax(1) if self.softmax else logits

    def _count(self, images: Tensor, answer: Tensor) -> None:
        clean, labels = self.subject.images, self.subject.labels
        owner = self._owners(images)
        size = NORMS[self.norm].size(images.double() - clean[owner].double())
        hit = (answer != labels[owner]) & (size <= self.radius * (1 + 1e-6))
        new = torch.ones_like(hit)
        if self.mode == "aligned" and self._before is not None:
            new = (images != self._before).flatten(1).any(1)
        self._before = images.clone() if self.mode == "aligned" else None
        for row in range(len(images)):
            who = int(owner[row])
            if self.first[who]:
                continue
            self.counts[who] += int(new[row])
            if hit[row]:
                self.first[who] = self.counts[who]
        mine = slice(None) if isinstance(self.mode, str) else slice(self.mode, self.mode + 1)
        if bool(((self.first[mine] > 0) | (self.counts[mine] >= MOST)).all()):
            raise Finished

    def _owners(self, images: Tensor) -> Tensor:
        if isinstance(self.mode, int):
            return torch.full((len(images),), self.mode)
        if self.mode == "aligned" and len(images) == len(self.counts):
            return torch.arange(len(images))
        return torch.cdist(images.flatten(1), self.subject.images.flatten(1), p=float("inf")).argmin(1)
