"""Style transfer as an attack: the image in the style of others, whatever that changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..attack import Attack
from ..errors import BlindspotsError
from ..lazy import torch
from ..objectives import Margin, Objective
from ..record import Knowledge
from ..settings import at_least, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..style import StyleTransfer


@dataclass(frozen=True)
class Style(Attack):
    """x' = T(x, s): the content of the image drawn in the style of another image s, by a trained transfer network T.

    Nothing holds x' near to x: the change is unrestricted, and the radius, 1 by default, is the whole range of a pixel.
    With a smaller one only those x' count that happen to lie within it. Styles are images of the bank that the network's
    file holds, drawn for each image anew and judged one after another; an image stops at the first that fools it. A
    model that this fools may be right to be fooled: look at the pictures.

    Cost: 1 + draws forwards at most, no backwards.
    Source: the transfer network of `blindspots style train`; unrestricted examples: Song et al. 2018, arXiv:1805.07894.
    Differs from the paper: style transfer in place of a conditional generator; no person has judged the images.
    """

    name: ClassVar[str] = "style"
    summary: ClassVar[str] = "the image in the style of another, by a trained network; not held to any size"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str = 1.0
    """Largest change of a value that counts; 1 is any."""
    path: str = ""
    """File of the style transfer (blindspots style train), NAME.safetensors."""
    draws: int = 4
    """Number of styles tried for each image."""
    digest: str = ""
    """What the file must hold: the start of its sha256, noted by itself."""

    def __post_init__(self) -> None:
        if not self.path:
            raise BlindspotsError("Style.path must name the file of a style transfer: give one that style train wrote")
        read_radius(self, "linf")
        at_least(self, draws=1)
        self._load()
        digest = "sha256:" + hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:16]
        if self.digest not in ("", digest):
            raise BlindspotsError(
                f"Style.digest is {self.digest}, but '{self.path}' holds {digest}: the file has changed since"
            )
        object.__setattr__(self, "digest", digest)

    def space(self, images: Tensor) -> Space:
        return Free(images, "linf", float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        transfer = self._load().to(oracle.images.device)
        for draw in range(self.draws):
            if oracle.compact() is not None and not len(oracle.rows):
                return
            oracle.step()
            which = noise.uniform(oracle.keys(draw=draw), (1,), torch.float64)[:, 0] * len(transfer.bank)
            oracle.query(oracle.space.project(transfer(oracle.images, transfer.bank[which.long()])), gradient=False)

    def _load(self) -> StyleTransfer:
        from ..style import StyleTransfer

        return StyleTransfer.load(self.path)
