"""Warps and flow losses: exact shifts, closed forms, gradients by hand and by differences."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
import torch

from blindspots import Attack, BlindspotsError, Goal
from blindspots.descend import descend
from blindspots.flows import FlowLoss, displacement, flow_of, held, read, warp
from blindspots.noise import key, normal, uniform
from blindspots.objectives import Margin, Objective, Point, Weighted
from blindspots.optimisers import Adam
from blindspots.oracle import Oracle
from blindspots.spaces import Additive, Affine, Combined, Flow, Space

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
KINDS = list(product(("sum", "mean", "global", "squared"), ("replicate", "zero"), ("diagonal", "von_neumann")))


def pictures(count: int = 3, channels: int = 2, height: int = 6, width: int = 7, dtype=torch.float64) -> torch.Tensor:
    # Values of very different sizes, so that a + (b - a) would lose bits of b.
    return uniform(key(1, torch.arange(count)), (channels, height, width), dtype) ** 9


def shift(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    flow = images.new_zeros(len(images), 2, *images.shape[2:])
    flow[:, 0], flow[:, 1] = down, right
    return warp(images, flow)


def random_flow(images: torch.Tensor, width: float = 1.0) -> torch.Tensor:
    return width * normal(key(2, torch.arange(len(images))), (2, *images.shape[2:]), images.dtype)


def test_gradient_passes_at_the_bounds_and_not_beyond() -> None:
    values = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    assert held(values, 0, 1).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert torch.autograd.grad(held(values, 0, 1).sum(), values)[0].tolist() == [0, 1, 1, 1, 0]


@DTYPES
def test_whole_flows_are_shifts_bit_for_bit(dtype: torch.dtype) -> None:
    images = pictures(dtype=dtype)
    assert torch.equal(shift(images, 0, 0), images)
    left = shift(images, 0, 1)
    assert torch.equal(left[..., :-1], images[..., 1:])
    assert torch.equal(left[..., -1], images[..., -1]), "the last column is repeated"
    assert torch.equal(shift(images, -2, 0)[..., 2:, :], images[..., :-2, :])
    assert torch.equal(shift(images, 100, -100), images[..., -1:, :1].expand_as(images)), "clamped to the corner"


@DTYPES
def test_bilinear_by_hand_and_like_grid_sample(dtype: torch.dtype) -> None:
    images, tolerance = pictures(dtype=dtype), 1e-12 if dtype == torch.float64 else 1e-5
    flow = random_flow(images, 1.5)
    height, width = images.shape[2:]
    rows = torch.arange(height, dtype=dtype).unsqueeze(1) + flow[:, 0]
    columns = torch.arange(width, dtype=dtype) + flow[:, 1]
    grid = torch.stack((2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1), -1)
    peer = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(warp(images, flow), peer, rtol=0, atol=tolerance)
    # Equation 1 of the paper at one pixel: sum over the corners of value times (1 - |du|) (1 - |dv|).
    r, c = float(rows[1, 3, 2].clamp(0, 5)), float(columns[1, 3, 2].clamp(0, 6))
    expected = sum(
        images[1, 0, i, j] * max(0, 1 - abs(r - i)) * max(0, 1 - abs(c - j)) for i in range(6) for j in range(7)
    )
    torch.testing.assert_close(warp(images, flow)[1, 0, 3, 2], expected, rtol=0, atol=tolerance)


@DTYPES
def test_nothing_leaves_the_range_of_the_image(dtype: torch.dtype) -> None:
    images = pictures(64, 1, 8, 8, dtype)
    images[::2] = images[::2].amax((2, 3), keepdim=True)  # constant images stay what they are, bit for bit
    bent = warp(images, random_flow(images, 3.0))
    assert torch.equal(bent[::2], images[::2])
    assert (bent.amax((2, 3)) <= images.amax((2, 3))).all()
    assert (bent.amin((2, 3)) >= images.amin((2, 3))).all()


def test_broken_flows_give_nan_and_no_crash() -> None:
    images = pictures()
    flow = torch.full((3, 2, 6, 7), float("nan"), dtype=torch.float64)
    assert warp(images, flow).isnan().all()
    flow[:] = float("inf")
    assert torch.equal(warp(images, flow), images[..., -1:, -1:].expand_as(images))
    assert not Flow(images).within(torch.full_like(flow, float("nan"))).any()


def test_warp_gradients_by_differences() -> None:
    images = pictures(2, 2, 4, 5).requires_grad_()
    flow = 0.2 + 0.6 * uniform(key(5, torch.arange(2)), (2, 4, 5), torch.float64)
    assert torch.autograd.gradcheck(lambda f, x: warp(x, f), (flow.requires_grad_(), images))


def test_gradient_at_zero_flow_is_one_sided() -> None:
    images = pictures(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(warp(images, flow).sum(), flow)
    x = images[0, 0]
    torch.testing.assert_close(slope[0, 1, :, :-1], x[:, 1:] - x[:, :-1])
    torch.testing.assert_close(slope[0, 1, :, -1], x[:, -1] - x[:, -2])
    torch.testing.assert_close(slope[0, 0, :-1], x[1:] - x[:-1])
    torch.testing.assert_close(slope[0, 0, -1], x[-1] - x[-2])


def test_margin_gradient_on_a_linear_victim_by_hand() -> None:
    """d(margin)/df = (w_j - w_t) . dx'/df, with dx'/df from the four corners of every read point."""
    images = pictures(1, 1, 3, 3)
    weights = normal(key(6, torch.arange(3)), (9,), torch.float64)
    flow = (0.1 + 0.3 * uniform(key(7, torch.arange(1)), (2, 3, 3), torch.float64)).requires_grad_()
    goal = Goal(torch.tensor([0]), torch.tensor([1]))
    bent = warp(images, flow)
    logits = bent.flatten(1) @ weights.T
    (slope,) = torch.autograd.grad(Margin()(Point(logits, goal, bent, images, flow)).sum(), flow)
    rival = 0 if logits[0, 0] > logits[0, 2] else 2
    weight = (weights[rival] - weights[1]).view(3, 3)
    x, f = images[0, 0], flow.detach()[0]
    for r, c in product(range(3), range(3)):
        i, j = min(r, 1), min(c, 1)
        v, u = min(r + float(f[0, r, c]), 2) - i, min(c + float(f[1, r, c]), 2) - j
        down = (1 - u) * (x[i + 1, j] - x[i, j]) + u * (x[i + 1, j + 1] - x[i, j + 1])
        right = (1 - v) * (x[i, j + 1] - x[i, j]) + v * (x[i + 1, j + 1] - x[i + 1, j])
        expected = [weight[r, c] * down * (r < 2), weight[r, c] * right * (c < 2)]
        assert slope[0, :, r, c].tolist() == pytest.approx([float(e) for e in expected], abs=1e-12)


def test_two_pixels_enumerated() -> None:
    """Two pixels 0 and 1 side by side, in two equal rows: f columns to the right of the left one the value is f."""
    images = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]], dtype=torch.float64)
    for step in range(-4, 13):
        flow = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
        flow[0, 1, :, 0] = step / 8
        assert warp(images, flow)[0, 0, 0].tolist() == [min(max(step / 8, 0), 1), 1.0]


def ramp(slope: float = 0.1) -> torch.Tensor:
    flow = torch.zeros(1, 2, 28, 28, dtype=torch.float64)
    flow[:, 0] = slope * torch.arange(28, dtype=torch.float64).unsqueeze(1)
    return flow


def test_ramp_and_uniform_flow_in_closed_form() -> None:
    """Ramp: 4 a W (H-1) and 2 a W (H-1). Uniform: 0, or 4 (H+W-1) |f| and 2 (H+W) |f| against zero padding."""
    exact = {"epsilon": 0.0}
    assert float(FlowLoss(**exact).of(ramp())) == pytest.approx(302.4)
    assert float(FlowLoss(neighbours="von_neumann", **exact).of(ramp())) == pytest.approx(151.2)
    assert float(FlowLoss("mean", **exact).of(ramp())) == pytest.approx(302.4 / 784)
    assert float(FlowLoss("squared").of(ramp())) == pytest.approx(4 * 0.01 * 28 * 27)
    assert float(FlowLoss("global", **exact).of(ramp())) == pytest.approx(4 * 0.1 * (28 * 27) ** 0.5)
    flow = torch.zeros(1, 2, 9, 5, dtype=torch.float64)
    flow[:, 0], flow[:, 1] = 3.0, -4.0
    for kind, neighbours in product(("sum", "mean", "global", "squared"), ("diagonal", "von_neumann")):
        assert float(FlowLoss(kind, "replicate", neighbours, 0.0).of(flow)) == 0
    assert float(FlowLoss("sum", "zero", "diagonal", 0.0).of(flow)) == pytest.approx(4 * (9 + 5 - 1) * 5)
    assert float(FlowLoss("sum", "zero", "von_neumann", 0.0).of(flow)) == pytest.approx(2 * (9 + 5) * 5)


@pytest.mark.parametrize(("kind", "padding", "neighbours"), KINDS)
def test_flow_loss_like_the_double_sum(kind: str, padding: str, neighbours: str) -> None:
    """Pixel by pixel and neighbour by neighbour, as equation 4 is printed."""
    flow, height, width, epsilon = random_flow(pictures(2, 1, 4, 3)), 4, 3, 1e-3
    steps = product((-1, 1), (-1, 1)) if neighbours == "diagonal" else ((-1, 0), (1, 0), (0, -1), (0, 1))
    expected = torch.zeros(2, dtype=torch.float64)
    for down, right in steps:
        squares = []
        for r, c in product(range(height), range(width)):
            i, j = r + down, c + right
            beyond = not (0 <= i < height and 0 <= j < width) and padding == "zero"
            other = flow[:, :, min(max(i, 0), height - 1), min(max(j, 0), width - 1)] * (not beyond)
            squares.append((flow[:, :, r, c] - other).square().sum(1))
        every = torch.stack(squares)
        if kind == "global":
            expected += (every.sum(0) + epsilon).sqrt()
        else:
            expected += (every if kind == "squared" else (every + epsilon).sqrt()).sum(0)
    if kind == "mean":
        expected /= height * width
    torch.testing.assert_close(FlowLoss(kind, padding, neighbours, epsilon).of(flow), expected)


@pytest.mark.parametrize("epsilon", [1e-8, 0.0])
@pytest.mark.parametrize(("kind", "padding", "neighbours"), KINDS)
def test_flow_loss_gradients(kind: str, padding: str, neighbours: str, epsilon: float) -> None:
    loss = FlowLoss(kind, padding, neighbours, epsilon)
    still = torch.zeros(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss.of(still).sum(), still)
    assert not slope.any(), "zero, not NaN"
    flow = random_flow(pictures(2, 1, 4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(loss.of, flow)


def test_flow_loss_at_zero_is_the_epsilon_alone() -> None:
    assert float(FlowLoss().of(torch.zeros(1, 2, 28, 28, dtype=torch.float64))) == pytest.approx(0.3136)


def test_flow_loss_finds_the_flow_in_theta() -> None:
    images = pictures()
    flow, goal = random_flow(images), Goal(torch.zeros(3, dtype=torch.int64))
    space = Combined(images, Flow(images), "linf", 0.1)

    def point(theta: torch.Tensor) -> Point:
        return Point(torch.zeros(3, 2), goal, images, images, theta)

    joined = space.join(flow, torch.zeros_like(images))
    assert torch.equal(flow_of(point(joined)), flow)
    assert torch.equal(FlowLoss()(point(joined)), FlowLoss().of(flow))
    for theta in (images[:, :1], Affine(images).zero()):
        with pytest.raises(BlindspotsError, match=r"needs a flow \(B, 2, 6, 7\), got parameters of shape"):
            FlowLoss()(point(theta))


def test_sizes_of_a_flow() -> None:
    images = pictures(1, 1, 2, 2)
    flow = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    flow[0, :, 0, 1] = torch.tensor([3.0, -4.0])
    assert displacement(flow).tolist() == [[[0.0, 5.0], [0.0, 0.0]]]
    assert Flow(images).size(flow).tolist() == [1.25]
    clipped = Flow(images, limit=1.0).project(flow)
    assert clipped[0, :, 0, 1].tolist() == pytest.approx([0.6, -0.8])


def test_starts_of_a_flow() -> None:
    images, keys = pictures(40), key(0, torch.arange(40))
    assert not Flow(images).start(keys).any()
    drawn = Flow(images, "uniform").start(keys)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    drawn = Flow(images, "gaussian", 0.1).start(keys)
    assert drawn.std() == pytest.approx(0.1, abs=0.005)
    # A standard normal flow moves a pixel by more than 1 with probability exp(-1/2).
    far = (displacement(Flow(images, "gaussian").start(keys)) > 1).double().mean()
    assert far == pytest.approx(0.607, abs=0.03)


def test_turns_and_shifts_and_zooms() -> None:
    images = pictures(1, 1, 5, 5)
    space = Affine(images, rotation=90, shift=2, zoom=2)

    def seen(*theta: float) -> torch.Tensor:
        return space.apply(torch.tensor([theta], dtype=torch.float64), slice(None))

    torch.testing.assert_close(seen(1, 0, 0, 0), images.rot90(1, (2, 3)), msg="counter-clockwise")
    torch.testing.assert_close(seen(0, 1, 0, 0)[..., 2:, :], images[..., :-2, :], msg="down")
    assert not seen(0, 1, 0, 0)[..., :2, :].any(), "the constant comes in from above"
    torch.testing.assert_close(seen(0, 0, 1, 0)[..., 2:], images[..., :-2], msg="right")
    torch.testing.assert_close(seen(0, 0, 0, 1)[..., ::2, ::2], images[..., 1:4, 1:4], msg="twice as large")
    torch.testing.assert_close(seen(0, 0, 0, -1)[..., 1:4, 1:4], images[..., ::2, ::2], msg="half as large")
    parameters = space.parameters(torch.tensor([[0.5, -1, 0.25, -1]], dtype=torch.float64))
    assert parameters[0].tolist() == pytest.approx([45, -2, 0.5, 0.5])
    border = Affine(images, shift=2, fill="border")
    repeated = border.apply(torch.tensor([[0.0, 1, 0, 0]], dtype=torch.float64), slice(None))
    assert torch.equal(repeated[..., :2, :], images[..., :1, :].expand(1, 1, 2, 5))
    grey = Affine(images, shift=2, value=0.5).apply(torch.tensor([[0.0, 1, 0, 0]], dtype=torch.float64), slice(None))
    assert (grey[..., :2, :] == 0.5).all()


def test_affine_gradients_by_differences() -> None:
    images = pictures(1, 1, 5, 5)
    theta = torch.tensor([[0.31, 0.17, -0.23, 0.4]], dtype=torch.float64, requires_grad=True)
    for fill in ("constant", "border"):
        space = Affine(images, 20, 1.3, 1.4, fill, value=0.3)
        assert torch.autograd.gradcheck(lambda t, s=space: s.apply(t, slice(None)), theta)


def test_grid_of_affine_changes() -> None:
    images = pictures(2)
    grid = Affine(images, 30, 3).grid(31, 5)
    assert grid.shape == (31 * 25, 4)
    assert len(grid.unique(dim=0)) == 31 * 25
    assert (grid == 0).all(1).any(), "the unchanged image is on the grid"
    assert grid.abs().max() == 1
    assert len(Affine(images, 0, 3).grid(31, 5)) == 25, "a parameter that is switched off has one point"
    assert not Affine(images, 0, 3, 1).start(key(0, torch.arange(2)))[:, [0, 3]].any()


def test_combined_is_the_bend_and_then_delta() -> None:
    images = pictures()
    flow, space = random_flow(images, 0.4), Combined(images, Flow(images), "linf", 0.1, unit=10)
    delta = 0.3 * normal(key(9, torch.arange(3)), (2, 6, 7), torch.float64)
    theta = space.join(flow, delta)
    assert torch.equal(space.apply(theta, slice(None)), (warp(images, space.parts(theta)[0]) + delta).clamp(0, 1))
    torch.testing.assert_close(space.parts(theta)[0], flow)
    projected = space.project(theta)
    bend, inside = space.parts(projected)
    torch.testing.assert_close(bend, flow)
    bent = warp(images, bend)
    torch.testing.assert_close(inside, Additive(bent, "linf", 0.1).project(bent + delta) - bent)
    assert torch.equal(space.project(projected), projected), "what is inside stays as it is"
    with_flow = torch.autograd.grad(space.apply(projected.requires_grad_(), slice(None)).sum(), projected)[0]
    assert all(part.any() for part in space.parts(with_flow))


def test_mistakes_are_told_in_a_sentence() -> None:
    thin, images = torch.zeros(1, 1, 1, 8), pictures()
    for build in (Flow, Affine, lambda x: warp(x, torch.zeros(1, 2, 1, 8))):
        with pytest.raises(BlindspotsError, match="images of 1 x 8 pixels cannot be bent: bilinear reading needs"):
            build(thin)
    wrong = {
        "unknown start of a flow 'zeros': did you mean 'zero'": lambda: Flow(images, "zeros"),
        "spread of a flow's start must not be negative, got -1": lambda: Flow(images, "gaussian", -1),
        "limit of a flow must not be negative": lambda: Flow(images, limit=-0.5),
        "unknown fill 'zeros'": lambda: Affine(images, fill="zeros"),
        "largest zoom must be at least 1, got 0.5": lambda: Affine(images, zoom=0.5),
        "largest rotation must be at least 0, got -3": lambda: Affine(images, rotation=-3),
        "fill value must lie in": lambda: Affine(images, value=2),
        "at least one point for each parameter": lambda: Affine(images).grid(0),
        "takes a ball in linf, l2 or l1, got 'l0'": lambda: Combined(images, Flow(images), "l0", 1),
        "unit of the geometric part must be above 0": lambda: Combined(images, Flow(images), "l2", 1, unit=0),
        "FlowLoss.kind must be one of sum, mean, global, squared, got 'eq4'": lambda: FlowLoss("eq4"),
        "FlowLoss.padding must be one of": lambda: FlowLoss(padding="symmetric"),
        "FlowLoss.neighbours must be one of": lambda: FlowLoss(neighbours="moore"),
        "FlowLoss.epsilon must be at least 0, got -1": lambda: FlowLoss(epsilon=-1),
    }
    for message, build in wrong.items():
        with pytest.raises(BlindspotsError, match=message):
            build()


def test_read_takes_points_of_another_shape() -> None:
    images = pictures(1, 1, 3, 4)
    point = torch.full((1, 1, 1), 1.0, dtype=torch.float64)
    assert torch.equal(read(images, point, 2 * point)[0, 0, 0, 0], images[0, 0, 1, 2])


@dataclass(frozen=True)
class Bending(Attack):
    """A flow attack of a few lines, to put the spaces through the laws: margin and flow loss under Adam."""

    name, summary, norms = "bending", "a flow under Adam", ("linf",)
    kind: str = "flow"

    @property
    def rule(self) -> str:
        return "lowest"

    def space(self, images: torch.Tensor) -> Space:
        flow = Flow(images, "gaussian", 0.1, limit=1.5)
        affine = Affine(images, 40, 2, 1.3)
        kinds = {"flow": flow, "affine": affine, "both": Combined(images, flow, "linf", 0.02, unit=5)}
        return kinds[self.kind]

    def objective(self) -> Objective:
        rough = ((0.005, FlowLoss()),) if self.kind != "affine" else ()
        return Weighted(((1.0, Margin(0.0)), *rough))

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        if oracle.revive():
            descend(oracle, oracle.space.start(oracle.keys()), Adam(0.05), 12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("kind", ["flow", "affine", "both"])
def test_company_changes_nothing_and_successes_are_real(victim, kind: str, dtype: torch.dtype) -> None:
    attack, model = Bending(kind), victim.classifier(dtype)
    images = victim.images.to(dtype)
    whole = attack(model, images, victim.labels, index=victim.index)
    for rows, population in (([8, 3, 12, 0, 9, 5, 1, 11, 2, 10, 4, 7, 6], None), ([7], None), (list(range(13)), 3)):
        part = attack(model, images[rows], victim.labels[rows], index=victim.index[rows], population=population)
        assert torch.equal(part.images, whole.images[rows])
        assert torch.equal(part.forwards, whole.forwards[rows])
    assert (whole.success & whole.clean_correct).any()
    assert torch.equal(whole.success, model.logits(whole.images).argmax(1) != victim.labels)
    assert whole.images.min() >= 0
    assert whole.images.max() <= 1
    assert not whole.bad_gradients.any()
