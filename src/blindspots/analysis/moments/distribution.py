"""Noise with a purpose: its mean and deviation at each pixel, chosen so that the expected answer changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import BlindspotsError
from ...goal import Goal
from ...lazy import torch
from ...settings import above, at_least, read_radius

if TYPE_CHECKING:
    from torch import Tensor

    from ...classifiers import Classifier
    from ...studies.page import Block
    from ..page import Analysed
    from .split import Split
    from .two_stage import Front

UNMET = 1e9  # added to what is left of a margin, so that any noise that has the margin asked for comes first


@dataclass(frozen=True)
class NoiseStatistics:
    """Mean and standard deviation (B, C, H, W) of the noise for each image, and the expected logits (B, K) under it.

    Where one noise serves all images, all rows are the same.
    """

    mean: Tensor
    sigma: Tensor
    expected: Tensor


@dataclass(frozen=True)
class Distributional:
    """Noise statistics (mu, sigma) that change the answer expected under the noise N(mu, diag(sigma^2)).

    minimise  max(0, margin of E g(x + n) + kappa) + lambda_mean |mu|_2^2 + lambda_sigma |sigma|_2^2
              + smooth TV(mu)        subject to  |mu| + 2 sigma <= radius at every pixel,

    where the margin is E g_y - max_{j != y} E g_j (targeted: max_{j != t} E g_j - E g_t), and E g is the analytic mean
    of the network linearised before and after one ReLU-like layer, again every few steps. By Adam and projection, from
    mu = 0; kept is the cheapest step with the margin asked for, and where there is none that of smallest margin. Then
    the true network is asked about draws of the noise, and of its control: the same with random signs of mu.

    Source: Bibi, Alfadly, Ghanem 2018, section on attacks, as recalled: its constants are not recovered, those here are
    fields; `sparse` and `smooth` as in its extension of 2020. Differs from the paper: sigma is a variable itself, kept
    in the set by Euclidean projection.
    """

    name: ClassVar[str] = "distributional"
    title: ClassVar[str] = "Noise that changes the expected answer"

    images: int = 20
    """Number of images, the first that the network gets right."""
    draws: int = 2000
    """Draws of the noise for each image, to verify it."""

    radius: float | str = "0.3"
    """Bound of |mu| + 2 sigma at every pixel, in units of [0, 1]."""
    kappa: float = 0.1
    """Margin by which the expected answer is to be wrong."""
    lambda_mean: float = 0.01
    """Weight of the squared size of the mean."""
    lambda_sigma: float = 0.01
    """Weight of the squared size of the deviation."""
    sparse: float = 0.0
    """How far each step pulls every pixel of the mean to zero (L1), as a share of the step size: few pixels."""
    smooth: float = 0.0
    """Weight of the total variation of the mean: neighbours alike."""
    start: float = 0.5
    """Deviation at the start, as a share of the largest that fits, radius / 2."""
    shared: bool = False
    """One noise for all images, rather than one for each."""
    layer: str | None = None
    """ReLU-like layer at which the network is cut. Default: the one in the middle."""
    steps: int = 60
    """Steps of Adam."""
    learning_rate: float = 0.02
    """Its step size, in units of [0, 1]."""
    relinearise: int = 10
    """Steps after which the network is linearised again, at the images with the mean added."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        above(self, radius=0, learning_rate=0)
        at_least(self, kappa=0, lambda_mean=0, lambda_sigma=0, sparse=0, smooth=0, start=0, steps=1, relinearise=1)
        at_least(self, images=1, draws=2)
        if self.start > 1:
            raise BlindspotsError(f"Distributional.start must lie in [0, 1], got {self.start}")

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path | None = None) -> Analysed:
        """Search untargeted noise, verify it by sampling, and write the page.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them.
            seed: of the draws and the signs of the control.
            out: folder to write page and JSON into.

        Raises:
            BlindspotsError: fewer images than asked for; no such layer; no ReLU-like layer.
        """
        from ..page import analysed
        from ..subjects import right_ones, subjects

        wrapped, images = subjects(model, data)
        victims = right_ones(wrapped, images, self.images, "Distributional.images")
        found = self.search(wrapped, victims.images, victims.labels)
        values = {
            "expected": int((found.expected.argmax(1).cpu() != victims.labels).sum()),
            "of": len(victims),
            "l2": found.mean.flatten(1).norm(dim=1).tolist(),
            "deviation": found.sigma.flatten(1).mean(1).tolist(),
            "pixels": (found.mean.flatten(1).abs() > 0.01).sum(1).tolist(),
            "ways": self._verified(wrapped, victims, found, seed),
        }
        blocks = self._blocks(victims.images, found, values)
        return analysed(self.name, self.title, blocks, values, models=(wrapped,), data=images, seed=seed, out=out)

    def _verified(
        self, model: Classifier, victims: Any, found: NoiseStatistics, seed: int
    ) -> dict[str, dict[str, Any]]:
        """Of each image, for noise, control and noise clamped: share of draws fooled, and the answer of the mean."""
        from ... import noise
        from .noise import Noise
        from .sampling import sample

        signs = noise.uniform(noise.key(seed, victims.index, "signs"), tuple(victims.images.shape[1:]), torch.float32)
        control = found.mean * (signs.to(found.mean) - 0.5).sign()
        ways = {"noise": (found.mean, False), "clamped to [0, 1]": (found.mean, True), "random signs": (control, False)}
        told: dict[str, dict[str, Any]] = {}
        for name, (mean, clamp) in ways.items():
            wrong, changed = [], 0
            for row, label in enumerate(victims.labels.tolist()):
                statistics = Noise.of(mean[row], found.sigma[row], mean[row])
                drawn = sample(
                    model, victims.images[row : row + 1], statistics, self.draws,
                    index=victims.index[row : row + 1], seed=seed, clamp=clamp,
                )  # fmt: skip
                wrong.append(1 - int(drawn.counts[0, label]) / self.draws)
                changed += int(drawn.mean[0].argmax()) != label
            told[name] = {"fooled": wrong, "changed": changed}
        return told

    def _blocks(self, images: Tensor, found: NoiseStatistics, values: dict[str, Any]) -> list[Block]:
        from statistics import fmean

        from ...evaluation.intervals import mean
        from ...report.words import spread
        from ...studies.page import Paragraph, Picture, Table, Title
        from ...studies.pictures import grid
        from ...studies.study import rate

        of = values["of"]
        rows = [("expected answer wrong, analytic", rate(values["expected"], of), "–")]
        for name, way in values["ways"].items():
            rows.append((f"{name}: sampled", rate(way["changed"], of), spread(mean(way["fooled"]))))
        shown: dict[tuple[int, int], Tensor] = {}
        bound = float(self.radius)
        for row in range(min(of, 6)):
            image, shift, deviation = (t[row].cpu() for t in (images, found.mean, found.sigma))
            shown |= {
                (row, 0): image,
                (row, 1): (0.5 + shift / (2 * bound)).clamp(0, 1),
                (row, 2): (2 * deviation / bound).clamp(0, 1),
                (row, 3): (image + shift).clamp(0, 1),
            }
        kind = "one noise for all images" if self.shared else "a noise for each image"
        return [
            Title("Noise statistics"),
            Paragraph(
                f"{kind[0].upper()}{kind[1:]}, with |mean| + 2 deviations at most {self.radius} at every pixel. Means "
                f"have an l2 size of {fmean(values['l2']):.3g} and {fmean(values['pixels']):.0f} pixels beyond 0.01, "
                f"deviations are {fmean(values['deviation']):.3g}, on average. The answer is that of the greatest mean "
                f"logit, once from the formulas and then from {self.draws} draws an image through the network itself; "
                "the share of draws is averaged over the images, with Student's 95 % interval. Random signs keep the "
                "size of the mean at every pixel and nothing else of it."
            ),
            Table("Answers under the noise", ("what", "mean answer wrong", "draws wrong"), rows),
            Picture(
                "noise.png",
                grid(shown, [str(n) for n in range(min(of, 6))], ["image", "mean", "deviation", "image + mean"], set()),
                "Grey is a mean of 0, and white a mean or deviation as large as it may be",
            ),
        ]

    def search(
        self, model: Classifier, images: Tensor, labels: Tensor, *, targets: Tensor | None = None
    ) -> NoiseStatistics:
        """Search for images (B, C, H, W) with labels (B,), untargeted or towards targets (B,).

        Raises:
            BlindspotsError: no such layer, no ReLU-like layer.
        """
        from .split import find_split
        from .two_stage import front, portions

        images = model.accept(images)
        split = find_split(model, images, self.layer)
        goal = Goal(labels.to(images.device), None if targets is None else targets.to(images.device))
        mean = images.new_zeros(1 if self.shared else len(images), *images.shape[1:])
        sigma = torch.full_like(mean, self.start * float(self.radius) / 2)
        moments = [torch.zeros_like(mean) for _ in range(4)]
        best: Tensor | None = None
        kept = (mean, sigma)
        expect: Callable[[Tensor, Tensor], Tensor] | None = None
        with model.session():
            for step in range(self.steps + 1):
                if expect is None or step % self.relinearise == 0:
                    moved = images + mean
                    with torch.no_grad():
                        starts = [front(model, part, split) for part in portions(moved, split)]
                        expect = _expected(model, starts, mean, sigma)
                with torch.enable_grad():
                    free = (mean.clone().requires_grad_(), sigma.clone().requires_grad_())
                    margin = goal.margin(expect(*free))
                    left, cost = (margin + self.kappa).clamp(min=0), self._cost(*free)
                    slopes = torch.autograd.grad(left.sum() + cost.sum(), free)
                # Of one noise for all images the sum of the margins that are left counts, of many each on its own.
                left, cost = left.detach(), cost.detach()
                left = left.sum().expand(1) if self.shared else left
                now = torch.where(left > 0, UNMET + left, cost + self.sparse * mean.abs().flatten(1).sum(1))
                better = torch.ones_like(now, dtype=torch.bool) if best is None else now < best
                best = now if best is None else torch.minimum(best, now)
                place = better.view(-1, 1, 1, 1)
                kept = (torch.where(place, mean, kept[0]), torch.where(place, sigma, kept[1]))
                if step < self.steps:
                    mean, sigma = self._move((mean, sigma), slopes, moments, step)
            final = _whole(model, images, split, *kept)
        size = images.shape
        return NoiseStatistics(kept[0].expand(size).clone(), kept[1].expand(size).clone(), final)

    def _cost(self, mean: Tensor, sigma: Tensor) -> Tensor:
        """What the noise of each image costs, (B,), or of all, (1,)."""
        cost = self.lambda_mean * mean.square() + self.lambda_sigma * sigma.square()
        total = cost.flatten(1).sum(1)
        if self.smooth:
            slopes = (mean.diff(dim=2).abs().flatten(1).sum(1), mean.diff(dim=3).abs().flatten(1).sum(1))
            total = total + self.smooth * sum(slopes)
        return total

    def _move(
        self, at: tuple[Tensor, Tensor], slopes: tuple[Tensor, ...], moments: list[Tensor], step: int
    ) -> tuple[Tensor, Tensor]:
        moved = []
        for number, (value, slope) in enumerate(zip(at, slopes, strict=True)):
            first, second = moments[2 * number], moments[2 * number + 1]
            first.lerp_(slope, 0.1)
            second.lerp_(slope.square(), 0.001)
            size = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            moved.append(value - self.learning_rate * size)
        # The proximal step of the L1 size.
        moved[0] = torch.nn.functional.softshrink(moved[0], self.learning_rate * self.sparse)
        return project(moved[0], moved[1], float(self.radius))


def project(mean: Tensor, sigma: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The nearest (mu, sigma), number by number, with |mu| + 2 sigma <= radius and sigma >= 0."""
    far, sigma = mean.abs(), sigma.clamp(min=0)
    over = (far + 2 * sigma - radius).clamp(min=0) / 5
    near, less = far - over, sigma - 2 * over
    # Beyond the ends of the edge the nearest point is its end.
    less = torch.where(near < 0, radius / 2, less)
    near = torch.where(less < 0, radius, near).clamp(min=0)
    return mean.sign() * near, less.clamp(min=0)


def _expected(model: Classifier, starts: list[Front], at: Tensor, sigma: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """E g (B, K) as a function of mean and deviation, for the network linear around images + `at`."""
    from .normal import lengths
    from .rectified import rectified
    from .two_stage import back

    def answer(start: Front, shift: Tensor, spread: Tensor) -> Tensor:
        rows = (len(start.level), -1, 1)
        level = start.level + (start.slope @ shift.flatten(1).expand(rows[0], -1).unsqueeze(-1)).squeeze(-1)
        square = start.slope.square() @ spread.square().flatten(1).expand(rows[0], -1).unsqueeze(-1)
        of = rectified(level, lengths(square.squeeze(-1)))
        return start.split.slope * level + (1 - start.split.slope) * of.mean

    pieces = []
    first = 0
    for start in starts:
        rows = slice(first, first + len(start.level)) if len(at) > 1 else slice(0, 1)
        first += len(start.level)
        centre = answer(start, torch.zeros_like(at[rows]), sigma[rows])
        pieces.append((start, rows, centre, back(model, start.split, centre, start.points)))

    def expect(mean: Tensor, deviation: Tensor) -> Tensor:
        found = []
        for start, rows, centre, (logits, B, D) in pieces:
            shift = mean[rows] - at[rows]
            off = answer(start, shift, deviation[rows]) - centre
            told = logits + (B @ off.unsqueeze(-1)).squeeze(-1)
            if D is not None:
                told = told + (D @ shift.flatten(1).expand(len(D), -1).unsqueeze(-1)).squeeze(-1)
            found.append(told)
        return torch.cat(found)

    return expect


def _whole(model: Classifier, images: Tensor, split: Split, mean: Tensor, sigma: Tensor) -> Tensor:
    """E g (B, K) linearised at the images with this mean added."""
    from .two_stage import front, portions

    with torch.no_grad():
        starts = [front(model, part, split) for part in portions(images + mean, split)]
        return _expected(model, starts, mean, sigma)(mean, sigma)
