"""Build a built-in network by name."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from ..errors import BlindspotsError, unknown
from .catalogue import find

if TYPE_CHECKING:
    from torch import nn


def build(name: str, *, classes: int = 10, channels: int = 1, size: int = 28, **settings: Any) -> nn.Module:
    """Make a built-in network with fresh random weights (from torch's global random state).

    Args:
        name: see `list_models()`; a preset may follow a colon: `stadv-b:paper`.
        classes: number of logits, at least 2.
        channels, size: the network takes images (B, channels, size, size).
        settings: the network's own, for example `preset`, `depth`, `hidden`, `width`.

    Raises:
        BlindspotsError: unknown name or setting, a value out of range, or images too small for the network.

    >>> sum(p.numel() for p in build("stadv-a").parameters())
    3382346
    """
    for what, value, least in (("classes", classes, 2), ("channels", channels, 1), ("size", size, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BlindspotsError(f"{what} of '{name}' must be a whole number of at least {least}, got {value!r}")
    row, fixed = find(name)
    function = getattr(importlib.import_module(f"{__package__}.{row.module}"), row.function)
    allowed = set(inspect.signature(function).parameters) - {"classes", "channels", "size"}
    for setting in {**fixed, **settings}:
        if setting not in allowed:
            raise unknown(f"setting of '{name.partition(':')[0]}'", setting, allowed or {"none"})
    module: nn.Module = function(classes=classes, channels=channels, size=size, **{**fixed, **settings})
    return module
