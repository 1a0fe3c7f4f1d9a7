"""What an analysis looks at: a model, data, images that the model gets right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import BlindspotsError
from .layers import enough

if TYPE_CHECKING:
    from ..classifiers import Classifier
    from ..data import ImageData
    from ..studies.study import Victims


def subjects(model: Any, data: Any) -> tuple[Classifier, ImageData]:
    """A classifier and data from whatever `bs.classifier` and `bs.dataset` take."""
    from ..data import dataset
    from ..wrapping import classifier

    return classifier(model), dataset(data)


def right_ones(model: Classifier, data: ImageData, count: int, field: str) -> Victims:
    """The first `count` images that the model gets right.

    Raises:
        BlindspotsError: there are fewer; `field` is the setting that asks for them.
    """
    from ..studies.study import first_right

    found = first_right(model, data, enough(data, count, field))
    if len(found) < count:
        raise BlindspotsError(
            f"{field} asks for {count} images that the network gets right, and of the {len(data)} of '{data.name}' it "
            f"gets {len(found)} right: ask for fewer, or give a better network"
        )
    return found
