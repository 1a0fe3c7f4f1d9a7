"""The layers of a network by name: finding one, hooks that go away again, what a layer answers, and a list of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..batching import chunks, fill
from ..errors import BlindspotsError, unknown
from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..classifiers import Classifier
    from ..data import ImageData
    from ..studies.page import Block
    from .page import Analysed

Change = Callable[["Tensor"], "Tensor | None"]


def layer_names(module: nn.Module) -> list[str]:
    """The names of all layers inside the module, as `named_modules` gives them; those of containers too."""
    return [name for name, _ in module.named_modules() if name]


def find_layer(module: nn.Module, name: str) -> nn.Module:
    """The layer of that name.

    Raises:
        BlindspotsError: there is none; the names that there are stand in the message.
    """
    layers = dict(module.named_modules())
    if not name or name not in layers:
        raise unknown("layer", name, layer_names(module))
    found: nn.Module = layers[name]
    return found


@contextmanager
def hooked(module: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Show the answer of each named layer to a function; what that returns, if anything, goes on in its place.

    The hooks are gone on the way out, also after an exception.
    """
    handles = []
    try:
        for name, change in changes.items():

            def hook(layer: nn.Module, inputs: Any, answer: Any, name: str = name, change: Change = change) -> Any:
                if not isinstance(answer, torch.Tensor):
                    raise BlindspotsError(
                        f"layer '{name}' answers with {type(answer).__name__}, not with a tensor: choose another"
                    )
                return change(answer)

            handles.append(find_layer(module, name).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def answers(model: Classifier, images: Tensor, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """What the named layers answer to a model batch of images (B, C, H, W) inside a session, and the logits (B, K).

    Differentiable. Each answer is (B, ...), before later layers change it in place.

    Raises:
        BlindspotsError: a layer that does not exist, does not run, runs more than once, or answers with no row for
            each image.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    model.layout(images)  # measured now if need be: the hooks are to see one call
    with hooked(model.module, {name: _keep(kept) for name, kept in seen.items()}):
        logits = model.forward(images, exact=True)
    for name, kept in seen.items():
        if len(kept) != 1:
            raise BlindspotsError(
                f"layer '{name}' runs {len(kept)} times for one image, and must run once: choose the block around it"
            )
        if kept[0].ndim < 1 or len(kept[0]) != len(images):
            raise BlindspotsError(
                f"layer '{name}' answers {len(images)} images with the shape {tuple(kept[0].shape)}, which has no row "
                "for each: choose another"
            )
    return {name: kept[0] for name, kept in seen.items()}, logits


def activations(model: Classifier, images: Tensor, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """What the named layers answer to any number of images (B, C, H, W), and the logits (B, K); without gradients.

    Runs in fixed-shape model batches, like `Classifier.logits`. Errors are those of `answers`.
    """
    images = model.accept(images)
    parts: list[tuple[dict[str, Tensor], Tensor]] = []
    with model.session(), torch.no_grad():
        for chunk in chunks(len(images), model.layout(images).shapes):
            found, logits = answers(model, fill(images[chunk.rows], chunk.shape), names)
            parts.append(({name: value[chunk.valid] for name, value in found.items()}, logits[chunk.valid]))
    joined = {name: torch.cat([found[name] for found, _ in parts]) for name in names}
    return joined, torch.cat([logits for _, logits in parts])


def enough(data: ImageData, count: int, field: str) -> int:
    """The count, if the data has so many images.

    Raises:
        BlindspotsError: it has fewer; `field` is the setting that asks for them.
    """
    if count > len(data):
        raise BlindspotsError(
            f"{field} asks for {count} images, and '{data.name}' ({data.split}) has {len(data)}: ask for fewer"
        )
    return count


def _keep(kept: list[Tensor]) -> Change:
    def keep(answer: Tensor) -> None:
        # A copy: the next layer may be a ReLU that works in place.
        kept.append(answer.clone())

    return keep


@dataclass(frozen=True)
class Layers:
    """The layers of a network: name, kind, shape of what it answers to one image, number of its own weights.

    Layers that run never or several times for one image are told as such; other analyses take one that runs once.
    """

    name: ClassVar[str] = "layers"
    title: ClassVar[str] = "The layers of a network"

    def __call__(self, model: Any, data: Any, *, out: str | Path | None = None) -> Analysed:
        """List the layers.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: images of the right shape, as `bs.dataset` takes them; one is shown to the model.
            out: folder to write page and JSON into.

        >>> import torch, blindspots as bs
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> [row["layer"] for row in bs.analysis.Layers()(net, "digits").values["layers"]]
        ['0', '1']
        """
        from ..data import dataset
        from ..studies.page import Table, Title
        from ..wrapping import classifier
        from .page import analysed

        wrapped, images = classifier(model), dataset(data)
        order = traced(wrapped, wrapped.accept(images.batch(0, 1)[0]))
        rows: list[dict[str, Any]] = []
        for name in layer_names(wrapped.module):
            shapes = [shape for ran, shape in order if ran == name]
            layer = find_layer(wrapped.module, name)
            weights = sum(math.prod(weight.shape) for weight in layer.parameters(recurse=False))
            shape = list(shapes[0][1:]) if shapes else None
            rows.append(
                {"layer": name, "kind": type(layer).__name__, "shape": shape, "runs": len(shapes), "weights": weights}
            )
        cells = [
            (r["layer"], r["kind"], "–" if r["shape"] is None else " x ".join(map(str, r["shape"])) or "1",
             str(r["runs"]), str(r["weights"]))
            for r in rows
        ]  # fmt: skip
        columns = ("layer", "kind", "answers to one image with", "runs", "weights of its own")
        blocks: list[Block] = [
            Title("Layers"),
            Table("Layers by name, in the order in which they are defined", columns, cells),
        ]
        return analysed(self.name, self.title, blocks, {"layers": rows}, models=(wrapped,), data=images, out=out)


def traced(model: Classifier, images: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The layers that run for a model batch of images, in the order in which they end: name, shape of the answer.

    Answers that are no tensors have the shape (). Not inside another hook.
    """
    order: list[tuple[str, tuple[int, ...]]] = []
    handles = []
    model.layout(images)
    try:
        for name, layer in model.module.named_modules():
            if not name:
                continue

            def hook(layer: nn.Module, inputs: Any, answer: Any, name: str = name) -> None:
                order.append((name, tuple(answer.shape) if isinstance(answer, torch.Tensor) else ()))

            handles.append(layer.register_forward_hook(hook))
        with model.session(), torch.no_grad():
            model.forward(images, exact=True)
    finally:
        for handle in handles:
            handle.remove()
    return order
