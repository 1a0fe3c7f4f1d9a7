"""The closed forms: against SciPy, Price's identity, quadrature and sampling; degenerate cases; mistakes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import multivariate_normal
from torch import Tensor

from blindspots import BlindspotsError
from blindspots.analysis.moments.normal import density, distribution, distribution2
from blindspots.analysis.moments.rectified import (
    FORMS,
    affine_relu_affine,
    covariance_rows,
    rectified,
    series,
)
from blindspots.analysis.moments.sampling import Sums

DOUBLE = torch.float64


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=DOUBLE) for value in values]


def net(seed: int, inputs: int = 5, hidden: int = 7, outputs: int = 4) -> tuple[Tensor, ...]:
    """A, c1, B, c2, mean, covariance of a random network and of what it gets."""
    draw = torch.Generator().manual_seed(seed)
    shapes = ((hidden, inputs), (hidden,), (outputs, hidden), (outputs,), (inputs,), (inputs, inputs))
    *rest, root = (torch.randn(shape, generator=draw, dtype=DOUBLE) for shape in shapes)
    return (*rest, root @ root.mT)


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.5, 0.89, 0.91, -0.95, 0.99, -0.999, 0.99999])
def test_phi2_is_scipys(rho: float) -> None:
    for a, b in itertools.product((-2.5, -0.4, 0.0, 0.9, 2.0), (-1.7, 0.0, 0.35, 0.91)):
        scipys = multivariate_normal.cdf([a, b], cov=[[1, rho], [rho, 1]], abseps=1e-14, releps=1e-14)
        assert float(distribution2(*numbers(a, b, rho))) == pytest.approx(scipys, abs=1e-10)


def test_phi2_at_its_ends() -> None:
    a, b = (torch.linspace(-3, 3, 9, dtype=DOUBLE), torch.linspace(2.5, -3.1, 9, dtype=DOUBLE))
    one = torch.ones(9, dtype=DOUBLE)
    assert torch.allclose(distribution2(a, b, one), distribution(torch.minimum(a, b)), atol=1e-7)
    assert torch.allclose(distribution2(a, b, -one), (distribution(a) + distribution(b) - 1).clamp(min=0), atol=1e-7)
    assert torch.allclose(distribution2(a, b, 0 * one), distribution(a) * distribution(b), atol=1e-15)


def test_phi2_has_the_density_as_derivative() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = 1.5 * torch.randn(2, 400, generator=draw, dtype=DOUBLE)
    rho = (2 * torch.rand(400, generator=draw, dtype=DOUBLE) - 1).requires_grad_()
    (slope,) = torch.autograd.grad(distribution2(a, b, rho).sum(), rho)
    rest = 1 - rho.detach() ** 2
    joint = torch.exp(-(a * a - 2 * rho.detach() * a * b + b * b) / (2 * rest)) / (2 * math.pi * rest.sqrt())
    assert torch.allclose(slope, joint, atol=1e-11)


def joint_covariance(a: float, b: float, rho: float) -> float:
    """C of max(z_1, 0) and max(z_2, 0) for unit variances."""
    part = rectified(torch.tensor([a, b], dtype=DOUBLE), torch.ones(2, dtype=DOUBLE))
    joint = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=DOUBLE)
    return float(covariance_rows(part, part, joint, "general")[0, 1])


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.7, -1.2), (2.0, 1.5), (-1.0, -0.3)])
def test_prices_identity(a: float, b: float) -> None:
    """dC/drho = Phi2(a, b; rho), integrated from 0."""
    for rho in (0.2, -0.6, 0.93, -0.97):
        integral = quad(lambda r: float(distribution2(*numbers(a, b, r))), 0, rho, epsabs=1e-12)[0]
        assert joint_covariance(a, b, rho) == pytest.approx(integral, abs=1e-9)


def test_mean_and_variance_of_one_number_against_quadrature() -> None:
    for level in (-4.0, -1.0, 0.0, 0.8, 3.0):
        first, second = (
            quad(lambda x, p=p, level=level: max(level + x, 0) ** p * math.exp(-x * x / 2), -level, 14, epsabs=1e-14)[0]
            / math.sqrt(2 * math.pi)
            for p in (1, 2)
        )
        found = rectified(*numbers(level, 1.0))
        assert float(found.mean) == pytest.approx(first, abs=1e-12)
        assert float(found.variance) == pytest.approx(second - first**2, abs=1e-12)
    # Far above zero a ReLU is the identity, without a loss of digits; far below it answers nothing.
    assert float(rectified(*numbers(1e7, 1.0)).variance) == pytest.approx(1.0, abs=1e-12)
    assert float(rectified(*numbers(-50.0, 1.0)).variance) == 0.0


def test_the_zero_mean_form_is_the_general_one_there_and_nowhere_else() -> None:
    A, _, B, c2, mean, covariance = net(1)
    centred, general, paper = (
        affine_relu_affine(A, c1, B, c2, mean, covariance, form=form)
        for c1, form in ((-A @ mean, "zero-mean"), (-A @ mean, "general"), (1 - A @ mean, "zero-mean"))
    )
    assert torch.allclose(centred.covariance, general.covariance, rtol=1e-12)
    elsewhere = affine_relu_affine(A, 1 - A @ mean, B, c2, mean, covariance)
    assert not torch.allclose(paper.covariance, elsewhere.covariance, rtol=0.01)


def test_the_series_converges_to_the_general_form_and_begins_with_the_first_order() -> None:
    part = rectified(torch.linspace(-2, 2, 9, dtype=DOUBLE), torch.ones(9, dtype=DOUBLE))
    rho = torch.linspace(-0.8, 0.8, 81, dtype=DOUBLE).view(9, 9)
    exact = covariance_rows(part, part, rho, "general")
    assert torch.allclose(series(part, part, rho, 1), covariance_rows(part, part, rho, "first-order"))
    off = [float((series(part, part, rho, terms) - exact).abs().max()) for terms in (1, 2, 4, 8, 60)]
    assert off == sorted(off, reverse=True)
    assert off[2] < 2e-3
    assert off[4] < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_all_moments_agree_with_sampling(seed: int) -> None:
    """Every mean and every covariance within 4 standard errors of fixed draws, any mean."""
    A, c1, B, c2, mean, covariance = net(seed)
    found, sums = affine_relu_affine(A, c1, B, c2, mean, covariance), Sums()
    stream = torch.Generator().manual_seed(100 + seed)
    root = torch.linalg.cholesky(covariance)
    for _ in range(20):
        x = mean + torch.randn(20_000, 5, generator=stream, dtype=DOUBLE) @ root.mT
        sums.add((x @ A.mT + c1).clamp(min=0) @ B.mT + c2)
    drawn = sums.found()
    assert bool(((found.mean - drawn.mean).abs() <= 4 * drawn.mean_error).all())
    assert bool(((found.covariance - drawn.covariance).abs() <= 4 * drawn.covariance_error).all())


def test_sums_are_those_of_all_draws_at_once() -> None:
    x = 1e4 + torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    sums = Sums()
    for part in x.split(77):
        sums.add(part)
    found = sums.found()
    assert torch.allclose(found.mean, x.mean(0), rtol=1e-14)
    assert torch.allclose(found.covariance, x.mT.cov(), rtol=1e-9)
    assert torch.equal(found.counts, torch.bincount(x.argmax(1), minlength=3))
    with pytest.raises(BlindspotsError, match="at least 2 draws"):
        Sums().found()


@pytest.mark.parametrize("form", FORMS)
def test_directions_without_noise_are_the_network_itself(form: str) -> None:
    A, c1, B, c2, mean, covariance = net(2)
    still = affine_relu_affine(A, c1, B, c2, mean, 0 * covariance, form=form)
    assert torch.allclose(still.mean, B @ (A @ mean + c1).clamp(min=0) + c2)
    assert torch.equal(still.covariance, torch.zeros(4, 4, dtype=DOUBLE))
    A = A.clone()
    A[3] = 0  # one number without noise among others, one that is another's copy
    A[4] = A[5]
    some = affine_relu_affine(A, c1, B, c2, mean, covariance, form=form)
    assert bool(torch.isfinite(some.covariance).all())
    assert float(torch.linalg.eigvalsh(some.covariance).min()) > -1e-6


def test_batches_are_their_rows(monkeypatch) -> None:
    nets = [net(seed) for seed in range(3)]
    rows = [affine_relu_affine(*one) for one in nets]
    monkeypatch.setattr("blindspots.analysis.moments.rectified.CHUNK", 40)  # two rows at a time
    whole = affine_relu_affine(*(torch.stack(parts) for parts in zip(*nets, strict=True)))
    assert torch.allclose(whole.mean, torch.stack([row.mean for row in rows]), rtol=1e-12)
    assert torch.allclose(whole.covariance, torch.stack([row.covariance for row in rows]), rtol=1e-12)


def test_gradients_are_finite_where_nothing_is_random() -> None:
    A, c1, _B, _c2, mean, _covariance = net(3)
    scale = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    found = rectified(A @ mean + c1, scale.expand(7))
    (slope,) = torch.autograd.grad(found.mean.sum(), scale)
    assert bool(torch.isfinite(slope))
    level, size = torch.tensor([0.4], dtype=DOUBLE, requires_grad=True), torch.tensor([0.7], dtype=DOUBLE)
    size.requires_grad_()
    first = rectified(level, size).mean
    to_level, to_size = torch.autograd.grad(first.sum(), (level, size))
    assert torch.allclose(to_level, distribution(level / size))
    assert torch.allclose(to_size, density(level / size))
    assert np.isclose(float(to_level), ndtr(0.4 / 0.7))


def test_what_is_no_covariance_is_refused() -> None:
    A, c1, B, c2, mean, covariance = net(4)
    for bad, words in (
        (covariance - 9 * torch.eye(5, dtype=DOUBLE), "positive semi-definite"),
        (covariance.triu(), "symmetric"),
        (covariance * float("nan"), "finite"),
        (covariance[:3], "square"),
    ):
        with pytest.raises(BlindspotsError, match=words):
            affine_relu_affine(A, c1, B, c2, mean, bad)
    with pytest.raises(BlindspotsError, match="form must be one of general, series"):
        affine_relu_affine(A, c1, B, c2, mean, covariance, form="exact")  # type: ignore[arg-type]
