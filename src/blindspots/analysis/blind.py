"""The blind comparison: one HTML page that asks a person which of two images, original or attacked, is more real."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import noise
from ..errors import BlindspotsError, unknown
from ..lazy import torch
from ..settings import at_least
from .subjects import right_ones, subjects

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.run import Run
    from .page import Analysed

FORMAT = 1
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Blind:
    """Do people see it? A page of pairs, the original image and what an attack made of it, one beside the other.

    The order of the pairs and the sides are drawn in the browser. Whoever opens the page chooses in each pair the image
    that looks more real; the page counts how often that was the attacked one, gives the exact binomial interval
    (Clopper and Pearson, 95 %), and saves the answers as JSON. Nothing is sent anywhere. Images are rounded to 8 bits.
    Which image is which does not stand in the page as text or markup: it is coded, not secret.

    Source: the comparison in Xiao et al. 2018, arXiv:1801.02612, section 4.4 (two-alternative forced choice).
    Differs from the paper: no crowd, no claim; the number is that of whoever answers.
    """

    name: ClassVar[str] = "blind"
    title: ClassVar[str] = "Which image looks more real?"

    attack: str = "stadv:steps=20,halvings=3,restarts=0"
    """Attack whose images are shown, as written for evaluate; of a run, see `of_run`, its jobs take its place."""
    pairs: int = 40
    """Number of pairs: images that the attack fools the model with. Where there are fewer, all are taken."""

    def __post_init__(self) -> None:
        at_least(self, pairs=1)

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path = "runs/blind") -> Analysed:
        """Attack the first images that the model gets right, as many as there are to be pairs, and write the page.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them.
            seed: of the attack.
            out: folder to write blind.html and blind.json into.

        Raises:
            BlindspotsError: too few images that the model gets right, an attack that does not exist or fools none.
        """
        from ..evaluation.defaults import usual_attack

        wrapped, images = subjects(model, data)
        attack = usual_attack(self.attack, images.name)
        victims = right_ones(wrapped, images, self.pairs, "Blind.pairs")
        result = attack(wrapped, victims.images, victims.labels, index=victims.index, seed=seed)
        won = result.success
        about = {"attack": str(attack), "model": wrapped.name, "data": images.name}
        return self._write(victims.images[won], result.images[won], victims.index[won].tolist(), about, seed, out)

    def of_run(
        self, run: Run | str | Path, job: str | None = None, *, seed: int = 0, out: str | Path = "runs/blind"
    ) -> Analysed:
        """The same of the images that a finished run has stored.

        Args:
            run: the run, or its directory.
            job: which of its jobs; by default the last one that is no noise.
            seed: chooses the pairs where there are more than asked for.
            out: as above.

        Raises:
            BlindspotsError: a run that is not finished, a job that it has not, or no stored images that were fooled.
        """
        from ..evaluation.run import Run as Opened

        opened = run if isinstance(run, Opened) else Opened(run)
        attacks = [entry["id"] for entry in opened.jobs if not entry["control"]] or opened.job_ids
        job = attacks[-1] if job is None else job
        if job not in opened.job_ids:
            raise unknown("job", job, opened.job_ids)
        success = torch.from_numpy(opened.verdicts(job).success.copy())
        numbers = torch.from_numpy(opened.clean()["index"].to_numpy().copy())[success]
        keys = noise.uniform(noise.key(seed, numbers, "blind"), (1,), torch.float64)[:, 0]
        chosen = sorted(numbers[keys.argsort(stable=True)[: self.pairs]].tolist())
        kept, clean = opened.images(job, chosen), opened.images("clean", chosen)
        chosen = [number for number in chosen if number in kept]
        shape = opened.manifest["shape"]
        first, second = (
            torch.stack([images[number] for number in chosen]) if chosen else torch.empty(0, *shape)
            for images in (clean, kept)
        )
        about = {"attack": job, "model": opened.manifest["model"]["name"], "data": opened.manifest["data"]["name"]}
        return self._write(first, second, chosen, about, seed, out)

    def _write(
        self, clean: Tensor, attacked: Tensor, index: list[int], about: dict[str, Any], seed: int, out: str | Path
    ) -> Analysed:
        from ..evaluation.intervals import LEVEL
        from ..files import replace_file
        from ..hardware import versions
        from ..report.words import plural
        from ..studies.page import Paragraph, Table
        from .page import Analysed

        if not len(clean):
            raise BlindspotsError(
                f"there is no image that {about['attack']} fooled the model with, so that no pair can be shown: take "
                "another attack, or a larger radius"
            )
        if clean.shape[1] not in (1, 3):
            raise BlindspotsError(f"a page shows images of 1 or 3 channels, got {clean.shape[1]}")
        first = noise.uniform(noise.key(seed, torch.tensor(index), "first"), (1,), torch.float64)[:, 0] < 0.5
        pairs: list[dict[str, Any]] = []
        for number, one, other, begins in zip(index, clean, attacked, first.tolist(), strict=True):
            images = [png(other), png(one)] if begins else [png(one), png(other)]
            pairs.append({"index": number, "images": images, "attacked": 0 if begins else 1})
        about = {"format": FORMAT, **about}
        page, record = Path(out) / f"{self.name}.html", Path(out) / f"{self.name}.json"
        same = sum(pair["images"][0] == pair["images"][1] for pair in pairs)
        values = {**about, "pairs": len(pairs), "asked": self.pairs, "equal_in_8_bits": same, "seed": seed}
        rows = [(name.replace("_", " "), str(value)) for name, value in values.items() if name != "format"]
        values["made_with"] = {"versions": versions()}
        try:
            replace_file(page, blind_page(self.title, {"about": about, "level": LEVEL, "pairs": pairs}).encode())
            replace_file(record, (json.dumps(values, indent=1) + "\n").encode())
        except OSError as error:
            raise BlindspotsError(f"'{out}' cannot be written ({error.strerror}): give another --out") from error
        told = Paragraph(f"The page shows {plural(len(pairs), 'pair')}; answers stay in it until they are saved.")
        return Analysed(
            self.name, self.title, [told, Table("A blind comparison", ("what", "is"), rows)], values, None, page, record
        )


def blind_page(title: str, study: dict[str, Any]) -> str:
    """The page as text: its pairs are coded, its script is the only one that the page allows to run."""
    from markupsafe import Markup

    from ..report.templating import environment, style

    content = json.dumps(study, separators=(",", ":")).encode()
    key = int.from_bytes(hashlib.sha256(content).digest()[:4], "big")
    script = (TEMPLATES / "blind.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment(TEMPLATES)
        .get_template("blind.html")
        .render(
            style=style(),
            title=title,
            count=len(study["pairs"]),
            key=key,
            payload=base64.b64encode(coded(content, key)).decode(),
            script=Markup(script),
            digest=Markup(digest),
        )
    )


def coded(content: bytes, key: int) -> bytes:
    """The bytes under a stream of random ones (mulberry32 from the key); coded again, they are as before."""
    import numpy as np

    with np.errstate(over="ignore"):
        state = np.uint32(key) + np.uint32(0x6D2B79F5) * np.arange(1, len(content) + 1, dtype=np.uint32)
        mixed = (state ^ (state >> np.uint32(15))) * (state | np.uint32(1))
        mixed ^= mixed + (mixed ^ (mixed >> np.uint32(7))) * (mixed | np.uint32(61))
        stream = ((mixed ^ (mixed >> np.uint32(14))) & np.uint32(255)).astype(np.uint8)
    return bytes(np.frombuffer(content, np.uint8) ^ stream)


def png(image: Tensor) -> str:
    """An image (C, H, W) in [0, 1] as a PNG of 8 bits in base64."""
    from PIL import Image

    pixels = (image.detach().cpu().double() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
