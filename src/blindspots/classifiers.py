"""The classifier: a wrapper round any `nn.Module` that takes images in [0, 1] and answers with logits.

It knows the normalisation, the device, the precision and the model batch, and it leaves the module as it found it.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from .batching import Layout, chunks, fill
from .errors import BlindspotsError
from .layouts import tune
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .defences import Defence

Precision = Literal["bfloat16", "float16"]
Outputs = Literal["logits", "probabilities"]


class Classifier:
    """Images (B, C, H, W) in [0, 1] to logits (B, K), through a module that is left exactly as it was found.

    Args:
        module: any `nn.Module` (or callable module) from normalised images to logits.
        mean, std: per-channel normalisation inside the wrapper, so that radii always mean pixel units.
        classes: number of classes, if known; checked against the logits otherwise.
        device: `auto` (where the module's parameters are), `cpu`, `cuda`, `cuda:1`, ...
        batch: images per model call; None tunes it once by measurement. All calls have exactly this shape, so that
            the answer for an image does not depend on how many others are asked about.
        smaller: other numbers of images in a call that are known to give the same answers as the batch, bit for bit,
            for when few images are left. Found by itself together with a tuned batch.
        channels_last: lay images out with their channels side by side, which is faster for many networks. None
            measures it together with the batch, and means no where a batch is given.
        amp: `bfloat16` or `float16` runs the model in mixed precision; every success is then verified in float32.
        outputs: `probabilities` says that the module ends in a softmax; their logarithm is taken as logits.
        per_pixel: the module answers every pixel, with logits (B, K, H, W), as a segmentation network does. Generative
            methods can be fitted to such a one; attacks, which ask for an answer an image, refuse it.
        name: what to call it in reports.
        spec, weights, trained: where the module and its weights came from and whether they were trained, if known.

    >>> import torch
    >>> model = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), batch=2)
    >>> model.logits(torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: int | None = None,
        device: str | torch.device = "auto",
        batch: int | None = None,
        smaller: Sequence[int] = (),
        channels_last: bool | None = None,
        amp: Precision | None = None,
        outputs: Outputs = "logits",
        per_pixel: bool = False,
        name: str = "",
        spec: str | None = None,
        weights: str | None = None,
        trained: bool | None = None,
    ) -> None:
        if not isinstance(module, torch.nn.Module):
            raise BlindspotsError(f"a model must be a torch.nn.Module, got {type(module).__name__}")
        if (mean is None) != (std is None):
            raise BlindspotsError("mean and std come together: give both or neither")
        if std is not None and not all(s > 0 for s in std):
            raise BlindspotsError(f"std must be above 0 in every channel, got {tuple(std)}")
        if mean is not None and std is not None and len(mean) != len(std):
            raise BlindspotsError(f"mean has {len(mean)} channels and std has {len(std)}: give one number a channel")
        if batch is not None and batch < 1:
            raise BlindspotsError(f"batch must be at least 1, got {batch}")
        if amp not in (None, "bfloat16", "float16"):
            raise BlindspotsError(f"amp must be bfloat16, float16 or nothing, got '{amp}'")
        if outputs not in ("logits", "probabilities"):
            raise BlindspotsError(f"outputs must be 'logits' or 'probabilities', got '{outputs}'")
        first = next((p for p in module.parameters() if p.is_floating_point()), None)
        self.device = _device(device, first)
        self.dtype = first.dtype if first is not None else torch.get_default_dtype()
        self.module = module.to(self.device)
        self.mean = None if mean is None else tuple(float(m) for m in mean)
        self.std = None if std is None else tuple(float(s) for s in std)
        self.classes, self.batch, self.amp, self.outputs = classes, batch, amp, outputs
        self.channels_last, self.smaller, self.per_pixel = channels_last, tuple(smaller), per_pixel
        self.name = name or type(module).__name__
        self.spec, self.weights, self.trained = spec, weights, trained
        self.defences: tuple[Defence, ...] = ()
        self.was_training = [n or "the module itself" for n, m in module.named_modules() if m.training]
        self._depth = 0
        self._tuned: dict[tuple[int, ...], Layout] = {}

    @property
    def hash(self) -> str:
        """sha256 over the architecture, every parameter and buffer, the normalisation, the kind of output, and the
        defences."""
        digest = hashlib.sha256(f"{self.module}|{self.mean}|{self.std}|{self.outputs}".encode())
        for defence in self.defences:
            digest.update(f"|{defence}".encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            if isinstance(tensor, torch.Tensor):
                digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Eval mode, frozen parameters and the caller's random state put aside; all restored on the way out.

        Flags are kept per submodule (a frozen BatchNorm in a training network stays frozen), buffers by value, and
        `.grad` is never touched. Sessions nest at no cost.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        modules = [(m, m.training) for m in self.module.modules()]
        frozen = [(p, p.requires_grad) for p in self.module.parameters()]
        buffers = [(m, n, b, b.detach().clone()) for m, _ in modules for n, b in m._buffers.items() if b is not None]
        random = torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else None
        self._depth = 1
        try:
            _set_training(modules, False)
            for parameter, _ in frozen:
                parameter.requires_grad_(False)
            # Modes of the caller must not reach in here, an autocast not even by way of a backward pass.
            with torch.inference_mode(False), torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            self._depth = 0
            for module, training in modules:
                module.training = training
            for parameter, needs in frozen:
                parameter.requires_grad_(needs)
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer  # a forward may also put a new tensor in its place
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)
            torch.set_rng_state(random)
            if cuda is not None:
                torch.cuda.set_rng_state_all(cuda)

    def forward(self, images: Tensor, exact: bool = False) -> Tensor:
        """Logits (B, K) of one model batch, differentiable; only inside a `session`. `exact` switches amp off."""
        return self._answer(images, self.layout(images).channels_last, exact)

    def _answer(self, images: Tensor, channels_last: bool, exact: bool = False) -> Tensor:
        for defence in self.defences:
            images = defence(images)
        mean, std = self._mean, self._std
        if mean is not None and std is not None:
            images = (images - mean) / std
        # Always a new tensor: a module that normalises in place would otherwise write into the images themselves.
        if channels_last:
            images = images.clone(memory_format=torch.channels_last)
        elif mean is None:
            images = images.clone()
        if self.amp is None or exact:  # a session has switched the caller's autocast off
            logits = self.module(images)
        else:
            with torch.autocast(self.device.type, getattr(torch, self.amp)):
                logits = self.module(images)
        rank = 4 if self.per_pixel else 2
        if not isinstance(logits, torch.Tensor) or logits.ndim != rank or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            wanted = "K, H, W" if self.per_pixel else "K"
            raise BlindspotsError(
                f"the model must answer {len(images)} images with logits ({len(images)}, {wanted}), got {got}"
            )
        if logits.shape[1] < 2 or self.classes not in (None, logits.shape[1]):
            raise BlindspotsError(
                f"the model answers with {logits.shape[1]} classes, expected {self.classes or 'at least 2'}"
            )
        if self.outputs == "probabilities":
            logits = logits.clamp(min=torch.finfo(logits.dtype).tiny).log()
        return logits.to(self.dtype)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K) of any number of images (B, C, H, W), in full precision and in fixed-shape model batches."""
        images = self.accept(images)
        with self.session():
            shapes = self.layout(images).shapes
            parts = [
                self.forward(fill(images[c.rows], c.shape), exact=True)[c.valid] for c in chunks(len(images), shapes)
            ]
        return torch.cat(parts)

    def behind(self, defences: Sequence[Defence]) -> Classifier:
        """This classifier behind defences, through which each image goes in the order given; see `defend`."""
        part = copy.copy(self)
        part.defences = (*defences, *self.defences)
        part.name = "+".join((self.name, *(defence.name for defence in defences)))
        part._depth, part._tuned = 0, {}
        return part

    def count(self, images: Tensor) -> int:
        """The number of classes K, asked of the model once if it was not given."""
        if self.classes is None:
            self.classes = self.logits(images[:1]).shape[1]
        return self.classes

    def accept(self, images: Tensor) -> Tensor:
        """The images on the device and in the precision of the model, after a check of rank, range and values."""
        if not isinstance(images, torch.Tensor) or images.ndim != 4 or not images.is_floating_point():
            got = (
                f"{images.dtype} of shape {tuple(images.shape)}"
                if isinstance(images, torch.Tensor)
                else type(images).__name__
            )
            raise BlindspotsError(f"images must be a float tensor (B, C, H, W) in [0, 1], got {got}")
        if images.numel() == 0:
            raise BlindspotsError(f"there are no images: got a tensor of shape {tuple(images.shape)}")
        if self.mean is not None and images.shape[1] not in (len(self.mean),) and len(self.mean) != 1:
            raise BlindspotsError(f"images have {images.shape[1]} channels, but mean and std have {len(self.mean)}")
        low, high = (float(v) for v in torch.aminmax(images.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BlindspotsError("images hold NaN or infinite values: pixels must be numbers in [0, 1]")
        if low < -_FUZZ or high > 1 + _FUZZ:
            raise BlindspotsError(
                f"images must lie in [0, 1], got values from {low:.4g} to {high:.4g}: divide 0-255 images by 255, and "
                "give the normalisation to the classifier (mean, std) instead of applying it to the images"
            )
        return images.detach().to(self.device, self.dtype).clamp(0, 1)

    def size(self, images: Tensor) -> int:
        """The model batch for images of this shape: the one given, or the tuned one."""
        return self.layout(images).batch

    def layout(self, images: Tensor) -> Layout:
        """Model batch and memory format for images of this shape: as given, or measured at the first call."""
        if self.batch is not None:
            return Layout(self.batch, bool(self.channels_last), self.smaller)
        shape = tuple(images.shape[1:])
        if shape not in self._tuned:
            with self.session():
                found = tune(self._answer, images[:1].detach(), self.device, self.channels_last)
                # In reduced precision there are two ways through the module, of which one has been compared.
                self._tuned[shape] = found if self.amp is None else replace(found, smaller=())
        return self._tuned[shape]

    @cached_property
    def _mean(self) -> Tensor | None:
        return (
            None
            if self.mean is None
            else torch.tensor(self.mean, device=self.device, dtype=self.dtype).view(1, -1, 1, 1)
        )

    @cached_property
    def _std(self) -> Tensor | None:
        return (
            None if self.std is None else torch.tensor(self.std, device=self.device, dtype=self.dtype).view(1, -1, 1, 1)
        )

    def __repr__(self) -> str:
        return f"Classifier({self.name}, device={self.device}, dtype={self.dtype}, batch={self.batch or 'tuned'})"


# Pixels this far outside [0, 1] are taken as rounding and clamped; anything further is refused.
_FUZZ = 1e-6


def _device(given: str | torch.device, parameter: Any) -> torch.device:
    if str(given) == "auto":
        return parameter.device if parameter is not None else torch.device("cpu")
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BlindspotsError(f"device '{given}' cannot be used here ({reason}): use 'cpu' or 'auto'") from None
    return device


def _set_training(modules: list[tuple[nn.Module, bool]], training: bool) -> None:
    # Flags are set one by one: calling eval() on the root would run overridden train() methods with side effects.
    for module, _ in modules:
        module.training = training
