"""The settings of a style transfer network and of its training, read without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import BlindspotsError
from ..settings import above, at_least, one_of

StyleLoss = Literal["gram", "features"]

# Fields that change where things lie or how often they are saved, not what is computed.
FREE = ("out", "data_dir", "checkpoint_seconds")


@dataclass(frozen=True)
class StyleSettings:
    """What to train a style transfer network on, and of what size. The first design's are size 256, width 128, blocks 9
    and features vgg16 with weights default; the defaults here are for one core.

    >>> StyleSettings(steps=0)
    Traceback (most recent call last):
    blindspots.errors.BlindspotsError: StyleSettings.steps must be at least 1, got 0
    """

    content: str = "digits"
    """Images that are given a style (blindspots list data)."""
    styles: str | None = None
    """Images that styles are taken from. Default: the same as the content."""
    split: str = "train"
    """Split of both."""
    data_dir: str | None = None
    """Folder that holds the data. Default: BLINDSPOTS_DATA."""
    size: int | None = None
    """Resize image files to this many pixels, a multiple of 4 (image folders only)."""
    features: str | None = None
    """Network whose features tell style and content apart: vgg16, or any model as evaluate takes it. Default: vgg16,
    for images that are too small for it (digits) the demonstration network."""
    feature_weights: str | None = None
    """Its weights: a file, or default for the library's own. Default: random ones (a model file has its own)."""
    style_layers: tuple[str, ...] = ()
    """Layers whose Gram matrices are the style. Default: pool1 to pool4 of vgg16, of another network the last of each
    of its last four shapes."""
    content_layer: str | None = None
    """Layer whose answers are the content. Default: relu3_3 of vgg16, of another network the last style layer but
    one."""
    loss: StyleLoss = "gram"
    """Style loss: gram (distance of Gram matrices), or features (of the features themselves, which copies layout)."""
    content_weight: float = 1.0
    """Weight of the content loss."""
    style_weight: float = 1e5
    """Weight of the style loss."""
    variation_weight: float = 1e-6
    """Weight of the total variation."""
    copies: int = 32
    """How often the plane of each Gram matrix is repeated in the style code."""
    width: int = 32
    """Channels of the first convolution; the next two have twice and four times as many."""
    blocks: int = 3
    """Residual blocks in the middle."""
    steps: int = 1000
    """Steps of Adam."""
    batch: int = 4
    """Pairs of content and style a step."""
    learning_rate: float = 1e-3
    """Step of Adam."""
    bank: int = 16
    """Style images kept in the model file, for apply and for the attack."""
    seed: int = 0
    """Seed of the first weights, of the pairs and of what is held out."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1."""
    threads: int = 0
    """CPU threads; 0 leaves torch's own choice. Another number gives slightly other weights."""
    checkpoint_seconds: float = 30.0
    """Longest time between two checkpoints."""
    out: str = "runs/style"
    """Folder of the training, which goes on where it stopped."""

    def __post_init__(self) -> None:
        one_of(self, "loss", get_args(StyleLoss))
        at_least(self, copies=1, width=1, blocks=0, steps=1, batch=1, bank=1, seed=0, threads=0, checkpoint_seconds=0)
        at_least(self, content_weight=0, style_weight=0, variation_weight=0, size=8)
        above(self, learning_rate=0)
        if not self.content_weight + self.style_weight > 0:
            raise BlindspotsError(
                "StyleSettings.content_weight and style_weight are both 0, so that nothing is asked for"
            )

    @property
    def directory(self) -> Path:
        """The folder of the training."""
        return Path(self.out)

    def plain(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {**asdict(self), "style_layers": list(self.style_layers)}

    def deciding(self) -> dict[str, Any]:
        """Those that decide what is computed."""
        return {name: value for name, value in self.plain().items() if name not in FREE}
