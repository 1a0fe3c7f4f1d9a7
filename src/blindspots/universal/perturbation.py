"""A perturbation, with the norm and radius it was made for, in one file; and its simplest kind, one for every image."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..errors import BlindspotsError
from ..files import replace_file
from ..geometry import NORMS, sizes
from ..lazy import torch
from ..settings import Radius

if TYPE_CHECKING:
    from torch import Tensor

KEY = "blindspots-perturbation"
FORMAT = 1
BALLS = ("linf", "l2")
# Sizes are measured in float64; the rounding of float32 is no larger than this share of the radius.
_ROUNDING = 1e-6


class Perturbation(ABC):
    """What a fit returns: for any image x of a shape an image x' with ||x' - x|| <= radius, at no model call.

    Either one change for all images (`Delta`), or a network that makes one for each (`Generated`).
    """

    norm: str
    radius: float | str
    method: str
    meta: dict[str, Any]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of the images that it is for."""

    @property
    @abstractmethod
    def size(self) -> dict[str, float]:
        """Its size in every norm; of a network the mean over the images it was measured on."""

    @abstractmethod
    def moved(self, images: Tensor, norm: str, radius: float) -> Tensor:
        """The images (B, C, H, W) as it changes them, nearest to that within this ball round them, up to rounding."""

    @abstractmethod
    def to_image(self, image: Tensor | None = None) -> Tensor:
        """A picture (C, H, W) in [0, 1] of the change, of this image (C, H, W): grey is none, black and white most."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What its file holds."""

    def apply(self, images: Tensor) -> Tensor:
        """The images (B, C, H, W) in [0, 1], changed: within [0, 1] and, to rounding, within the radius."""
        self.check(tuple(images.shape[1:]))
        return self.moved(images, self.norm, float(self.radius))

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse images of another shape (C, H, W)."""
        if tuple(shape) != self.shape:
            raise BlindspotsError(
                f"the perturbation is for images of shape {self.shape}, got images of shape {tuple(shape)}: fit one to "
                "them"
            )

    def save(self, path: str | Path) -> Path:
        """Write it to NAME.safetensors, which appears complete or not at all."""
        import safetensors.torch

        path = checked_path(path)
        about = {
            "format": FORMAT,
            "norm": self.norm,
            "radius": str(self.radius),
            "method": self.method,
            "meta": self.meta,
        }
        try:
            header = json.dumps(about, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BlindspotsError(f"meta of a perturbation must be JSON values: {error}") from error
        try:
            replace_file(path, safetensors.torch.save(self.tensors(), metadata={KEY: header}))
        except OSError as error:
            raise BlindspotsError(f"'{path}' cannot be written: {error.strerror}") from error
        return path

    @staticmethod
    def load(path: str | Path) -> Perturbation:
        """Read what `save` wrote, as data only.

        Raises:
            BlindspotsError: a file that is absent, cut off, or no perturbation.
        """
        import safetensors
        import safetensors.torch

        from ..models.weights import broken, readable

        path = readable(path, "perturbation file")
        try:
            with safetensors.safe_open(path, "pt") as file:
                text = (file.metadata() or {}).get(KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()} if text is not None else {}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise broken(path, "perturbation file") from error
        if text is None:
            raise BlindspotsError(f"'{path}' holds no perturbation: give a file that blindspots fit or save wrote")
        if not tensors:
            raise broken(path, "perturbation file")
        try:
            about = json.loads(text)
            if about["format"] != FORMAT:
                raise BlindspotsError(
                    f"'{path}' has the perturbation format {about['format']}, this version reads {FORMAT}: update "
                    "blindspots"
                )
            given = (about["norm"], about["radius"], about["method"], about["meta"])
            if "delta" in tensors:
                return Delta(tensors["delta"], *given)
            from ..generative.generated import Generated

            return Generated(tensors, *given)
        except (ValueError, TypeError, KeyError) as error:
            raise broken(path, "perturbation file") from error


@final
@dataclass(frozen=True, eq=False)
class Delta(Perturbation):
    """One change delta for every image x of a shape: x' = clamp(x + delta, 0, 1), with ||delta|| <= radius.

    Args:
        delta: (C, H, W) float, in pixel units of [0, 1].
        norm, radius: the ball it lies in: linf or l2.
        method: what made it, such as "uap".
        meta: how, JSON values only.

    Raises:
        BlindspotsError: values that are no perturbation, or one that is larger than its radius.

    >>> import torch
    >>> v = Delta(torch.full((1, 2, 2), 0.1), "linf", "0.1", "by hand")
    >>> v.apply(torch.ones(3, 1, 2, 2)).max().item(), round(v.size["l2"], 6)
    (1.0, 0.2)
    """

    delta: Tensor
    norm: str
    radius: float | str
    method: str
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        delta = self.delta
        if not isinstance(delta, torch.Tensor) or delta.ndim != 3 or not delta.is_floating_point():
            told = f"{delta.dtype} of shape {tuple(delta.shape)}" if isinstance(delta, torch.Tensor) else type(delta)
            raise BlindspotsError(f"a perturbation must be a float tensor (C, H, W), got {told}")
        if not bool(torch.isfinite(delta).all()):
            raise BlindspotsError("a perturbation must be finite, got NaN or infinite values: make it again")
        check_norm(self.norm)
        object.__setattr__(self, "delta", delta.detach().cpu().clone())
        object.__setattr__(self, "radius", Radius(self.radius))
        if self.size[self.norm] > float(self.radius) * (1 + _ROUNDING):
            raise BlindspotsError(
                f"a perturbation must lie in its ball, got {self.norm} size {self.size[self.norm]:.6g} for the radius "
                f"{self.radius}: give a larger radius, or project it"
            )

    @property
    def size(self) -> dict[str, float]:
        """Its size in every norm; what is left of it in an image is less where it meets the bounds 0 and 1."""
        return {name: float(value) for name, value in sizes(self.delta.unsqueeze(0)).items()}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.delta.shape)

    def moved(self, images: Tensor, norm: str, radius: float) -> Tensor:
        return (images + self.within(norm, radius).to(images)).clamp(0, 1)

    def within(self, norm: str, radius: float) -> Tensor:
        """The change (C, H, W) nearest to it that lies in that ball: itself where the ball holds it."""
        return onto_ball(self.delta, norm, radius)

    def to_image(self, image: Tensor | None = None) -> Tensor:
        """A picture (C, H, W) of it in [0, 1], the same for every image: black and white are the largest change."""
        return stretched(self.delta)

    def tensors(self) -> dict[str, Tensor]:
        return {"delta": self.delta.contiguous()}


def check_norm(norm: str) -> None:
    """Refuse a norm that no perturbation has."""
    if norm not in BALLS:
        raise BlindspotsError(f"the norm of a perturbation must be one of {', '.join(BALLS)}, got '{norm}'")


def stretched(change: Tensor) -> Tensor:
    """A picture in [0, 1] of a change: grey is none, black and white are the largest."""
    return 0.5 + change / (2 * change.abs().max().clamp(min=torch.finfo(change.dtype).tiny))


def checked_path(path: str | Path) -> Path:
    """The path of a perturbation file that is to be written, with its suffix."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BlindspotsError(f"a perturbation is saved as NAME.safetensors, got '{path}': change the suffix")
    return path


def onto_ball(delta: Tensor, norm: str, radius: float) -> Tensor:
    """The change nearest to delta (C, H, W) with ||.|| <= radius: clipped in linf, scaled in l2; rounded inwards."""
    if norm == "linf":
        bound = torch.tensor(radius, dtype=delta.dtype, device=delta.device)
        if float(bound) > radius:
            bound = torch.nextafter(bound, torch.zeros_like(bound))
        return torch.clamp(delta, -bound, bound)
    # In float64: a float32 sum of many squares may be off by more than the rounding that a radius is held to.
    size = NORMS[norm].size(delta.double().unsqueeze(0))
    return (delta.double() * (radius / size.clamp(min=1e-300)).clamp(max=1)).to(delta.dtype)
