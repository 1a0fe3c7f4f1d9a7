"""Training a style transfer network: pairs of images, the objective, Adam; a kill costs no more than a checkpoint.

Every draw is a function of (seed, step), so a training that was killed and started again ends with the same weights,
bit for bit on a CPU, as one that never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data import ImageData, dataset
from ..data.draws import draw
from ..errors import BlindspotsError
from ..evaluation.intervals import mean
from ..hardware import hardware, versions
from ..training.device import find_device, torch_state
from ..training.directory import write
from ..training.interrupt import Interrupt
from ..training.order import hold_out, key
from ..training.rows import Rows, read_rows
from .features import FeatureNetwork, digest, feature_network
from .folder import Folder, State
from .network import StyleNetwork, check_size
from .objective import StyleObjective
from .reference import gatys
from .settings import StyleSettings
from .transfer import StyleTransfer, codes

if TYPE_CHECKING:
    from torch import Tensor

HELD_OUT = 0.1
# Pairs that the scales of the codes are measured on, held-out pairs of the end, and steps of Gatys' way there.
SCALED, MEASURED, GATYS_STEPS = 16, 8, 60
SMALLEST_FOR_VGG = 16


@dataclass(frozen=True)
class TrainedStyle:
    """A finished training.

    Attributes:
        model: the file of the style transfer.
        values: what was measured on held-out pairs: the objective of the content image as it is, of the network's
            image, and of Gatys' way after `GATYS_STEPS` steps, each a mean with Student's interval; JSON values.
        features: which feature network was used, in words.
        seconds: of all starts together.
    """

    model: Path
    values: dict[str, Any]
    features: str
    seconds: float


def train(
    settings: StyleSettings,
    *,
    content: ImageData | Any = None,
    styles: ImageData | Any = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainedStyle:
    """Train a style transfer network, or go on where an earlier start of the same settings stopped.

    Args:
        settings: what to train, on what, and the folder for it.
        content, styles: images, as `bs.dataset` takes them, instead of those that the settings name.
        progress: is told step, steps and the objective, now and then.

    Raises:
        BlindspotsError: data, feature network or folder that cannot be used, a folder of other settings, and an
            objective that stops being a number.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint saved; the same call goes on from there.

    >>> train(StyleSettings(steps=50, out="runs/style")).model  # doctest: +SKIP
    PosixPath('runs/style/style.safetensors')
    """
    tell = progress or (lambda step, steps, loss: None)
    device = find_device(settings.device)
    pictures, sources = _images(settings, content, styles)
    with torch_state(device, settings.threads):
        features = _features(settings, pictures.shape).to(device)
        with Folder(settings.directory) as folder:
            told = {**settings.deciding(), "data": [pictures.fingerprint(), sources.fingerprint()],
                    "features_digest": digest(features.module)}  # fmt: skip
            folder.claim(told)
            if not folder.result.exists():
                run = _Run(settings, features, pictures, sources, device, folder, tell)
                run.steps()
                run.finish()
            values = json.loads(folder.result.read_text(encoding="utf-8"))
    return TrainedStyle(folder.model, values["measured"], values["features"], values["seconds"])


class _Run:
    """A training on its way."""

    def __init__(
        self,
        settings: StyleSettings,
        features: FeatureNetwork,
        pictures: ImageData,
        sources: ImageData,
        device: torch.device,
        folder: Folder,
        tell: Callable[[int, int, float], None],
    ) -> None:
        self.settings, self.features, self.device, self.folder, self.tell = settings, features, device, folder, tell
        self.shape = pictures.shape
        self.objective = StyleObjective(
            settings.loss, settings.content_weight, settings.style_weight, settings.variation_weight
        )
        self.parts = {
            which: [read_rows(data, rows) for rows in _split(data, settings.seed)]
            for which, data in (("content", pictures), ("style", sources))
        }
        torch.manual_seed(key(settings.seed, "network"))
        pair = [images.to(device) for images in self._pair(0, SCALED, "scale")]
        grams, code = codes(features, *pair)
        network = StyleNetwork(
            grams.shape[1], settings.copies, code.shape[1], self.shape[0], settings.width, settings.blocks
        )
        network.measure(grams, code)
        network.to(device)
        self.state = State(network, torch.optim.Adam(network.parameters(), settings.learning_rate))
        folder.resume(self.state)

    def steps(self) -> None:
        state, settings = self.state, self.settings
        saved = clock = time.monotonic()
        with Interrupt() as interrupt:
            while state.step < settings.steps:
                loss = self._step()
                if not math.isfinite(loss):
                    raise BlindspotsError(
                        f"the style objective became {loss} in step {state.step}: train again with a learning_rate "
                        f"below {settings.learning_rate:g} in another out"
                    )
                state.losses.append(loss)
                now = time.monotonic()
                state.seconds, clock = state.seconds + now - clock, now
                if state.step % 10 == 0 or state.step == settings.steps:
                    self.tell(state.step, settings.steps, loss)
                if now - saved >= settings.checkpoint_seconds or interrupt.asked or state.step == settings.steps:
                    self.folder.save(state)
                    saved = now
                if interrupt.asked and state.step < settings.steps:
                    raise KeyboardInterrupt(f"stopped; {self.folder.checkpoint} goes on from step {state.step}")

    def _step(self) -> float:
        content, style = (images.to(self.device) for images in self._pair(0, self.settings.batch, self.state.step))
        with torch.no_grad():
            of_content, of_style = self.features(content), self.features(style)
            inputs = codes(self.features, content, style)
        images = self.state.network(*inputs)
        loss = self.objective.terms(self.features, images, of_content, of_style)["total"].mean()
        self.state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.state.optimiser.step()
        self.state.step += 1
        return float(loss.detach())

    def finish(self) -> None:
        """Measure on held-out pairs, beside Gatys' way, and write the model; the result comes last."""
        content, style = pair = [images.to(self.device) for images in self._pair(1, MEASURED, "measured")]
        bank = self._draw("style", 0, self.settings.bank, "bank")
        transfer = StyleTransfer(self.features, self.state.network, bank, self.shape)
        reference, _ = gatys(self.objective, self.features, content, style, GATYS_STEPS)
        shown = {"content image": content, "network": transfer(content, style), "Gatys": reference}
        with torch.no_grad():
            of_content, of_style = (self.features(images) for images in pair)
            measured = {
                name: {
                    term: mean(values.double().cpu().tolist())
                    for term, values in self.objective.terms(self.features, images, of_content, of_style).items()
                }
                for name, images in shown.items()
            }
        about = {
            "settings": self.settings.plain(),
            "features": self.features.used,
            "measured": measured,
            "pairs": MEASURED,
            "gatys_steps": GATYS_STEPS,
            "last_losses": self.state.losses[-10:],
            "versions": versions(),
        }
        told = {name: value for name, value in about.items() if name != "settings"} | {
            "settings": {k: v for k, v in self.settings.deciding().items() if k != "device"}
        }
        StyleTransfer(self.features, self.state.network, bank, self.shape, told).save(self.folder.model)
        about |= {"seconds": self.state.seconds, "hardware": hardware(self.device)}
        write(self.folder.result, (json.dumps(about, indent=1) + "\n").encode())
        self.folder.checkpoint.unlink(missing_ok=True)

    def _pair(self, part: int, count: int, place: int | str) -> tuple[Tensor, Tensor]:
        return self._draw("content", part, count, place), self._draw("style", part, count, place)

    def _draw(self, which: str, part: int, count: int, place: int | str) -> Tensor:
        """Images (count, C, H, W) of the training (0) or the held-out (1) part, drawn with replacement for a place."""
        rows: Rows = self.parts[which][part]
        keys = draw(key(self.settings.seed, which, place), torch.arange(count).numpy())
        chosen = torch.from_numpy((keys % len(rows)).astype("int64"))
        return rows.batch(chosen)[0]


def _images(settings: StyleSettings, content: Any, styles: Any) -> tuple[ImageData, ImageData]:
    def opened(name: str) -> ImageData:
        return dataset(name, split=settings.split, data_dir=settings.data_dir, size=settings.size)

    pictures = opened(settings.content) if content is None else dataset(content)
    if styles is not None:
        sources = dataset(styles)
    else:
        sources = pictures if settings.styles in (None, settings.content) else opened(settings.styles or "")
    if pictures.shape != sources.shape:
        raise BlindspotsError(
            f"content and styles must have one shape, got {tuple(pictures.shape)} and {tuple(sources.shape)}: resize "
            "both (--size), or take styles of as many channels"
        )
    check_size(tuple(pictures.shape[1:]))
    return pictures, sources


def _split(data: ImageData, seed: int) -> tuple[Tensor, Tensor]:
    """Which images are trained on and which are held out; classes play no part."""
    if len(data) < 2:
        raise BlindspotsError(f"a style transfer holds some images out, and '{data.name}' has only one: give more")
    return hold_out(torch.zeros_like(data.labels), data.index, HELD_OUT, seed)


def _features(settings: StyleSettings, shape: tuple[int, int, int]) -> FeatureNetwork:
    name, weights = settings.features, settings.feature_weights
    if name is None:
        name = "vgg16"
        if shape[1] < SMALLEST_FOR_VGG and weights is None:
            from ..training import cached_victim

            name = str(cached_victim("digits"))
    return feature_network(
        name, weights, shape=shape, style_layers=settings.style_layers, content_layer=settings.content_layer
    )
