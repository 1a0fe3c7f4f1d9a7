"""Flags that several commands share, and the interface of a command."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import BlindspotsError

if TYPE_CHECKING:
    from rich.console import Console

    from ..classifiers import Classifier
    from ..data import ImageData


class Command(ABC):
    """A subcommand: a frozen dataclass whose fields are its flags."""

    @abstractmethod
    def run(self, console: Console) -> None:
        """Do it, printing to the console."""


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is run."""

    model: str | None = None
    """torchvision:NAME, timm:NAME, path/file.py:factory, a .safetensors, .pt2 or .onnx file, or a built-in network
    (blindspots list models). Default: a small network trained on the digits, which is made on first use."""
    weights: str | None = None
    """File of weights (.safetensors, .pt), read as data only; 'default' for the library's own."""
    normalisation: str | None = None
    """Mean and standard deviation by name (imagenet, cifar10, mnist, none, ...). Default: what the model says."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, in place of a name."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel."""
    defence: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A change of every image before the model sees it, as mean-blur:size=3 (blindspots list defences). May be
    repeated: the first given comes first. Attacks go through it."""
    outputs: Literal["logits", "probabilities"] = "logits"
    """What the model answers with; say probabilities if it ends in a softmax."""
    per_pixel: bool = False
    """The model answers every pixel, as a segmentation network does (generative fits alone)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1."""
    batch: int | None = None
    """Images per model call. Default: measured once on this machine."""
    amp: Literal["bfloat16", "float16"] | None = None
    """Mixed precision of the model; every success is verified in float32."""

    def load(self, data: ImageData) -> Classifier:
        """The classifier, built for the shape and classes of the data where that is open."""
        spec, shape = self.model, {}
        if spec is None:
            if data.name != "digits":
                raise BlindspotsError(f"--model is needed for the data '{data.name}': see blindspots list models")
            from ..training import cached_victim
            from ..training.progress import TrainingBar

            with TrainingBar() as bar:
                spec = str(cached_victim("digits", progress=bar))
        elif self.weights is None and _is_built_in(spec):
            shape = {"classes": data.classes, "channels": data.shape[0], "size": data.shape[1]}
        return self.wrap(spec, **shape)

    def wrap(self, spec: str, **shape: int) -> Classifier:
        """The classifier that a name or path stands for, with these options and behind its defences."""
        from ..config import make_defence, parse_defence
        from ..wrapping import classifier

        if self.normalisation is not None and (self.mean or self.std):
            raise BlindspotsError(
                "--normalisation names mean and std, so it excludes --mean and --std: give one or the other"
            )
        defences = [make_defence(parse_defence(text)) for text in self.defence]
        wrapped = classifier(
            spec,
            weights=self.weights,
            mean=self.normalisation or self.mean or None,
            std=self.std or None,
            device=self.device,
            batch=self.batch,
            amp=self.amp,
            outputs=self.outputs,
            per_pixel=self.per_pixel,
            **shape,
        )
        return wrapped.behind(defences) if defences else wrapped


@dataclass(frozen=True)
class DataOptions:
    """Which images."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, imagefolder:PATH, FILE.npz or hf:NAME (blindspots list data)."""
    split: str = "test"
    """Split of the data."""
    data_dir: str | None = None
    """Folder that holds the data. Default: the environment variable BLINDSPOTS_DATA."""
    limit: int | None = None
    """Number of images, taken by class and seed. Default: all."""
    size: int | None = None
    """Resize and crop image files to this many pixels."""
    labels: str | None = None
    """Image folders: a file that maps folder names to the model's classes (.txt or .json)."""
    download: bool = False
    """Fetch missing named data through torchvision."""

    def load(self, seed: int) -> ImageData:
        from ..data import dataset

        return dataset(
            self.data,
            split=self.split,
            data_dir=self.data_dir,
            limit=self.limit,
            seed=seed,
            size=self.size,
            labels=self.labels,
            download=self.download,
        )


@dataclass(frozen=True)
class RunOptions:
    """How the run is made, and where it goes."""

    targets: str | None = None
    """Targeted attacks: a class number, or random, least-likely, second or all. Default: untargeted."""
    seed: int = 0
    """Seed of the subset of images and of all noise."""
    budget: int | None = None
    """Forwards allowed for each image and attack. Default: what the attack needs."""
    labels_from: Literal["data", "predictions"] = "data"
    """Labels of the images: those of the data, or what the model predicts without attack."""
    keep_images: Literal["all", "fooled", "none"] = "all"
    """Which adversarial images to store."""
    part: str = "1/1"
    """i/n: work on every n-th shard from the i-th on, so that n processes share one run directory."""
    out: str | None = None
    """Run directory. Default: runs/MODEL-DATA-KEY, the same for the same settings."""

    def keywords(self) -> dict[str, Any]:
        """The arguments of `evaluate` that these flags stand for."""
        first, _, last = self.part.partition("/")
        if not (first.isdigit() and last.isdigit()):
            raise BlindspotsError(f"--part must be i/n, such as 1/4, got '{self.part}'")
        number = (self.targets or "").lstrip("-").isdigit()
        return {
            "targets": int(self.targets) if number and self.targets else self.targets,
            "seed": self.seed,
            "budget": self.budget,
            "labels_from": self.labels_from,
            "keep_images": self.keep_images,
            "part": (int(first), int(last)),
            "out": self.out,
        }


def _is_built_in(spec: str) -> bool:
    from ..models.catalogue import NETWORKS

    return spec.partition(":")[0] in NETWORKS
