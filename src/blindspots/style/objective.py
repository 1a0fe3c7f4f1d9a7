"""What a style transfer minimises: distance in style, distance in content, roughness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from ..settings import at_least, one_of
from .codes import gram
from .settings import StyleLoss

if TYPE_CHECKING:
    from torch import Tensor

    from .features import FeatureNetwork

Features = dict[str, "Tensor"]


@dataclass(frozen=True)
class StyleObjective:
    """Per image x, with the features F_l of a layer l, content image c and style image s:

        content_weight * mean (F_c(x) - F_c(c))^2 + style_weight * sum_l mean (G_l(x) - G_l(s))^2
            + variation_weight * sum |x_p - x_q|

    with F_c the content layer, G_l = F_l F_l^T / (C H W) the Gram matrix of style layer l (`gram`), or F_l itself
    (`features`), and p, q neighbours above one another and side by side. 0, but for the last term, where x = c = s.

    Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks"; Johnson et al. 2016,
    arXiv:1603.08155.
    Differs from the papers: means instead of sums, so that weights do not depend on sizes.
    """

    loss: StyleLoss = "gram"
    content_weight: float = 1.0
    style_weight: float = 1e5
    variation_weight: float = 1e-6

    def __post_init__(self) -> None:
        one_of(self, "loss", get_args(StyleLoss))
        at_least(self, content_weight=0, style_weight=0, variation_weight=0)

    def terms(
        self, network: FeatureNetwork, images: Tensor, of_content: Features, of_style: Features
    ) -> dict[str, Tensor]:
        """`content`, `style`, `variation`, unweighted, and the weighted sum `total`, each (B,).

        Args:
            images: x (B, C, H, W), differentiable.
            of_content, of_style: the features of c and s, as `network` gives them.
        """
        here = network(images)
        content = _distance(here[network.content_layer], of_content[network.content_layer])
        style = sum(
            (self._style(here[name], of_style[name]) for name in network.style_layers), start=content.new_zeros(())
        )
        variation = total_variation(images)
        total = self.content_weight * content + self.style_weight * style + self.variation_weight * variation
        return {"content": content, "style": style, "variation": variation, "total": total}

    def _style(self, here: Tensor, there: Tensor) -> Tensor:
        return _distance(gram(here), gram(there)) if self.loss == "gram" else _distance(here, there)


def total_variation(images: Tensor) -> Tensor:
    """The sum (B,) of |x_p - x_q| over neighbours p, q above one another and side by side."""
    down, right = images.diff(dim=2).abs(), images.diff(dim=3).abs()
    total: Tensor = down.flatten(1).sum(1) + right.flatten(1).sum(1)
    return total


def _distance(here: Tensor, there: Tensor) -> Tensor:
    """The mean squared difference (B,)."""
    mean: Tensor = (here - there).square().flatten(1).mean(1)
    return mean
