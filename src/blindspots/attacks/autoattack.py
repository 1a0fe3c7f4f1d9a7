"""AutoAttack: the published ensembles that robust accuracy is usually reported by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from ..errors import BlindspotsError
from ..geometry import BallName
from ..settings import at_least, one_of, read_radius
from ..several import Member, Several

Version = Literal["standard", "plus", "rand"]


@dataclass(frozen=True)
class AutoAttack(Several):
    """The three versions of AutoAttack, in their order and with their parameters:

        standard: apgd-ce, apgd-t, fab-t, square. One restart, 9 rivals, 5000 queries. In l1 apgd-ce has 5 restarts,
            apgd-t 5 rivals, and both begin in wider balls.
        plus: apgd-ce and apgd-dlr with 5 restarts, fab with 5, square, apgd-t, fab-t with 9 rivals.
        rand: apgd-ce and apgd-dlr on means of 20 gradients, for randomised models.

    An image leaves with its first success. Rule for few classes: of K classes min(9, K - 1) are rivals; the ratio of
    apgd-dlr needs three and that of apgd-t four, and with fewer its numerator, the difference of logits, stands alone.

    Cost, standard: 1 + 101 + 9 * 101 forwards for the two Auto-PGD, and those of fab-t and square.
    Source: Croce and Hein 2020, arXiv:2003.01690; l1: Croce and Hein 2021, arXiv:2103.01208; versions as in the
    authors' code.
    Differs from the paper: what its attacks say of themselves. Every image is attacked on its own, so no verdict
    depends on the company.
    """

    name: ClassVar[str] = "autoattack"
    summary: ClassVar[str] = "the published ensemble: Auto-PGD, targeted Auto-PGD, FAB, Square (Croce and Hein 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    version: Version = "standard"
    """standard, plus (more restarts, untargeted forms too) or rand (for randomised models)."""
    steps: int = 100
    """Steps of each run of apgd and fab."""
    queries: int = 5000
    """Queries of square."""
    eot: int = 20
    """rand only: gradients of which each step takes the mean."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        one_of(self, "version", get_args(Version))
        at_least(self, steps=1, queries=1, eot=1)
        self.members()

    def members(self) -> tuple[Member, ...]:
        from . import ATTACKS

        found = []
        for label, (name, settings) in self._plan().items():
            if name not in ATTACKS:
                raise BlindspotsError(
                    f"AutoAttack.version {self.version} needs the attack '{name}', which is not here: "
                    "choose another version, or make an ensemble of those that blindspots list attacks shows"
                )
            found.append(Member(label, ATTACKS[name](str(self.radius), norm=self.norm, **settings)))  # type: ignore[call-arg]
        return tuple(found)

    def _plan(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """What runs, by the name it has in the ensemble: the attack and its settings."""
        steps, l1 = {"steps": self.steps}, self.norm == "l1"
        # A run for each of at most nine classes.
        fab_t = ("fab", {**steps, "one_by_one": True, "restarts": 9, "keep": "first"})
        # The authors' squares shrink as if there were 10,000 queries.
        square = ("square", {"queries": self.queries, "schedule": 10_000})
        if self.version == "rand":
            mean = {**steps, "eot": self.eot, "narrowing": False}
            return {"apgd-ce": ("apgd", {**mean, "loss": "ce"}), "apgd-dlr": ("apgd", {**mean, "loss": "dlr"})}
        if self.version == "plus":
            many = {**steps, "restarts": 5}
            plain = {**many, "narrowing": False}
            return {
                "apgd-ce": ("apgd", {**plain, "loss": "ce"}),
                "apgd-dlr": ("apgd", {**plain, "loss": "dlr"}),
                "fab": ("fab", {**many, "rivals": 9, "keep": "first"}),
                "square": square,
                "apgd-t": ("apgd-t", {**steps, "rivals": 9, "restarts": 1, "narrowing": False}),
                "fab-t": fab_t,
            }
        return {
            "apgd-ce": ("apgd", {**steps, "loss": "ce", "restarts": 5 if l1 else 1}),
            "apgd-t": ("apgd-t", {**steps, "rivals": 5 if l1 else 9, "restarts": 1}),
            "fab-t": fab_t,
            "square": square,
        }
