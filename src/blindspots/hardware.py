"""What a measurement was made with: versions of the packages, and the machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .lazy import torch

if TYPE_CHECKING:
    import torch as types


def versions() -> dict[str, str]:
    """Versions of this package, of Python, and of the packages that the numbers depend on."""
    return {
        "blindspots": own_version(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy")},
    }


def own_version() -> str:
    """The version of the installed package, or `source` where it is run from a source tree."""
    try:
        return version("blindspots")
    except PackageNotFoundError:
        return "source"


def hardware(device: types.device) -> dict[str, Any]:
    """Device, processor and threads."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }


def made_with(device: types.device) -> str:
    """Versions and machine in one line, for a page."""
    machine = hardware(device)
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return f"{packages}; {machine['device']} ({machine['processor']}), {machine['threads']} thread(s)"
