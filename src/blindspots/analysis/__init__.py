"""Why a network answers as it does: what its layers see, where its boundaries run, what reaches other networks.

One module an analysis, and one scheme for all: an analysis is a frozen dataclass of settings that is called,

    bs.analysis.Maps(layer="features.3")(model, data, seed=0, out="runs/maps")

and returns `Analysed`: `values` (JSON), `blocks` (what stands on its page) and, where `out` is given, the paths of
NAME.html, NAME.md and NAME.json there. On the command line it is `blindspots analyze NAME` with the settings as flags.

Importing this package does not import torch; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names

if TYPE_CHECKING:
    from .blind import Blind
    from .layers import Layers
    from .maps import Maps
    from .moments.analysis import Moments
    from .moments.distribution import Distributional
    from .page import Analysed
    from .slices import Slices
    from .spectrum import Spectrum
    from .transfer import Transfer
    from .units import Units

_HOME = {
    "Analysed": "page",
    "Blind": "blind",
    "Distributional": "moments.distribution",
    "Layers": "layers",
    "Maps": "maps",
    "Moments": "moments.analysis",
    "Slices": "slices",
    "Spectrum": "spectrum",
    "Transfer": "transfer",
    "Units": "units",
}

__all__ = [
    "Analysed",
    "Blind",
    "Distributional",
    "Layers",
    "Maps",
    "Moments",
    "Slices",
    "Spectrum",
    "Transfer",
    "Units",
]


__getattr__ = names(__name__, _HOME)
