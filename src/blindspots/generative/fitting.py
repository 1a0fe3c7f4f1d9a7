"""The frame of a fit: check what is given, run the steps, make the perturbation, measure it on images held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..classifiers import Classifier
from ..data import dataset
from ..settings import plain
from ..training.order import key
from ..training.rows import read_rows
from ..universal.fitted import Fitted, cost, measured, split
from ..wrapping import classifier as wrap
from .loop import Loop
from .makers import discriminator
from .state import State, load_state
from .victims import Victims, aims

if TYPE_CHECKING:
    from torch import nn

    from ..data import ImageData
    from .method import Method


def fit_method(
    method: Method,
    classifier: Classifier | nn.Module | str | Sequence[Classifier],
    data: ImageData | Any,
    *,
    seed: int,
    targets: Any,
    limit: int | None,
    weights: Sequence[float] | None,
    others: Sequence[Classifier],
    checkpoint: str | Path | None,
    progress: Callable[[str], None] | None,
) -> Fitted:
    """See `Method.fit`."""
    given = list(classifier) if isinstance(classifier, Sequence) and not isinstance(classifier, str) else [classifier]
    models = [wrap(model) for model in given]
    images = dataset(data)
    rows, held = split(images, method.held_out, seed, limit)
    victims = Victims(models, weights, method.minibatch)
    with victims.session():
        first = models[0].accept(images.batch(0, 1)[0])
        classes = victims.check(first)
        goals = aims(targets, len(images), classes)
        torch.manual_seed(key(seed, method.name, "weights"))
        maker = method.maker(images.shape).to(victims.device)
        critic = discriminator(images.shape).to(victims.device) if method.price.realism else None
        state = State(maker, method.optimiser(maker), critic)
        meta: dict[str, Any] = {
            "settings": plain(method),
            "seed": seed,
            "targets": _told(targets),
            "models": [{"name": model.name, "hash": model.hash} for model in models],
            "weights": victims.weights,
            "data": {name: value for name, value in images.describe().items() if name != "notes"},
            "limit": limit,
        }
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None and path.exists():
            load_state(path, state, meta)
        loop = Loop(method, victims, read_rows(images, rows), goals, state, seed, path, meta, progress)
        loop.run()
        state.use_average()
    maker.eval()
    sample = rows[: len(held)]
    with torch.no_grad():
        draft = method.perturbation(maker, images.shape, meta)
        spent = cost(draft, images, held)
        fitted_on, held_out = (measured(models[0], images, part, draft, goals) for part in (sample, held))
        transfer = {
            f"{number} {model.name}": measured(model, images, held, draft, goals)
            for number, model in enumerate([*models[1:], *others], 1)
        }
    meta |= {
        "sizes": spent.sizes,
        "fitted_on": fitted_on.to_json(),
        "held_out": held_out.to_json(),
        "transfer": {name: rates.to_json() for name, rates in transfer.items()},
        "steps": state.step,
    }
    perturbation = method.perturbation(maker, images.shape, meta)
    if path is not None:
        path.unlink(missing_ok=True)
    asked = sum(2 * len(part) for part in (sample, held)) + 2 * len(held) * len(transfer)
    return Fitted(
        perturbation, fitted_on, held_out, state.epoch, False, state.forwards + asked, state.backwards,
        sizes=spent.sizes, seconds=spent.seconds, transfer=transfer,
    )  # fmt: skip


def _told(targets: Any) -> Any:
    """Targets as JSON: a class as it is, of more the sha256."""
    if targets is None or isinstance(targets, int):
        return targets
    import hashlib

    values = torch.as_tensor(targets).to(torch.int64).contiguous().numpy().tobytes()
    return "sha256:" + hashlib.sha256(values).hexdigest()[:16]
