"""From settings to what the loop works on: images in memory, the network, its optimiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data import Augment, dataset
from ..errors import BlindspotsError
from ..models import build
from ..models.normalise import normalisation
from .checkpoint import State
from .methods import check_ball
from .order import hold_out, key
from .rows import Rows, channel_moments, read_rows
from .settings import MOMENTUM, TrainSettings
from .transforms import Transforms, read_transforms

if TYPE_CHECKING:
    from ..data import ImageData

Moments = tuple[float, ...] | None
LogitsOf = Callable[[Tensor], Tensor]

FEW = 16  # images compared to tell whether two splits are the same


@dataclass(frozen=True, eq=False)
class Setup:
    """The parts of a run that stay as they are; `mean` and `std` are per channel, None for no normalisation.

    `channels_last`: the network is given images with their channels side by side.
    """

    data: ImageData
    test: ImageData | None
    device: torch.device
    training: Rows
    validation: Rows | None
    augment: Augment
    transforms: Transforms | None
    mean: Moments
    std: Moments
    channels_last: bool

    def logits_of(self, network: nn.Module) -> LogitsOf:
        """The function from images (B, C, H, W) in [0, 1] to logits (B, K): normalise, then the network."""
        forward: LogitsOf = network
        if self.channels_last:
            # A copy, since images of one channel count as being in this format whatever their strides are, and the
            # convolutions choose their kernels by the strides.
            forward = lambda images: network(images.clone(memory_format=torch.channels_last))  # noqa: E731
        return normalising(forward, self.mean, self.std, self.device)


def normalising(forward: LogitsOf, mean: Moments, std: Moments, device: torch.device) -> LogitsOf:
    """The function from images (B, C, H, W) in [0, 1] to logits (B, K), from one of normalised images."""
    if mean is None or std is None:
        return forward
    means, stds = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    return lambda images: forward((images - means) / stds)


def find_data(settings: TrainSettings) -> tuple[ImageData, ImageData | None]:
    """The images that the settings name: those to train on, and the test split where one is wanted."""
    name, folder = settings.data, settings.data_dir
    data = dataset(
        name, split=settings.split, data_dir=folder, limit=settings.limit, seed=settings.seed, size=settings.size
    )
    if not settings.test_split:
        return data, None
    test = dataset(name, split=settings.test_split, data_dir=folder, size=settings.size)
    # A folder or an archive without splits gives the same images under every split's name.
    first = torch.arange(min(len(data), FEW))
    if data.describe()["total"] == len(test) and torch.equal(data.take(first)[0], test.take(data.index[first])[0]):
        raise BlindspotsError(
            f"splits '{settings.split}' and '{settings.test_split}' of '{name}' hold the same images, and a test on "
            "images of the training would mean nothing: leave test_split empty"
        )
    return data, test


def set_up(settings: TrainSettings, data: ImageData, test: ImageData | None, device: torch.device) -> Setup:
    """Read the images, hold out the validation images, find the normalisation."""
    if test is not None and (test.shape, test.classes) != (data.shape, data.classes):
        raise BlindspotsError(
            f"training images are {data.shape} in {data.classes} classes, test images {test.shape} in {test.classes}: "
            "give matching splits, or an empty test_split"
        )
    positions, held = hold_out(data.labels, data.index, settings.validation, settings.seed)
    if settings.validation > 0 and len(held) == 0:
        raise BlindspotsError(
            f"the {len(data)} images have one image a class, so none can be held out: give more images or validation 0"
        )
    missing = sorted(set(range(data.classes)) - set(data.labels[positions].tolist()))
    if missing:
        raise BlindspotsError(
            f"class {missing[0]} of {data.classes} has no training image: give data with images of every class"
        )
    smallest = len(positions) // -(-len(positions) // settings.batch)
    if smallest < settings.processes * settings.accumulate:
        raise BlindspotsError(
            f"batches of {smallest} images cannot be cut into {settings.processes * settings.accumulate} pieces "
            "(processes times accumulate): give a larger batch, or fewer of them"
        )
    transforms = read_transforms(settings.transforms, data.shape) if settings.transforms else None
    training = read_rows(data, positions)
    mean: Moments
    std: Moments
    if settings.normalisation == "data":
        mean, std = channel_moments(training)
    else:
        mean, std = normalisation(settings.normalisation, data.shape[0])
    validation = read_rows(data, held) if len(held) else None
    # He et al. 2016 (arXiv 1512.03385) shift images of 32 pixels by up to 4: an eighth of the size.
    shift = 0 if settings.augmentation == "none" else min(data.shape[1:]) // 8
    change = Augment(flip=settings.augmentation == "shift-flip", shift=shift)
    return Setup(data, test, device, training, validation, change, transforms, mean, std, settings.channels_last)


def new_state(settings: TrainSettings, setup: Setup) -> State:
    """The network with its first weights and the optimiser; seeds torch."""
    channels, height, width = setup.data.shape
    if height != width:
        raise BlindspotsError(f"built-in networks take square images, got {height} x {width}: give the data a size")
    torch.manual_seed(key(settings.seed, "weights"))
    network = build(
        settings.network, classes=setup.data.classes, channels=channels, size=height, **settings.network_settings
    )
    network = network.to(setup.device)
    try:
        network.eval()
        with torch.no_grad():
            shape = tuple(setup.logits_of(network)(setup.training.batch(torch.arange(1))[0].to(setup.device)).shape)
    except RuntimeError as error:
        raise BlindspotsError(
            f"network '{settings.network}' cannot take images of shape {setup.data.shape} "
            f"({str(error).splitlines()[0]}): choose another network or other network settings"
        ) from error
    if shape != (1, setup.data.classes):
        raise BlindspotsError(
            f"network '{settings.network}' answers one image with shape {shape}, expected (1, {setup.data.classes})"
        )
    method = settings.training_method()
    check_ball(method, setup.data.shape)
    method.check(network, setup.data.shape, setup.data.classes)
    average = copy.deepcopy(network).requires_grad_(False) if settings.ema else None
    return State(network, _optimiser(settings, network), average)


def _optimiser(settings: TrainSettings, network: nn.Module) -> torch.optim.Optimizer:
    weights = _groups(settings, network)
    if settings.optimiser == "sgd":
        momentum = MOMENTUM if settings.momentum is None else settings.momentum
        return torch.optim.SGD(weights, lr=settings.rate, momentum=momentum, weight_decay=settings.weight_decay)
    kind = torch.optim.Adam if settings.optimiser == "adam" else torch.optim.AdamW
    return kind(weights, lr=settings.rate, weight_decay=settings.weight_decay)


def _groups(settings: TrainSettings, network: nn.Module) -> list[dict[str, Any]]:
    """What is trained, and with layer_decay a group for each layer: lambda * sum(w^2) / k has the gradient
    2 * lambda / k * w, which is what a weight decay of 2 * lambda / k adds to it."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if not settings.layer_decay:
        return [{"params": weights}]
    matrices = [weight for weight in weights if weight.ndim > 1]
    if len(matrices) != len(settings.layer_decay):
        raise BlindspotsError(
            f"network '{settings.network}' has {len(matrices)} layers with a weight matrix, and layer_decay "
            f"{len(settings.layer_decay)} numbers: give one for each"
        )
    groups = [
        {"params": [matrix], "weight_decay": 2 * decay / len(matrix)}
        for matrix, decay in zip(matrices, settings.layer_decay, strict=True)
    ]
    return [*groups, {"params": [weight for weight in weights if weight.ndim == 1]}]
