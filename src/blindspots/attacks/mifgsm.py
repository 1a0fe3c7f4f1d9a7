"""MI-FGSM and its family: iterated steps along accumulated, normalised gradients, made to fool other models too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import noise
from ..attack import Attack
from ..descend import descend
from ..geometry import norm
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Momentum
from ..projection import box
from ..record import KEEPS, Answer, Keep
from ..settings import above, at_least, one_of, read_radius
from ..slopes import transformed
from ..spaces import Additive, Space
from ..transforms import parse_transforms

if TYPE_CHECKING:
    from torch import Tensor

    from ..optimisers import State
    from ..oracle import Oracle

MomentumKind = Literal["mi", "ni"]


@dataclass(frozen=True)
class MIFGSM(Attack):
    """Momentum iterative FGSM: m <- decay * m + g / ||g||_1, x <- project(x + step_size * steepest(m)).

    What makes its images fool other models composes freely: g may be taken where the momentum alone would lead
    (`momentum="ni"`), through input transformations (`transforms`, such as "si-ti-di"), and tuned by its variance round
    the point before (`variance` draws e, uniform within `reach` radii):

        g = grad(x_k) + v_k,    v_{k+1} = mean_e grad(x_k + e) - grad(x_k),    v_0 = 0.

    Success is judged on x itself. For images that go on to other models take keep="lowest": the first success on this
    one is the weakest.

    Cost: steps + 1 forwards and as many backwards as steps, fewer where an image is fooled earlier. With any of the
    options each step costs (1 + variance) * copies * eot forwards and backwards more, `copies` being those of "si".
    Source: Dong et al. 2018, arXiv:1710.06081; ni, si: Lin et al. 2020, arXiv:1908.06281; variance: Wang and He 2021,
    arXiv:2103.15571; ti: Dong et al. 2019, arXiv:1904.02884; di: Xie et al. 2019, arXiv:1803.06978.
    Differs from the papers: an image stops at its first success by default; "ni" looks ahead by decay * step_size times
    m over the mean of |m| of one gradient (l2: over its norm), as the authors' code, not by m itself, which is tiny.
    """

    name: ClassVar[str] = "mifgsm"
    summary: ClassVar[str] = "iterated steps along accumulated gradients (Dong et al. 2018), with NI, DI, TI, SI, VMI"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    steps: int = 10
    """Number of steps."""
    step_size: float | None = None
    """Size of a step in the norm; radius / steps by default."""
    decay: float = 1.0
    """How much of the accumulated direction is kept; 0 is the plain iterated method."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""
    momentum: MomentumKind = "mi"
    """Where the gradient is taken: mi, at the image, or ni (Nesterov), where the momentum leads."""
    transforms: str = ""
    """Input transformations, joined by hyphens: di (random size and place), ti (smoothed gradient), si (scales); with
    a setting as in di:0.7-ti:7-si:3."""
    variance: int = 0
    """Draws round the image that tune the gradient (VMI: 20); 0 for none."""
    reach: float = 1.5
    """How far these draws reach, in radii."""
    eot: int = 1
    """Gradients of which each is the mean, for randomised models."""
    keep: Keep = "first"
    """first: stop an image at its first success; lowest: run all steps and keep the lowest loss; smallest: run all
    steps and keep the success of smallest size."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, decay=0, variance=0, reach=0, eot=1)
        above(self, step_size=0)
        one_of(self, "loss", LOSSES)
        one_of(self, "momentum", get_args(MomentumKind))
        one_of(self, "keep", KEEPS)
        parse_transforms(self.transforms)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        step = self.step_size if self.step_size is not None else float(self.radius) / self.steps
        chain = parse_transforms(self.transforms)

        def ask(theta: Tensor, state: State, number: int) -> Answer:
            judged = oracle.query(theta, gradient=False)
            keys, point = oracle.keys(draw=number), theta
            if self.momentum == "ni":
                point = box(theta + self.decay * step * _ahead(state["direction"], self.norm))
            gradient = transformed(oracle, point, chain, self.eot, noise.key(0, keys, "point"))
            tuned = gradient
            if self.variance:
                tuned = gradient + state["variance"] if "variance" in state else gradient
                total = None
                for draw in range(self.variance):
                    mine = noise.key(0, keys, "neighbour", draw)
                    change = 2 * noise.uniform(mine, tuple(theta.shape[1:]), theta.dtype) - 1
                    near = box(point + self.reach * float(self.radius) * change)
                    slope = transformed(oracle, near, chain, self.eot, mine)
                    total = slope if total is None else total + slope
                assert total is not None
                state["variance"] = total / self.variance - gradient
            return Answer(judged.loss, tuned, judged.logits, judged.loss)

        plain = (self.momentum, chain, self.variance, self.eot) == ("mi", (), 0, 1)
        optimiser = Momentum(self.norm, step, self.decay)
        descend(oracle, oracle.space.zero(), optimiser, self.steps, ask=None if plain else ask)


def _ahead(direction: Tensor, name: str) -> Tensor:
    """Where the accumulated gradients lead: downhill, each of them of mean size 1 (l2: all of them of norm 1)."""
    return norm("l2").steepest(direction) if name == "l2" else -direction * direction[0].numel()
