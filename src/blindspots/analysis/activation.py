"""Activation maps: which places of a layer speak for a class (CAM, Grad-CAM), and how two maps compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..batching import chunks, fill
from ..errors import BlindspotsError
from ..lazy import require, torch
from .layers import activations, find_layer, traced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ..classifiers import Classifier

Method = Literal["auto", "cam", "grad-cam"]


def last_spatial(model: Classifier, images: Tensor) -> str:
    """The last layer with the resolution and channels of the last convolution that answers with more than one place.

    Raises:
        BlindspotsError: the network has no such layer.
    """
    order = [(name, shape) for name, shape in traced(model, images) if len(shape) == 4 and shape[2] * shape[3] > 1]
    conv = [shape for name, shape in order if type(find_layer(model.module, name)).__name__.startswith("Conv")]
    once = [name for name, shape in order if conv and shape[1:] == conv[-1][1:]]
    found = [name for name in once if once.count(name) == 1]
    if not found:
        raise BlindspotsError(
            "the network has no convolution that answers with several places, of which a map could be drawn: name a "
            "layer whose answers are (channels, rows, columns)"
        )
    return found[-1]


def pooled_head(model: Classifier, images: Tensor, layer: str) -> nn.Linear | None:
    """The linear layer h with logits = h(mean over the places of what `layer` answers), if the network ends so.

    It is found by its shape and checked on the images: only then is a class activation map what the network computes.
    """
    kept, logits = activations(model, images, [layer])
    answer = kept[layer]
    if answer.ndim != 4:
        return None
    for head in reversed(list(model.module.modules())):
        if not isinstance(head, torch.nn.Linear):
            continue
        if (head.in_features, head.out_features) == (answer.shape[1], logits.shape[1]):
            with torch.no_grad():
                again = head(answer.mean((2, 3)))
            if torch.allclose(again, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
                return head
    return None


def activation_maps(
    model: Classifier, images: Tensor, classes: Tensor, layer: str, method: Literal["cam", "grad-cam"]
) -> Tensor:
    """Maps (B, h, w) of a layer, in its own resolution and with their sign, that speak for classes (B,).

    With F_k(p) what the layer answers in channel k at place p, and z_c the logit of the class,

        cam:       M(p) = sum_k w_ck F_k(p), with w the weights of the linear layer behind a global average;
        grad-cam:  M(p) = sum_k a_k F_k(p), with a_k the mean over all places of dz_c / dF_k.

    Where the first applies the second is the same but for the factor 1 / (h w).

    Raises:
        BlindspotsError: a layer that does not exist or answers without places, `cam` for a network that does not end in
            a global average and a linear layer, or no captum for `grad-cam`.
    """
    images, classes = model.accept(images), classes.to(model.device)
    if method == "cam":
        head = pooled_head(model, images, layer)
        if head is None:
            raise BlindspotsError(
                f"cam needs a network that ends in the global average of layer '{layer}' and one linear layer: use "
                "grad-cam"
            )
        answer = activations(model, images, [layer])[0][layer]
        return torch.einsum("bk,bkhw->bhw", head.weight.detach()[classes], answer)
    shape = activations(model, images[:1], [layer])[0][layer].shape
    if len(shape) != 4:
        raise BlindspotsError(
            f"layer '{layer}' answers an image with the shape {tuple(shape[1:])}, and a map needs (channels, rows, "
            "columns): choose a convolution or the block of one"
        )
    with model.session():
        parts = []
        grad_cam = _grad_cam(model, layer)
        for chunk in chunks(len(images), model.layout(images).shapes):
            part, target = (fill(values[chunk.rows], chunk.shape) for values in (images, classes))
            parts.append(grad_cam(part, target)[chunk.valid])
    return torch.cat(parts)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """What speaks for the class in maps (B, h, w): (B, H, W), its largest value 1, nothing where all speak against."""
    positive = maps.clamp(min=0)
    large = torch.nn.functional.interpolate(positive[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    peak: Tensor = large.amax((1, 2), keepdim=True)
    return large / peak.clamp(min=torch.finfo(large.dtype).tiny)


def rank_correlation(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Spearman's correlation (B,) of the places of two maps (B, h, w), equal values sharing their rank.

    1 where both order the places alike, 0 where the order of one says nothing of the other, NaN where one is constant.
    """
    import numpy as np
    from scipy.stats import rankdata

    ranks = []
    for maps in (first, second):
        rank = rankdata(maps.detach().cpu().double().flatten(1).numpy(), axis=1)
        ranks.append(rank - rank.mean(1, keepdims=True))
    a, b = ranks
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    product = (a * b).sum(1)
    found: NDArray[np.float64] = np.where(size > 0, product / np.where(size > 0, size, 1.0), np.nan)
    return found


def _grad_cam(model: Classifier, layer: str) -> Any:
    """Grad-CAM of a model batch, by captum."""
    captum = require("captum.attr", "explain", "grad-cam")
    attribution = captum.LayerGradCam(lambda images: model.forward(images, exact=True), find_layer(model.module, layer))

    def maps(images: Tensor, classes: Tensor) -> Tensor:
        found: Tensor = attribution.attribute(images.clone().requires_grad_(True), target=classes)
        return found.detach()[:, 0]

    return maps
