"""Small networks to attack, trained once on this machine and kept in a cache."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from ..cache import cache_directory
from ..errors import BlindspotsError, unknown
from ..hardware import own_version
from ..models import build
from .events import Progress
from .settings import TrainSettings
from .train import fit

# One thread, so that the weights do not depend on the number of cores. The last epoch is kept: on so few images a
# held-out part chooses by luck.
VICTIMS = {
    "digits": TrainSettings(
        network="small-cnn",
        data="digits",
        epochs=20,
        batch=32,
        optimiser="adam",
        learning_rate=3e-3,
        schedule="onecycle",
        augmentation="shift",
        validation=0.0,
        device="cpu",
        threads=1,
    ),
}


def cached_victim(name: str = "digits", *, progress: Progress | None = None) -> Path:
    """Path of a trained network, trained now if this machine has not done so yet.

    Args:
        name: "digits", a small convolutional network on scikit-learn's handwritten digits.
        progress: as in `fit`.

    Returns:
        The model file, to be given to `blindspots.classifier`.

    Raises:
        BlindspotsError: for an unknown name, and where the cache cannot be written.

    The cache is the folder named by BLINDSPOTS_CACHE, or blindspots in XDG_CACHE_HOME, or ~/.cache/blindspots. Its key
    is the settings, the version of the package and the code of the network. Of two processes at once one trains, and
    the other waits.
    """
    if name not in VICTIMS:
        raise unknown("victim", name, VICTIMS)
    settings = VICTIMS[name]
    home = cache_directory() / "victims"
    code = inspect.getsource(sys.modules[type(build(settings.network)).__module__])
    text = json.dumps([settings.plain(), own_version(), code], sort_keys=True)
    place = home / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".{place.name}.lock"):
            return fit(replace(settings, out=str(place)), progress=progress).model
    except OSError as error:
        raise BlindspotsError(
            f"the cache {home} cannot be written ({error.strerror or error}): set BLINDSPOTS_CACHE to a folder that can"
        ) from error
