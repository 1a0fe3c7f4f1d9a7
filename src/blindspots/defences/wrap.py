"""`defend`: a classifier behind defences is again a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..classifiers import Classifier
from ..config import make_defence, parse_defence
from ..errors import BlindspotsError
from ..wrapping import classifier
from .defence import Defence

if TYPE_CHECKING:
    from torch import nn


def defend(model: Classifier | nn.Module | str, *defences: Defence | str) -> Classifier:
    """The model behind defences: each image goes through them in the order given, and then to the model.

    What comes back is a classifier like any other, for attacks, evaluation and all else. An attack on it goes through
    the defences (adaptive: it has their gradients, and judges with them). For an attack that does not know of them
    (oblivious), attack the bare model and hand its result to `transfer`.

    Args:
        model: a classifier, or a module or name as `classifier` takes it; it is left as it is.
        defences: defences, or their text: "mean-blur", "mean-blur:5", "gaussian-blur:sigma=1.5".

    Raises:
        BlindspotsError: no defence, an unknown one, or an impossible setting.

    >>> import torch
    >>> bare = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), batch=2)
    >>> defended = defend(bare, "median", "jpeg:50")
    >>> [str(defence) for defence in defended.defences]
    ['median:size=3', 'jpeg:quality=50,codec=dct']
    """
    if not defences:
        raise BlindspotsError("defend needs at least one defence, as blindspots list defences names them")
    made = [make_defence(parse_defence(given)) if isinstance(given, str) else given for given in defences]
    for given in made:
        if not isinstance(given, Defence):
            raise BlindspotsError(f"a defence must be a Defence or its text, got {type(given).__name__}")
    return classifier(model).behind(made)
