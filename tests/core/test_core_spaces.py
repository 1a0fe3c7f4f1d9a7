"""What every space promises, as a table: zero, start, apply, project, size, within, narrow."""

from __future__ import annotations

import pytest
import torch

from blindspots.noise import key, normal
from blindspots.spaces import Additive, Affine, Combined, Flow

KEYS = key(0, torch.arange(6))


def clean(dtype: torch.dtype) -> torch.Tensor:
    images = normal(key(1, torch.arange(6)), (2, 5, 5), dtype) * 0.4 + 0.5
    return images.clamp(0, 1)


SPACES = {
    "linf": lambda images: Additive(images, "linf", 0.1),
    "l2": lambda images: Additive(images, "l2", 0.5),
    "l1": lambda images: Additive(images, "l1", 1.5),
    "l0": lambda images: Additive(images, "l0", 3),
    "linf, a radius an image": lambda images: Additive(images, "linf", torch.arange(6).double() / 20),
    "l2, a radius an image": lambda images: Additive(images, "l2", torch.arange(6).double() / 5),
}
GEOMETRIES = {
    "flow": lambda images: Flow(images, "gaussian", 0.5, limit=1.0),
    "flow, a limit an image": lambda images: Flow(images, "uniform", limit=torch.arange(6) / 4),
    "affine": lambda images: Affine(images, 20, 1.5, 1.2),
    "affine, border, no shift": lambda images: Affine(images, 20, 0, 1.2, "border"),
    "flow and linf": lambda images: Combined(images, Flow(images, "uniform", limit=1.0), "linf", 0.1, unit=5),
    "flow and l2": lambda images: Combined(images, Flow(images, "gaussian", 0.5, limit=1.0), "l2", 0.5),
    "affine and l1": lambda images: Combined(images, Affine(images), "l1", torch.arange(6) / 4),
}
EACH_ADDITIVE = pytest.mark.parametrize("build", SPACES.values(), ids=SPACES)
EACH = pytest.mark.parametrize("build", (SPACES | GEOMETRIES).values(), ids=SPACES | GEOMETRIES)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
ALL = slice(0, 6)


def far(space) -> torch.Tensor:
    zero = space.zero()
    return zero + normal(key(2, torch.arange(len(zero))), tuple(zero.shape[1:]), zero.dtype)


@DTYPES
@EACH
def test_zero_is_the_image_bit_for_bit(build, dtype: torch.dtype) -> None:
    images = clean(dtype)
    space = build(images)
    assert torch.equal(space.apply(space.zero(), ALL), images)
    assert not space.size(space.zero()).any()
    assert space.within(space.zero()).all()
    space.zero().add_(1)
    assert torch.equal(space.apply(space.zero(), ALL), images), "zero() hands out the images themselves"


@DTYPES
@EACH
def test_start_and_project_are_inside(build, dtype: torch.dtype) -> None:
    space = build(clean(dtype))
    for theta in (space.start(KEYS), space.project(far(space))):
        assert space.within(theta).all()
        images = space.apply(theta, ALL)
        assert ((images >= 0) & (images <= 1)).all()
        torch.testing.assert_close(space.project(theta), theta, rtol=0, atol=1e-6)


@EACH
def test_far_is_not_within(build) -> None:
    space = build(clean(torch.float64))
    assert not space.within(far(space)).any()


@DTYPES
@EACH
def test_bounds_hold_what_is_inside(build, dtype: torch.dtype) -> None:
    space = build(clean(dtype))
    bounds, theta = space.bounds(), space.project(far(space))
    if bounds is not None:
        slack = 1e-6 * theta.abs()
        assert ((theta >= bounds[0] - slack) & (theta <= bounds[1] + slack)).all()


@EACH_ADDITIVE
def test_outside_the_box_is_not_within(build) -> None:
    space = build(clean(torch.float64))
    beyond = space.zero()
    beyond[:, 0, 0, 0] = 1 + 1e-9
    assert not space.within(beyond).any(), "the box is exact"


def test_within_allows_a_millionth_and_no_more() -> None:
    """Trap 35: the tolerance is stated and has two sides."""
    images = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    space = Additive(images, "linf", 0.25)
    assert space.within(images + 0.25 * (1 + 0.9e-6)).all()
    assert not space.within(images + 0.25 * (1 + 1.1e-6)).any()


@DTYPES
@EACH
def test_narrow_is_the_space_of_those_rows(build, dtype: torch.dtype) -> None:
    space = build(clean(dtype))
    rows = torch.tensor([4, 1, 1])
    part, theta = space.narrow(rows), far(space)
    assert torch.equal(part.zero(), space.zero()[rows])
    assert torch.equal(part.project(theta[rows]), space.project(theta)[rows])
    assert torch.equal(part.size(theta[rows]), space.size(theta)[rows])
    assert torch.equal(part.start(KEYS[rows]), space.start(KEYS)[rows])
    assert torch.equal(part.within(theta[rows]), space.within(theta)[rows])
    assert torch.equal(part.narrow(torch.tensor([0])).zero(), space.zero()[[4]])


@EACH
def test_apply_is_differentiable(build) -> None:
    space = build(clean(torch.float64))
    theta = space.project(far(space)).requires_grad_()
    (slope,) = torch.autograd.grad(space.apply(theta, ALL).sum(), theta)
    assert slope.any()
