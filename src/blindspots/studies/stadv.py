"""The study of spatially transformed adversarial examples, and of why reproductions of them fail.

Sources: Xiao et al. 2018, "Spatially transformed adversarial examples", arXiv:1801.02612 (tables 4 and 1); Grotepass
and van Moergestel 2024, "CS4240 Deep learning: Paper Reproduction Project", github.com/Sebastiaanvm/DL_Group35.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..attacks import StAdv
from ..defences.wrap import defend
from ..settings import plain
from ..training import TrainSettings
from . import stadv_page as page
from .mistakes import PlusKappa, softmax_inside
from .notebook import Notebook, Values
from .page import Block
from .study import Study, Victims, told

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier


@dataclass(frozen=True)
class Size:
    """How much is done: training images (None: all) and epochs, images attacked in each experiment, and queries of an
    attack at each tau."""

    training: int | None
    epochs: int
    targeted: int
    untargeted: int
    fixed: int
    ablation: int
    defended: int
    adaptive: int
    steps: int = 200


# Model calls hold 16 images on a CPU, see `Study.model`.
QUICK = Size(6_000, 2, 48, 32, 16, 16, 32, 16)
FULL = Size(None, 5, 1_000, 96, 48, 32, 96, 16)

# Networks with their preset: those of the headline, and others that reproductions had. B as the paper's table prints it
# costs three times as much as A, and gets few images.
HEADLINE = (("a", "paper"), ("b", "tramer"), ("c", "paper"))
OTHERS = (("b", "maxpool"), ("c", "maxpool"), ("b", "paper"))
TAUS = tuple(0.05 / 2**k for k in range(7))
DEFENCES = (
    "mean-blur:size=3", "gaussian-blur:sigma=1.0", "median:size=3", "opening:size=3", "closing:size=3",
    "bit-depth:bits=1", "jpeg:quality=50", "low-pass:keep=0.5",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A line of the ablation: an attack, on the network or on one with a softmax inside."""

    name: str
    attack: StAdv
    softmax: bool = False


def ablation(steps: int) -> tuple[Setting, ...]:
    """Every setting that the paper leaves open or that a reproduction changed, one at a time."""
    fixed: dict[str, Any] = {"halvings": 0, "restarts": 0, "smoothing": 0.0, "steps": steps}
    first: dict[str, Any] = {**fixed, "padding": "zero", "iterate": "final"}
    theirs: dict[str, Any] = {**first, "kappa": 0.5}
    torn: dict[str, Any] = {"start": "gaussian", "spread": 1.0}
    loose: dict[str, Any] = {**fixed, "flow_loss": "global"}
    return (
        Setting("reproduction: softmax inside, zero padding, kappa +0.5, final iterate", PlusKappa(**theirs), True),
        Setting("reproduction, start N(0,1)", PlusKappa(**theirs, **torn), True),
        Setting("reproduction, start N(0,1), tau 0.0001", PlusKappa(tau=1e-4, **theirs, **torn), True),
        Setting("softmax inside, kappa 0", StAdv(**first), True),
        Setting("softmax inside, kappa 0, tolerance 1e-10", StAdv(tolerance=1e-10, **first), True),
        Setting("softmax inside, best iterate, global", StAdv(**loose), True),
        Setting("logits, zero padding, final iterate", StAdv(**first)),
        Setting("logits, zero padding, final iterate, start N(0,1)", StAdv(**first, **torn)),
        Setting("logits, final iterate", StAdv(iterate="final", **fixed)),
        Setting("sum (equation 4), tau 0.05", StAdv(**fixed)),
        Setting("sum, tolerance 1e-10", StAdv(tolerance=1e-10, **fixed)),
        Setting("sum, start 0.1 N(0,1)", StAdv(start="gaussian", **fixed)),
        Setting("sum, start U(0,1)", StAdv(start="uniform", spread=1.0, **fixed)),
        Setting("sum, tau 0.01", StAdv(tau=0.01, **fixed)),
        Setting("sum, tau 0.005", StAdv(tau=0.005, **fixed)),
        Setting("sum, tau 0.0001", StAdv(tau=1e-4, **fixed)),
        *(
            Setting(f"sum, smoothing {sides:g}", StAdv(**{**fixed, "smoothing": sides}))
            for sides in (0.25, 0.5, 1.0, 2.0)
        ),
        Setting("mean", StAdv(flow_loss="mean", **fixed)),
        Setting("squared", StAdv(flow_loss="squared", **fixed)),
        Setting("global", StAdv(**loose)),
        Setting("global, final iterate", StAdv(iterate="final", **loose)),
        Setting("global, final iterate, kappa -0.1", StAdv(iterate="final", kappa=0.1, **loose)),
        Setting("global, final iterate, kappa +0.5 (wrong sign)", PlusKappa(iterate="final", kappa=0.5, **loose)),
        Setting("global, zero padding", StAdv(padding="zero", **loose)),
        Setting("global, von Neumann neighbours", StAdv(neighbours="von_neumann", **loose)),
        Setting("global, Adam", StAdv(solver="adam", **loose)),
        Setting("sum, tau halved from 0.05 until it succeeds", StAdv(steps=steps, smoothing=0.0)),
        Setting("the same, smoothing 1 (the default)", StAdv(steps=steps)),
    )  # fmt: skip


@dataclass(frozen=True)
class StAdvStudy(Study):
    """Trains the networks of the paper, attacks them, and takes the attack apart setting by setting."""

    name: ClassVar[str] = "stadv"
    title: ClassVar[str] = "Spatially transformed adversarial examples, run again"

    @property
    def size(self) -> Size:
        return FULL if self.full else QUICK

    @property
    def _default(self) -> StAdv:
        return StAdv(steps=self.size.steps)

    def blocks(self, book: Notebook) -> list[Block]:
        trained = {which: self._train(book, *which) for which in (*HEADLINE, *OTHERS)}
        size = self.size
        attacked = {which: self._default_runs(book, which, size.targeted, size.untargeted) for which in HEADLINE}
        others = {which: self._default_runs(book, which, size.fixed, size.fixed) for which in OTHERS}
        pictured = self._grid(book)
        lines = [
            (s.name, self._runs(book, f"ablation-{number:02d}", HEADLINE[0], s, size.ablation, size.ablation))
            for number, s in enumerate(ablation(size.steps))
        ]
        fixed = {which: self._fixed(book, *which) for which in HEADLINE}
        blurred = {which: self._defended(book, *which) for which in HEADLINE}
        return [
            *page.headline(trained, attacked, others),
            *page.pictures(*pictured),
            *page.ablation(lines),
            *page.fixed_taus(fixed),
            *page.defences(blurred),
        ]

    def _train(self, book: Notebook, letter: str, preset: str) -> Values:
        images = self.size.training
        if (letter, preset) == ("b", "paper"):
            images = 3_000 if images is None else images // 2
        settings = TrainSettings(
            network=f"stadv-{letter}",
            network_settings={"preset": preset},
            limit=images,
            epochs=self.size.epochs,
            batch=64,
            schedule="onecycle",
            validation=0.0,
        )
        return self.train(book, f"train-stadv-{letter}-{preset}", settings)

    def _subject(self, book: Notebook, letter: str, preset: str, count: int) -> tuple[Classifier, Victims]:
        model = self.model(book, f"train-stadv-{letter}-{preset}")
        return model, self.victims(model, count)

    def _attack(
        self, model: Classifier, chosen: Victims, attack: StAdv, targets: str | None
    ) -> tuple[Values, dict[str, Tensor]]:
        result = attack(model, chosen.images, chosen.labels, targets=targets, index=chosen.index, seed=self.seed)
        assert result.flow is not None
        kept = {"success": result.success, "flow_loss": result.size["flow_loss"]}
        return told(result, attack.steps), kept

    def _cell(
        self, book: Notebook, name: str, which: tuple[str, str], count: int, setting: Setting, targets: str | None
    ) -> tuple[Values, dict[str, Tensor]]:
        settings = {
            "attack": setting.attack.name, **plain(setting.attack), "softmax": setting.softmax, "count": count,
            "targets": targets,
        }  # fmt: skip

        def work() -> tuple[Values, dict[str, Tensor]]:
            model, chosen = self._subject(book, *which, count)
            return self._attack(softmax_inside(model) if setting.softmax else model, chosen, setting.attack, targets)

        return book.cell(name, settings, work)

    def _default_runs(
        self, book: Notebook, which: tuple[str, str], targeted: int, untargeted: int
    ) -> dict[str, Values]:
        name = f"attack-{which[0]}-{which[1]}"
        return self._runs(book, name, which, Setting("default", self._default), targeted, untargeted)

    def _runs(
        self, book: Notebook, name: str, which: tuple[str, str], setting: Setting, targeted: int, untargeted: int
    ) -> dict[str, Values]:
        """What a setting does with random targets, and without any, on so many images each."""
        return {
            "targeted": self._cell(book, f"{name}-targeted", which, targeted, setting, "random")[0],
            "untargeted": self._cell(book, f"{name}-untargeted", which, untargeted, setting, None)[0],
        }

    def _fixed(self, book: Notebook, letter: str, preset: str) -> list[tuple[str, Values, dict[str, Tensor]]]:
        """Every fixed tau and the search over them, on the same images."""
        which, count, name = (letter, preset), self.size.fixed, f"fixed-{letter}-{preset}"
        found = []
        for number, tau in enumerate(TAUS):
            setting = Setting(f"{tau:.3g}", replace(self._default, tau=tau, halvings=0, restarts=0))
            found.append((setting.name, *self._cell(book, f"{name}-{number}", which, count, setting, "random")))
        search = Setting("halved until it succeeds", self._default)
        return [*found, (search.name, *self._cell(book, f"{name}-search", which, count, search, "random"))]

    def _grid(self, book: Notebook) -> tuple[dict[str, Tensor], list[int]]:
        """One image of each class, bent towards every other; of network A."""

        def work() -> tuple[Values, dict[str, Tensor]]:
            model, chosen = self._subject(book, *HEADLINE[0], 500)
            first = [int((chosen.labels == c).nonzero()[0]) for c in range(10) if bool((chosen.labels == c).any())]
            images, labels, index = chosen.images[first], chosen.labels[first], chosen.index[first]
            result = self._default(model, images, labels, targets="all", index=index, seed=self.seed)
            assert result.flow is not None
            assert result.targets is not None
            kept = {
                "clean": images, "classes": labels, "images": result.images, "flow": result.flow,
                "labels": result.labels, "targets": result.targets, "success": result.success,
            }  # fmt: skip
            return told(result, self.size.steps), kept

        values, kept = book.cell("grid", plain(self._default), work)
        return kept, [values["success"], values["of"]]

    def _defended(self, book: Notebook, letter: str, preset: str) -> list[tuple[str, Values]]:
        """What defences do to flows that do not know of them, and to flows that do."""
        count, of = self.size.defended, f"{letter}-{preset}"
        bend = replace(self._default, flow_loss="global", halvings=2, restarts=0)

        def begin() -> tuple[Values, dict[str, Tensor]]:
            model, chosen = self._subject(book, letter, preset, count)
            result = bend(model, chosen.images, chosen.labels, targets="random", index=chosen.index, seed=self.seed)
            assert result.targets is not None
            kept = {"images": result.images, "targets": result.targets, "success": result.success}
            return told(result, bend.steps), kept

        bent = book.cell(f"bent-{of}", {**plain(bend), "count": count}, begin)[1]
        found = []
        for text in DEFENCES:

            def work(text: str = text) -> tuple[Values, dict[str, Tensor]]:
                model, chosen = self._subject(book, letter, preset, count)
                behind, fooled = defend(model, text), bent["success"]
                clean = behind.logits(chosen.images).argmax(1).cpu() == chosen.labels
                said = behind.logits(bent["images"]).argmax(1).cpu()
                right = clean.nonzero().squeeze(1)[: self.size.adaptive]
                through = bend(
                    behind, chosen.images[right], chosen.labels[right],
                    targets=bent["targets"][right], index=chosen.index[right], seed=self.seed,
                )  # fmt: skip
                values = {
                    "of": len(chosen),
                    "clean": int(clean.sum()),
                    "examples": int(fooled.sum()),
                    "kept": int((fooled & (said == bent["targets"])).sum()),
                    "restored": int((fooled & (said == chosen.labels)).sum()),
                    "adaptive_of": len(through),
                    "adaptive": int(through.success.sum()),
                }
                return values, {}

            settings = {"defence": text, "count": count, "adaptive": self.size.adaptive, **plain(bend)}
            found.append((text, book.cell(f"defence-{of}-{text.split(':')[0]}", settings, work)[0]))
        return found
