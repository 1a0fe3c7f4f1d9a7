"""A fitted network that makes a changed image of each image, in one file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from ..batching import chunks, fill
from ..errors import BlindspotsError
from ..geometry import NORMS
from ..lazy import torch
from ..settings import Radius
from ..universal.perturbation import Perturbation, check_norm, stretched
from .forms import Form

if TYPE_CHECKING:
    from torch import Tensor, nn

# Images in one call of the network, and the values of them at most. One shape always, so that what is made of an image
# does not depend on how many others there are.
_BATCH, _VALUES = 64, 2**22


@final
@dataclass(frozen=True, eq=False)
class Generated(Perturbation):
    """A network G that makes x' of x: x' = form(G(x)), projected onto ||x' - x|| <= radius and the box [0, 1].

    Args:
        weights: the state of the network, by name.
        norm, radius: the ball; without a bound of its own (S1, S4) the radius is that of the whole box.
        method: what fitted it.
        meta: JSON values. `meta["generator"]` has name and settings of the network, the form (head, held, exact) and
            the shape (C, H, W) of the images; `meta["sizes"]` the sizes measured when it was fitted, where they were.

    Raises:
        BlindspotsError: weights that do not belong to that network, or are not finite.
    """

    weights: dict[str, Tensor]
    norm: str
    radius: float | str
    method: str
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from ..models.generators import build_generator

        check_norm(self.norm)
        object.__setattr__(self, "radius", Radius(self.radius))
        object.__setattr__(self, "weights", {k: v.detach().cpu().clone() for k, v in self.weights.items()})
        about = self.meta["generator"]
        with torch.random.fork_rng(devices=[]):
            network = build_generator(
                about["name"], channels=self.shape[0], size=min(self.shape[1:]), **about["settings"]
            )
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise BlindspotsError(
                f"the weights do not belong to a {about['name']} with the settings {about['settings']}: fit it again"
            ) from error
        if not all(bool(torch.isfinite(v).all()) for v in self.weights.values()):
            raise BlindspotsError("a perturbation must be finite, got NaN or infinite weights: make it again")
        network.requires_grad_(False)
        object.__setattr__(self, "_network", network.eval())
        held = float(self.radius) if about["held"] else None
        object.__setattr__(self, "_form", Form(about["head"], self.norm, held, about["exact"]))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.meta["generator"]["shape"])

    @property
    def size(self) -> dict[str, float]:
        """The mean size in every norm, over the held-out images of the fit."""
        return {name: float(values["mean"]) for name, values in self.meta.get("sizes", {}).items()}

    @torch.no_grad()
    def moved(self, images: Tensor, norm: str, radius: float) -> Tensor:
        network: nn.Module = self._network.to(images)  # type: ignore[attr-defined]
        form: Form = self._form  # type: ignore[attr-defined]
        batch = max(1, min(_BATCH, _VALUES // math.prod(self.shape)))
        parts = []
        for chunk in chunks(len(images), (batch,)):
            some = fill(images[chunk.rows], batch)
            made = NORMS[norm].project(form(network(some), some), some, torch.full_like(some[:, 0, 0, 0], radius))
            parts.append(made[chunk.valid])
        return torch.cat(parts)

    def to_image(self, image: Tensor | None = None) -> Tensor:
        if image is None:
            raise BlindspotsError("a network changes every image in another way: give to_image an image (C, H, W)")
        return stretched(self.apply(image.unsqueeze(0))[0] - image)

    def tensors(self) -> dict[str, Tensor]:
        return {name: value.contiguous() for name, value in self.weights.items()}
