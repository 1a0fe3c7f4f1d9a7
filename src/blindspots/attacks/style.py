"""Style transfer as an attack: the image in the style of others, whatever that changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..errors import BlindspotsError
from ..lazy import torch
from ..objectives import Margin, Objective
from ..record import Knowledge
from ..settings import at_least, read_radius
from ..spaces import Space, Styled

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..style import StyleTransfer


@dataclass(frozen=True)
class Style(Attack):
    """Let the image go over to itself in the style of others:

        x' = x + a (T(x, s_k) - x),        0 <= a <= radius,

    with T a trained style transfer network and s_1 ... s_draws the first style images that its file holds. The shares
    a = radius / levels, 2 radius / levels ... radius are tried in turn, at each every style; an image stops at the
    first that fools it. Nothing holds x' near to x: at the radius 1, the default, the change is unrestricted. A model
    that this fools may be right to be fooled: look at the pictures.

    Cost: 1 + draws * levels forwards at most, no backwards; the transfer network is not counted.
    Source: the transfer network of `blindspots style train`; unrestricted examples: Song et al. 2018, arXiv:1805.07894.
    Differs from the paper: style transfer in place of a conditional generator; no person has judged the images.
    """

    name: ClassVar[str] = "style"
    summary: ClassVar[str] = "the image in the style of others, by a trained network; not held to any size"
    norms: ClassVar[tuple[str, ...]] = ("style",)
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str = 1.0
    """Largest share of the drawn image, at most 1."""
    path: str = ""
    """File of the style transfer (blindspots style train), NAME.safetensors."""
    draws: int = 4
    """Number of styles tried."""
    levels: int = 4
    """Number of shares tried, the smallest first."""
    digest: str = ""
    """What the file must hold: the start of its sha256, noted by itself."""

    def __post_init__(self) -> None:
        if not self.path:
            raise BlindspotsError("Style.path must name the file of a style transfer: give one that style train wrote")
        read_radius(self, "style")
        at_least(self, draws=1, levels=1)
        if float(self.radius) > 1:
            raise BlindspotsError(f"Style.radius is a share and must be at most 1, got {self.radius}")
        there = len(self._load().bank)
        if self.draws > there:
            raise BlindspotsError(f"Style.draws is {self.draws}, and '{self.path}' holds {there} styles: ask for fewer")
        digest = "sha256:" + hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:16]
        if self.digest not in ("", digest):
            raise BlindspotsError(
                f"Style.digest is {self.digest}, but '{self.path}' holds {digest}: the file has changed since"
            )
        object.__setattr__(self, "digest", digest)

    @property
    def width(self) -> int:
        """Every drawn version of an image is held while it is attacked."""
        return self.draws

    def space(self, images: Tensor) -> Space:
        transfer = self._load().to(images.device)
        drawn = [transfer(images, style.expand(len(images), -1, -1, -1)) for style in transfer.bank[: self.draws]]
        return Styled(images, torch.stack(drawn, dim=1), float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        for level in range(1, self.levels + 1):
            for style in range(self.draws):
                if oracle.compact() is not None and not len(oracle.rows):
                    return
                oracle.step()
                theta = oracle.space.zero()
                theta[:, style] = float(self.radius) * level / self.levels
                oracle.query(theta, gradient=False)

    def _load(self) -> StyleTransfer:
        from ..style import StyleTransfer

        return StyleTransfer.load(self.path)
