"""Shared by all tests: one thread, no network, and small networks ("victims") with fixed weights."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from blindspots import Classifier

torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("tests")

LOCAL = {"localhost", "127.0.0.1", "::1"}


# Files that take minutes with few tests: they begin first, or one worker would be left alone with them in the end.
LONG = ("test_training_mnist.py", "test_evaluation_kill.py", "test_studies.py", "test_training_victim.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Every test starts from the same global random state and gives the old one back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class TinyConv(nn.Module):
    """8 x 8 pixels to 5 logits through one convolution: not linear, and deep enough to have margins of all sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.head = nn.Linear(6 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.avg_pool2d(self.conv(x).relu(), 2).flatten(1))


def tiny_conv(seed: int = 0, gain: float = 4.0) -> TinyConv:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TinyConv()
    with torch.no_grad():
        net.head.weight *= gain
        # Answers centred on grey noise, so that the classes share the images between them.
        grey = torch.rand(256, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        net.head.bias -= net(grey).mean(0)
    return net.eval()


class OneByOne(nn.Module):
    """A network that answers each image by itself, so that no kernel rounds by the size of the batch."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.net(image) for image in x.split(1)])


def linear_net(classes: int = 3, pixels: int = 16, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).double().eval()


@dataclass(frozen=True)
class Victim:
    """A network with images and labels, some of which it gets wrong, and index numbers that are not positions."""

    build: Callable[[], nn.Module]
    images: Tensor  # float64; multiples of 2^-16, so that float32 holds the same values
    labels: Tensor
    index: Tensor
    classes: int
    cache: dict[Any, Any] = field(default_factory=dict)

    def classifier(self, dtype: torch.dtype = torch.float64, batch: int = 4, **settings: Any) -> Classifier:
        return Classifier(self.build().to(dtype), classes=self.classes, batch=batch, **settings)

    def module(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return self.build().to(dtype)

    def apart(self) -> nn.Module:
        """The network, answering each image by itself: bit for bit the same in any batch, whatever the processor."""
        return OneByOne(self.module())

    @property
    def wrong(self) -> Tensor:
        return self.module()(self.images).argmax(1) != self.labels


@pytest.fixture(scope="session")
def victim() -> Victim:
    """13 images of 8 x 8 pixels; images 2 and 9 are misclassified from the start, 12 has the widest margin."""
    draw = torch.Generator().manual_seed(3)
    images = (torch.rand(13, 1, 8, 8, generator=draw, dtype=torch.float64) * 2**16).round() / 2**16
    images[5] = (images[5] > 0.5).double()  # saturated pixels
    net = tiny_conv().double()
    labels = net(images).argmax(1)
    labels[[2, 9]] = (labels[[2, 9]] + 1) % 5
    index = torch.tensor([40, 7, 3, 100, 2, 55, 6, 12, 8, 9, 1000, 11, 0])
    return Victim(tiny_conv, images, labels, index, 5)


@pytest.fixture
def linear() -> Callable[..., nn.Sequential]:
    return linear_net


@pytest.fixture
def conv() -> Callable[..., TinyConv]:
    return tiny_conv
