"""A fitted perturbation, or a network that makes them, as an attack: one forward for each image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..errors import BlindspotsError
from ..objectives import Margin, Objective
from ..record import Knowledge
from ..settings import one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..universal import Perturbation


@dataclass(frozen=True)
class Universal(Attack):
    """A perturbation that was fitted before: one change v for every image, x' = clamp(x + v, 0, 1), or a network that
    makes x' of each x.

    It is read from a file that `blindspots fit` or `Perturbation.save` wrote. Its norm and radius are those of the
    attack unless others are given: then v, or each x', is the point nearest to it in that ball. x' is rounded inwards
    where it would leave the ball by rounding.

    Cost: 2 forwards, no backwards; one pass of a fitted network.
    Source: Moosavi-Dezfooli et al. 2017, "Universal adversarial perturbations", arXiv:1610.08401; Poursaeed et al.
    2018, "Generative adversarial perturbations", arXiv:1712.02328.
    Differs from the paper: nothing.
    """

    name: ClassVar[str] = "perturbation"
    summary: ClassVar[str] = (
        "a fitted perturbation, or network that makes them (Moosavi-Dezfooli et al. 2017, Poursaeed et al. 2018)"
    )
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str | None = None
    """Radius in the norm, in pixel units of [0, 1]; that of the file by default."""
    norm: str = ""
    """Norm of the ball: linf or l2; that of the file by default."""
    path: str = ""
    """File of the perturbation, NAME.safetensors."""
    digest: str = ""
    """What the file must hold: the start of its sha256, noted by itself."""

    def __post_init__(self) -> None:
        if not self.path:
            raise BlindspotsError("Universal.path must name the file of a perturbation: give one that fit has written")
        loaded, digest = self._load(), self._hash()
        if self.digest not in ("", digest):
            raise BlindspotsError(
                f"Universal.digest is {self.digest}, but '{self.path}' holds {digest}: the file has changed since"
            )
        if self.radius is None and self.norm not in ("", loaded.norm):
            raise BlindspotsError(
                f"Universal.norm is {self.norm}, but '{self.path}' holds a perturbation of {loaded.norm}: give a "
                f"radius in {self.norm} too, or leave the norm out"
            )
        object.__setattr__(self, "norm", self.norm or loaded.norm)
        object.__setattr__(self, "radius", loaded.radius if self.radius is None else self.radius)
        object.__setattr__(self, "digest", digest)
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)

    def space(self, images: Tensor) -> Space:
        self._load().check(tuple(images.shape[1:]))
        return Additive(images, self.norm, self._radius)

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        if oracle.compact() is not None and not len(oracle.rows):
            return
        oracle.step()
        oracle.query(oracle.space.project(self._load().moved(oracle.images, self.norm, self._radius)), gradient=False)

    @property
    def _radius(self) -> float:
        assert self.radius is not None
        return float(self.radius)

    def _load(self) -> Perturbation:
        from ..universal import Perturbation

        return Perturbation.load(self.path)

    def _hash(self) -> str:
        return "sha256:" + hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:16]
