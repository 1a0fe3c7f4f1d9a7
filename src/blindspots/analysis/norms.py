"""Operator norms of single layers: how much longer a change can become in the Euclidean norm, and a check from below.

Sources: Szegedy et al. 2014, "Intriguing properties of neural networks", section 4.3 (the Fourier form of a strided
convolution); Sedghi, Gupta, Long 2019 (stride 1). Differs from the first paper: the folded matrix is divided by s for a
stride of s, where the paper prints s^-2, which is s times too small.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp

from ..errors import BlindspotsError

CHUNK = 2**22  # complex numbers of transformed kernels held at a time

# Greatest slopes of functions of single numbers.
SLOPES: dict[type[nn.Module], float] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.Tanh, nn.Hardtanh, nn.Softplus, nn.Identity, nn.Flatten), 1.0),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, nn.Unflatten, nn.Softshrink, nn.Softsign), 1.0),
    nn.Sigmoid: 0.25,
    nn.GELU: 1.1290,  # at sqrt(2)
    nn.SiLU: 1.0999,
    nn.Hardsigmoid: 1 / 6,
    nn.Hardswish: 1.5,
}
LINEAR = (nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)  # what power iteration is tried on


@dataclass(frozen=True)
class Bound:
    """An upper bound of a layer's Lipschitz constant, and how it was found; `exact` where it is the constant itself."""

    value: float
    way: str
    exact: bool


def layer_bound(layer: nn.Module, given: tuple[int, ...], scale: Tensor | None = None) -> Bound | None:
    """The bound of a layer in evaluation mode; None for kinds without a known one.

    Args:
        given: shape of what it gets for one image.
        scale: factors (D,) of its D outputs, of a batch norm after it, to be taken together with it.
    """
    if isinstance(layer, nn.Linear):
        weight = layer.weight.detach().double()
        return Bound(dense_norm(weight if scale is None else scale.unsqueeze(1) * weight), "SVD", True)
    if isinstance(layer, nn.Conv2d):
        return _convolution(layer, given, scale)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        if layer.running_var is None:
            return None
        return Bound(float(batch_norm_scale(layer).abs().max()), "largest factor", True)
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.InstanceNorm2d):
        # x - mean is a projection; x / sqrt(eps + |x|^2 / d) is steepest at 0.
        factor = 1.0 if layer.weight is None else float(layer.weight.detach().abs().max())
        return Bound(factor / math.sqrt(layer.eps), "eps^-1/2", False)
    if isinstance(layer, nn.LeakyReLU):
        return Bound(max(1.0, abs(layer.negative_slope)), "largest slope", True)
    if isinstance(layer, nn.ELU):
        return Bound(max(1.0, abs(layer.alpha)), "largest slope", True)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return _pool(layer, given)
    slope = SLOPES.get(type(layer))
    return None if slope is None else Bound(slope, "largest slope", True)


def dense_norm(weight: Tensor) -> float:
    """The largest singular value of a matrix."""
    return float(torch.linalg.matrix_norm(weight.detach().double(), 2))


def fourier_norm(
    kernel: Tensor, torus: tuple[int, int], stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> float:
    """The operator norm of a convolution with stride on a torus.

    max over low frequencies xi of sigma_max([K(xi + l n/s)]_{d, (c, l)}) / s: K is the n x n transform of the kernel
    padded with zeros, and the C s^2 columns of all l that a stride of s folds onto xi stand side by side.

    Args:
        kernel: (D, C, h, w).
        torus: n, rows and columns, each a multiple of its stride.

    Raises:
        BlindspotsError: a torus that the stride does not divide.
    """
    if torus[0] % stride[0] or torus[1] % stride[1]:
        raise BlindspotsError(f"the stride {stride} must divide the size of the torus, got {torus}")
    D, C, height, width = kernel.shape
    laid = kernel.new_zeros(D, C, *torus, dtype=torch.float64)
    rows = (torch.arange(height) * dilation[0] % torus[0]).repeat_interleave(width)
    columns = (torch.arange(width) * dilation[1] % torus[1]).repeat(height)
    # Added, as a kernel larger than the torus meets itself.
    places = (rows * torus[1] + columns).to(laid.device)
    laid.view(D, C, -1).index_add_(2, places, kernel.detach().double().flatten(2))
    low, folds = (torus[0] // stride[0], torus[1] // stride[1]), stride[0] * stride[1]
    largest, step = 0.0, max(1, CHUNK // (D * C * folds * low[1]))
    transformed = torch.fft.fft2(laid).reshape(D, C, stride[0], low[0], stride[1], low[1])
    # K(-xi) is the conjugate of K(xi), and so the upper half of the rows has the same norms as the lower.
    for start in range(0, low[0] // 2 + 1, step):
        part = transformed[:, :, :, start : min(start + step, low[0] // 2 + 1)]
        folded = part.permute(3, 5, 0, 1, 2, 4).flatten(3).flatten(0, 1)
        gram = folded.mH @ folded if C * folds < D else folded @ folded.mH
        largest = max(largest, float(torch.linalg.eigvalsh(gram)[:, -1].max()))
    return math.sqrt(max(largest, 0.0) / folds)


def power_norm(
    linear: Callable[[Tensor], Tensor], shape: tuple[int, ...], *, iterations: int = 200, like: Tensor, seed: int = 0
) -> float:
    """The operator norm of a linear map of tensors (1, *shape), from below: v <- A^T A v by the adjoint, |A v|.

    Ends where the norm grows by less than 1e-9 of itself, or after so many iterations.
    """
    draw = torch.Generator().manual_seed(seed)
    v = torch.randn(1, *shape, generator=draw, dtype=torch.float64).to(like)
    found = 0.0
    for _ in range(iterations):
        v = v / v.norm()
        u, pull = vjp(linear, v)  # type: ignore[misc]
        now = float(u.norm())
        if now == 0 or now <= found * (1 + 1e-9):
            return max(now, found)
        found, v = now, pull(u)[0]
    return found


def layer_power(layer: nn.Module, given: tuple[int, ...], scale: Tensor | None = None, iterations: int = 200) -> float:
    """`power_norm` of a linear layer in float64, its bias and a batch norm's left out."""
    part = copy.deepcopy(layer).double().eval().requires_grad_(False)
    like = next(part.parameters(), torch.zeros((), dtype=torch.float64))
    zero = part(torch.zeros(1, *given, dtype=torch.float64, device=like.device))

    def linear(x: Tensor) -> Tensor:
        answer: Tensor = part(x) - zero
        return answer if scale is None else answer * scale.view(1, -1, *(1,) * (answer.ndim - 2))

    return power_norm(linear, given, iterations=iterations, like=like)


def batch_norm_scale(layer: Any) -> Tensor:
    """The factors gamma / sqrt(var + eps) of a batch norm in evaluation mode, in float64."""
    factor: Tensor = (layer.running_var.detach().double() + layer.eps).rsqrt()
    return factor if layer.weight is None else factor * layer.weight.detach().double()


def _convolution(layer: nn.Conv2d, given: tuple[int, ...], scale: Tensor | None) -> Bound:
    """Its norm on the torus that just holds image and padding, which zeros outside the image cannot exceed."""
    weight = layer.weight.detach().double()
    if scale is not None:
        weight = scale.view(-1, 1, 1, 1) * weight
    stride, dilation = _two(layer.stride), _two(layer.dilation)
    reach = [dilation[i] * (layer.kernel_size[i] - 1) + 1 for i in range(2)]
    if isinstance(layer.padding, str):
        pads = [reach[i] // 2 if layer.padding == "same" else 0 for i in range(2)]
    else:
        pads = list(layer.padding)
    size, factor, exact = given[-2:], 1.0, False
    if layer.padding_mode == "circular":
        same = all(2 * pads[i] + 1 == reach[i] and size[i] % stride[i] == 0 for i in range(2))
        exact, torus = same, tuple(size) if same else None
        if not same:
            factor = 3.0  # a pixel is met at most three times along each axis
    elif layer.padding_mode == "zeros":
        torus = None
    else:
        torus = None
        # Each border pixel is repeated: sqrt of how often, as the norm of the padding itself.
        times = [(1 + pads[i]) if layer.padding_mode == "replicate" else 3 for i in range(2)]
        factor = math.sqrt(times[0] * times[1]) if any(pads) else 1.0
    if torus is None:
        border = pads if layer.padding_mode == "zeros" else [2 * p for p in pads]
        least = [max(size[i] + border[i], reach[i]) for i in range(2)]
        torus = tuple(-(-least[i] // stride[i]) * stride[i] for i in range(2))
    groups = weight.split(weight.shape[0] // layer.groups)  # type: ignore[no-untyped-call]
    norm = max(fourier_norm(part, (torus[0], torus[1]), stride, dilation) for part in groups)
    return Bound(factor * norm, "Fourier" if exact else "Fourier, padded torus", exact)


def _pool(layer: Any, given: tuple[int, ...]) -> Bound | None:
    """sqrt(windows that a pixel is in), and for averages divided by sqrt(pixels in a window)."""
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        out = _two(layer.output_size)
        sizes = [(given[-2 + i], out[i] or given[-2 + i]) for i in range(2)]
        even = all(n % m == 0 for n, m in sizes)
        shared = math.prod(1 if n % m == 0 else 2 for n, m in sizes)
        return Bound(math.sqrt(shared / math.prod(max(1, n // m) for n, m in sizes)), "windows", even)
    kernel, stride, pad = _two(layer.kernel_size), _two(layer.stride or layer.kernel_size), _two(layer.padding)
    dilation = _two(getattr(layer, "dilation", 1))
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    windows = math.prod(-(-reach[i] // stride[i]) for i in range(2))
    if isinstance(layer, nn.MaxPool2d):
        return Bound(math.sqrt(windows), "windows", windows == 1)
    if layer.divisor_override:
        pixels, full = layer.divisor_override**2 / math.prod(kernel), False
    elif layer.count_include_pad and not layer.ceil_mode:
        pixels, full = float(math.prod(kernel)), True
    else:
        # The window of fewest pixels may reach one pixel into the image.
        pixels, full = float(math.prod(kernel[i] - pad[i] if not layer.ceil_mode else 1 for i in range(2))), False
    return Bound(math.sqrt(windows / pixels), "windows", full and windows == 1 and not any(pad))


def _two(value: Any) -> tuple[Any, Any]:
    return (value, value) if not isinstance(value, tuple | list) else (value[0], value[-1])
