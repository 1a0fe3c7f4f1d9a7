"""A trained style transfer: its file, and images of one content in the style of others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..batching import chunks, fill
from ..errors import BlindspotsError
from ..files import replace_file
from .codes import content_code, gram, gram_planes
from .features import FeatureNetwork, rebuilt
from .network import StyleNetwork, check_size

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, KEY = 1, "blindspots.style"
BATCH = 8


@dataclass(frozen=True, eq=False)
class StyleTransfer:
    """Feature network, transfer network and some style images.

    Attributes:
        features: tells style and content.
        network: draws the image.
        bank: style images (n, C, H, W) that came with the training.
        shape: (C, H, W) of the images it was made for.
        meta: settings and measurements, JSON values.
    """

    features: FeatureNetwork
    network: StyleNetwork
    bank: Tensor
    shape: tuple[int, int, int]
    meta: dict[str, Any] = field(default_factory=dict)

    def codes(self, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """The Gram planes (B, S, n, n) of style images and the content code (B, C, n, n) of content images."""
        return codes(self.features, content, style)

    @torch.no_grad()
    def __call__(self, content: Tensor, style: Tensor) -> Tensor:
        """The content images (B, C, H, W) in the style of the others (B, C, H, W), all in [0, 1].

        Runs in calls of a fixed number of images, so that an image does not depend on how many come with it.
        """
        for what, images in (("content", content), ("style", style)):
            if tuple(images.shape[1:]) != self.shape or len(images) != len(content):
                raise BlindspotsError(
                    f"the style transfer takes as many {what} images as content images, of shape {self.shape}, got "
                    f"{tuple(images.shape)}: resize them, or train one for them"
                )
        self.network.eval()
        weight = self.network.first.weight
        parts = []
        for chunk in chunks(len(content), (BATCH,)):
            pair = (fill(images[chunk.rows], chunk.shape).to(weight) for images in (content, style))
            parts.append(self.network(*self.codes(*pair))[chunk.valid])
        return torch.cat(parts).to(content)

    def to(self, device: torch.device) -> StyleTransfer:
        """The same on a device."""
        self.features.to(device)
        self.network.to(device)
        return StyleTransfer(self.features, self.network, self.bank.to(device), self.shape, self.meta)

    def save(self, path: str | Path) -> Path:
        """Write all of it to NAME.safetensors, weights as tensors and the rest as JSON in its header."""
        import safetensors.torch

        path = Path(path)
        if path.suffix != ".safetensors":
            raise BlindspotsError(f"a style transfer is saved as NAME.safetensors, got '{path}': change the suffix")
        about = {
            "format": FORMAT,
            "features": self.features.about(),
            "network": self.network.about(),
            "shape": list(self.shape),
            "meta": self.meta,
        }
        tensors = {"bank": self.bank}
        for prefix, state in (("features", self.features.acting(self.shape)), ("network", self.network.state_dict())):
            tensors |= {f"{prefix}.{name}": value for name, value in state.items()}
        content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        try:
            replace_file(path, safetensors.torch.save(content, metadata={KEY: json.dumps(about, sort_keys=True)}))
        except OSError as error:
            raise BlindspotsError(f"'{path}' cannot be written: {error.strerror}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> StyleTransfer:
        """Read what `save` wrote, as data only.

        Raises:
            BlindspotsError: a file that is absent, cut off, or no style transfer.
        """
        import safetensors
        import safetensors.torch

        from ..models.weights import broken, readable

        path = readable(path, "style file")
        try:
            with safetensors.safe_open(path, "pt") as file:
                text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise BlindspotsError(
                    f"'{path}' holds no style transfer: give a file that blindspots style train wrote"
                )
            about = json.loads(text)
            if about["format"] != FORMAT:
                raise BlindspotsError(
                    f"'{path}' has the style format {about['format']}, this version reads {FORMAT}: update blindspots"
                )
            state = safetensors.torch.load_file(path)
            features, network = rebuilt(about["features"]), StyleNetwork(**about["network"])
            # Layers that do not act are not in the file.
            if features.module.load_state_dict(_under(state, "features."), strict=False).unexpected_keys:
                raise ValueError("weights of another feature network")
            network.load_state_dict(_under(state, "network."))
            channels, height, width = about["shape"]
            return cls(features, network.eval(), state["bank"], (channels, height, width), about["meta"])
        except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise broken(path, "style file") from error


def codes(features: FeatureNetwork, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """The Gram planes (B, S, n, n) of style images and the content code (B, C, n, n) of content images (B, C, n, n)."""
    size = check_size(tuple(content.shape[-2:]))
    of_style = features(style)
    planes = gram_planes([gram(of_style[name]) for name in features.style_layers], size)
    return planes, content_code(features(content)[features.content_layer], size)


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
