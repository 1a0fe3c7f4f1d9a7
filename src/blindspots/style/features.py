"""The feature network: the network whose layers tell what is style and what is content.

No trained VGG may be assumed to be at hand, so any network will do; what was used is told wherever results are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..analysis.layers import find_layer, hooked, traced
from ..classifiers import Classifier
from ..errors import BlindspotsError
from ..models import load_model
from ..models.load import SEED, untrained
from ..models.normalise import NAMED
from ..models.weights import fit_weights
from .vgg import CONTENT, STYLE, vgg, vgg_weights

if TYPE_CHECKING:
    from torch import Tensor

# Style layers of a network that has none of its own.
LAYERS = 4


class _EnoughError(Exception):
    """All layers that are asked about have answered."""


@dataclass(frozen=True)
class Architecture:
    """What the network can be built from again: a name as `load_model` takes it, and the arguments."""

    network: str
    classes: int
    channels: int
    size: int
    settings: dict[str, Any]

    def build(self) -> nn.Module:
        """The network with random weights."""
        return vgg() if self.network == "vgg16" else untrained(**vars(self))


class FeatureNetwork(nn.Module):
    """Images (B, C, H, W) in [0, 1] to what the style layers and the content layer answer, by name.

    Its weights are frozen and it stays in evaluation mode. One channel of an image serves for all where the network
    takes several. Layers behind the last one asked for are not run.

    Args:
        module: the network; mean, std: its normalisation; architecture: what it can be built from.
        style_layers, content_layer: names of layers that run once and answer with (B, channels, rows, columns).
        used: which network and which weights these are, in words.
    """

    def __init__(
        self,
        module: nn.Module,
        architecture: Architecture,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        style_layers: Sequence[str],
        content_layer: str,
        used: str,
    ) -> None:
        super().__init__()
        for name in (*style_layers, content_layer):
            find_layer(module, name)
        self.module = module.eval().requires_grad_(False)
        self.architecture, self.mean, self.std = architecture, mean, std
        self.style_layers, self.content_layer, self.used = tuple(style_layers), content_layer, used

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that is asked about, once."""
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))

    def train(self, mode: bool = True) -> FeatureNetwork:
        """Stays in evaluation mode: features are a fixed measure."""
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if images.shape[1] == 1 and self.architecture.channels > 1:
            images = images.expand(-1, self.architecture.channels, -1, -1)
        if images.shape[1] != self.architecture.channels:
            raise BlindspotsError(
                f"the feature network takes images of {self.architecture.channels} channels, got {images.shape[1]}"
            )
        if self.mean is not None and self.std is not None:
            mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
            images = (images - mean) / std
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def look(answer: Tensor) -> None:
                found[name] = answer.clone()  # before a ReLU that works in place
                if len(found) == len(self.layers):
                    raise _EnoughError

            return look

        with hooked(self.module, {name: keep(name) for name in self.layers}):
            try:
                self.module(images)
            except _EnoughError:
                return found
        missing = ", ".join(name for name in self.layers if name not in found)
        raise BlindspotsError(f"the feature network never ran its layer '{missing}': choose another")

    @torch.no_grad()
    def acting(self, shape: tuple[int, int, int]) -> dict[str, Tensor]:
        """The weights and buffers of what runs for images (C, H, W): behind the last layer asked for, nothing does."""
        ran: set[str] = set()
        handles = [
            layer.register_forward_pre_hook(lambda layer, inputs, name=name: ran.add(name))
            for name, layer in self.module.named_modules()
        ]
        try:
            self(next(self.parameters()).new_zeros(1, *shape))
        finally:
            for handle in handles:
                handle.remove()
        return {name: value for name, value in self.module.state_dict().items() if name.rpartition(".")[0] in ran}

    def about(self) -> dict[str, Any]:
        """What a file notes of it, apart from the weights."""
        return {
            "architecture": dict(vars(self.architecture)),
            "mean": self.mean,
            "std": self.std,
            "style_layers": list(self.style_layers),
            "content_layer": self.content_layer,
            "used": self.used,
        }


def rebuilt(about: dict[str, Any]) -> FeatureNetwork:
    """The network of `about`, with random weights."""
    architecture = Architecture(**about["architecture"])
    return FeatureNetwork(architecture.build(), architecture, **{k: v for k, v in about.items() if k != "architecture"})


def feature_network(
    name: str,
    weights: str | None = None,
    *,
    shape: tuple[int, int, int],
    style_layers: Sequence[str] = (),
    content_layer: str | None = None,
) -> FeatureNetwork:
    """A feature network for images of a shape (C, H, W).

    Args:
        name: `vgg16`, or a model as `bs.classifier` takes it by name or path.
        weights: a file; `default`, the library's own; None for random ones, unless the path has its own.
        style_layers, content_layer: by name; see `StyleSettings` for the defaults.

    Raises:
        BlindspotsError: an unknown network or layer, weights that do not fit or cannot be had, images of other channels
            or too small for the layers.
    """
    size = shape[1]
    if name == "vgg16":
        module: nn.Module = vgg()
        architecture = Architecture("vgg16", 0, 3, size, {})
        if weights is not None:
            fit_weights(module, vgg_weights(weights), path=weights, network="vgg16")
        trained: bool | None = weights is not None
        mean, std = NAMED["imagenet"] or (None, None)
    elif ".py" in name or name.endswith((".pt2", ".onnx")):
        raise BlindspotsError(
            f"'{name}' cannot be a feature network, because a style file has to build it again: take vgg16, a built-in "
            "network, torchvision:NAME, timm:NAME or a .safetensors of save_model"
        )
    else:
        free = not name.endswith(".safetensors")
        loaded = load_model(name, weights=weights, channels=shape[0] if free and ":" not in name else None,
                            size=size if free and weights is None and ":" not in name else None)  # fmt: skip
        module, trained, mean, std = loaded.module, loaded.trained, loaded.mean, loaded.std
        own = loaded.shape or shape
        architecture = Architecture(
            str(loaded.info.get("network", name)), loaded.classes or 10, own[0], own[1], loaded.info.get("settings", {})
        )
    shown = torch.zeros(1, architecture.channels, *shape[1:])
    if not style_layers or content_layer is None:
        own_style, own_content = (STYLE, CONTENT) if name == "vgg16" else _last_of_each(module, shown)
        style_layers, content_layer = style_layers or own_style, content_layer or own_content
    source = f"weights {weights or 'of its file'}" if trained or weights else f"random weights (seed {SEED})"
    used = f"{Path(name).name}, {source}"
    found = FeatureNetwork(module, architecture, mean, std, style_layers, content_layer, used)
    _check(found, shape)
    return found


def digest(module: nn.Module) -> str:
    """The start of a sha256 over weights and buffers."""
    content = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        content.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:16]


def _check(network: FeatureNetwork, shape: tuple[int, int, int]) -> None:
    """Ask once: every layer must answer with places, more than one of the content's."""
    try:
        with torch.no_grad():
            found = network(torch.zeros(1, *shape))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise BlindspotsError(
            f"the feature network cannot take images of shape {shape} ({reason}): give larger images, or layers that "
            "come earlier"
        ) from error
    for name, answer in found.items():
        if answer.ndim != 4:
            raise BlindspotsError(
                f"layer '{name}' of the feature network answers with the shape {tuple(answer.shape[1:])}, and must "
                "with (channels, rows, columns): choose a convolution, its ReLU or a pooling"
            )


def _last_of_each(module: nn.Module, shown: Tensor) -> tuple[tuple[str, ...], str]:
    """The last layer of each of the last four shapes (C, H, W) among the answers, and the last but one of them."""
    order = [entry for entry in traced(Classifier(module, batch=1), shown) if len(entry[1]) == 4]
    names = [name for name, _ in order]
    last = {shape: name for name, shape in order if names.count(name) == 1}
    chosen = sorted(last.values(), key=names.index)[-LAYERS:]
    if not chosen:
        raise BlindspotsError(
            "the feature network has no layer that answers with (channels, rows, columns): take a convolutional one"
        )
    return tuple(chosen), chosen[-2] if len(chosen) > 1 else chosen[0]
