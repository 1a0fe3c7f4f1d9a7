"""stAdv: a closed form, a trained victim, and what the ways to get it wrong do."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import BlindspotsError, Classifier, Result, StAdv
from blindspots.config import make_attack, make_attacks
from blindspots.flows import FlowLoss
from blindspots.training import cached_victim

COUNT = 24


@cache
def digits() -> tuple[Classifier, Tensor, Tensor]:
    """A trained network, and test images that it gets right."""
    model = bs.classifier(str(cached_victim("digits")), batch=8)
    images, labels, _ = bs.dataset("digits").batch(0, 2 * COUNT)
    right = (model.logits(images).argmax(1) == labels).nonzero().squeeze(1)[:COUNT]
    assert len(right) == COUNT
    return model, images[right], labels[right]


@cache
def attacked(targets: str | None = "random", **settings: Any) -> Result:
    model, images, labels = digits()
    return StAdv(**{"steps": 60, **settings})(model, images, labels, targets=targets)


def ramp(bright: float, threshold: float) -> tuple[Classifier, Tensor]:
    """A 2 x 2 image, dark on the left and bright on the right; z_0 - z_1 = right pixels - 2 * threshold."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
        net[1].bias.copy_(torch.tensor([-2 * threshold, 0.0]))
    image = torch.tensor([[0.0, bright], [0.0, bright]], dtype=torch.float64).view(1, 1, 2, 2)
    return Classifier(net, classes=2, batch=1), image


@pytest.mark.parametrize("targets", [None, 1])
@pytest.mark.parametrize("neighbours", ["diagonal", "von_neumann"])
def test_smallest_flow_on_a_linear_victim(neighbours: Any, targets: int | None) -> None:
    """Between the pixels margin = m + <g, f> is linear in the flow, and the squared flow loss is f'Qf: the smallest
    flow across the boundary is f = -m Q^-1 g / (g'Q^-1 g)."""
    bright, threshold = 0.8, 0.5
    model, image = ramp(bright, threshold)
    loss = FlowLoss("squared", "zero", neighbours)
    form = torch.autograd.functional.hessian(
        lambda f: loss.of(f.view(1, 2, 2, 2)).sum(), torch.zeros(8, dtype=torch.float64)
    )
    gradient = torch.tensor([0.0, 0, 0, 0, 0, bright, 0, bright], dtype=torch.float64)
    pull = torch.linalg.solve(form, gradient)
    flow = -2 * (bright - threshold) * pull / (gradient @ pull)
    length = flow.view(2, 2, 2).norm(dim=0)
    result = StAdv(flow_loss="squared", padding="zero", neighbours=neighbours)(
        model, image, torch.tensor([0]), targets=targets
    )
    assert result.success.all()
    torch.testing.assert_close(result.size["flow"], length.max().view(1), rtol=1e-3, atol=0)
    torch.testing.assert_close(result.size["flow_mean"], length.mean().view(1), rtol=1e-2, atol=0)


def test_kappa_is_the_margin_that_is_reached() -> None:
    model, image = ramp(0.8, 0.5)
    for kappa in (0.0, 0.1, 0.3):
        result = StAdv(kappa=kappa, flow_loss="squared", padding="zero")(model, image, torch.tensor([0]))
        assert result.success.all()
        assert -kappa - 0.02 <= float(result.margin) <= -kappa + 0.02


def test_shifts_are_free_unless_the_flow_is_padded_with_zeros() -> None:
    """Half a pixel to the left crosses the boundary. No tau hinders a shift with replicate padding."""
    model, image = ramp(0.8, 0.5)
    for padding, halvings, reached in (("replicate", 0, True), ("zero", 0, False), ("zero", 8, True)):
        attack = StAdv(flow_loss="squared", padding=padding, tau=5.0, halvings=halvings)
        assert bool(attack(model, image, torch.tensor([0])).success) is reached


@pytest.mark.parametrize("targets", [None, "random"])
def test_tau_search_reaches_every_image(targets: str | None) -> None:
    fixed, searched = attacked(targets, tau=0.8, halvings=0, restarts=0), attacked(targets, tau=0.8)
    assert searched.success.float().mean() >= (1.0 if targets is None else 0.95)
    # What the first tau has reached stays as it was: images leave with their first success.
    assert not (fixed.success & ~searched.success).any()
    assert torch.equal(searched.images[fixed.success], fixed.images[fixed.success])
    assert fixed.success.sum() < searched.success.sum()


def test_an_image_that_survives_every_tau_begins_anew_at_a_random_flow() -> None:
    """The zero flow is a kink: here the gradient of its one side is zero, as the pixel to the right is equal."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, 4], net[1].bias[:] = 1.0, torch.tensor([0.0, 0.8])
    image = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]]])
    model, label = Classifier(net, batch=1), torch.tensor([0])
    stuck, freed = (StAdv(restarts=n, flow_loss="global", tau=0.01)(model, image, label) for n in (0, 1))
    assert not stuck.success.any()
    assert stuck.size["flow"] == 0
    assert freed.success.all()


@pytest.mark.parametrize("targets", [None, "random"])
def test_smooth_flows_are_found_by_the_metric_of_smooth_flows(targets: str | None) -> None:
    """The same objective: with the identity every pixel goes its own way at first, and most never come together."""
    rough, smooth = (attacked(targets, smoothing=sides).size["flow_loss"] for sides in (0.0, 1.0))
    assert smooth.median() < 0.9 * rough.median()
    with pytest.raises(BlindspotsError, match="smoothing"):
        StAdv(smoothing=-1.0)


def test_adam_solves_it_too() -> None:
    assert attacked(solver="adam").success.float().mean() >= 0.95


def test_bent_images_stay_between_their_darkest_and_brightest_pixel() -> None:
    _, images, _ = digits()
    result = attacked()
    bent, clean = result.images.flatten(1), images.flatten(1)
    assert (bent.amin(1) >= clean.amin(1)).all()
    assert (bent.amax(1) <= clean.amax(1)).all()
    assert (result.size["flow"] > 0).all()
    assert (result.size["flow_mean"] <= result.size["flow"]).all()


def test_flows_keep_to_their_limit() -> None:
    result = attacked(radius=0.5)
    assert (result.size["flow"] <= 0.5 * (1 + 1e-6)).all()
    assert 0 < result.success.sum() <= attacked().success.sum()


def test_the_gradient_at_zero_flow_is_finite() -> None:
    assert not attacked().bad_gradients.any()
    assert not attacked(flow_loss="global").bad_gradients.any()


class Softmax(nn.Module):
    """A victim that answers with its probabilities and is sure of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return (10 * self.net(x)).softmax(1)


def test_a_softmax_inside_the_victim_is_why_nothing_moves() -> None:
    model, images, labels = digits()
    # From the unchanged image: a restart from a wide random flow tears such small images before the search begins.
    once = StAdv(steps=40, halvings=0, restarts=0)
    for attack in (once, dataclasses.replace(once, flow_loss="global")):
        result = attack(Classifier(Softmax(model.module), classes=10, batch=8), images, labels, targets="random")
        assert result.success.sum() <= 1
        assert float(result.size["flow"].median()) < 1e-3
        flag = next(flag for flag in result.flags if flag.code == "probabilities")
        assert flag.severity == "error"
        assert "softmax" in flag.text


def test_the_final_iterate_is_a_coin_toss_where_the_best_succeeds() -> None:
    """At kappa = 0 the minimum lies on the boundary; a margin in kappa makes the final iterate a success too."""
    model, images, labels = digits()
    targets = (labels + 1) % 10
    shares = {}
    for kappa in (0.0, 0.5):
        once = StAdv(flow_loss="global", kappa=kappa, halvings=0, restarts=0, steps=150)
        attacks = [dataclasses.replace(once, iterate=iterate) for iterate in ("final", "best")]
        shares[kappa] = [int(attack(model, images, labels, targets=targets).success.sum()) for attack in attacks]
    assert shares[0.0][0] <= shares[0.0][1] - 3
    assert shares[0.5][0] >= shares[0.5][1] - 1


def test_the_final_iterate_of_a_random_start_is_not_the_unchanged_image() -> None:
    model, images, labels = digits()
    result = StAdv(tau=1e3, halvings=0, steps=1, start="gaussian", spread=1.0, iterate="final")(model, images, labels)
    assert (result.size["flow_mean"] > 0.1)[result.clean_correct].all()


def test_colour_images_of_odd_sizes_bend_all_channels_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 5, 9, generator=draw).repeat(1, 3, 1, 1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 9, 4))
    labels = net(images).argmax(1)
    result = StAdv(steps=50)(Classifier(net, classes=4, batch=3), images, labels)
    assert result.success.any()
    assert torch.equal(result.images[:, 0], result.images[:, 1])
    assert torch.equal(result.images[:, 0], result.images[:, 2])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kappa": -0.5}, "StAdv.kappa must not be negative: it enters as max(margin, -kappa), so that larger values"),
        ({"tau": 0.0}, "StAdv.tau must be above 0, got 0"),
        ({"tau": -1.0}, "StAdv.tau must be above 0, got -1"),
        ({"radius": "-1"}, "radius must be a finite number that is not negative, got -1"),
        ({"restarts": -1}, "StAdv.restarts must be at least 0, got -1"),
        ({"iterate": "last"}, "StAdv.iterate must be one of best, final, got 'last'"),
        ({"tolerance": -1.0}, "StAdv.tolerance must be at least 0, got -1"),
        ({"flow_loss": "tv"}, "StAdv.flow_loss must be one of sum, mean, global, squared, got 'tv'"),
        ({"padding": "reflect"}, "StAdv.padding must be one of replicate, zero, got 'reflect'"),
        ({"neighbours": "moore"}, "StAdv.neighbours must be one of diagonal, von_neumann, got 'moore'"),
        ({"start": "one"}, "StAdv.start must be one of zero, gaussian, uniform, got 'one'"),
        ({"solver": "sgd"}, "StAdv.solver must be one of lbfgs, adam, got 'sgd'"),
        ({"steps": 0}, "StAdv.steps must be at least 1, got 0"),
        ({"halvings": -1}, "StAdv.halvings must be at least 0, got -1"),
    ],
)
def test_impossible_settings_are_told_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        StAdv(**settings)
    assert str(caught.value).startswith(sentence)


def test_images_too_small_to_bend_and_targets_equal_to_labels_are_refused() -> None:
    net = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(8, 3)), classes=3, batch=2)
    with pytest.raises(BlindspotsError, match="images of 1 x 8 pixels cannot be bent"):
        StAdv()(net, torch.rand(2, 1, 1, 8), torch.tensor([0, 1]))
    model, images, labels = digits()
    with pytest.raises(BlindspotsError, match="targets must differ from the labels, but 24 of 24 are equal"):
        StAdv()(model, images, labels, targets=labels)


def test_a_radius_need_not_be_given() -> None:
    assert make_attack({"name": "stadv"}) == StAdv()
    assert make_attacks([{"name": "stadv"}], None, ()) == [StAdv()]
    assert make_attacks([{"name": "stadv"}], None, ("1", "2")) == [StAdv("1"), StAdv("2")]


def test_a_run_reports_displacements_and_exports_only_what_has_a_radius(tmp_path: Path) -> None:
    model, images, labels = digits()
    attacks = [dataclasses.replace(StAdv(), steps=40, halvings=2), bs.FGSM("0.1")]
    run = bs.evaluate(model, (images[:12], labels[:12]), attacks=attacks, out=tmp_path / "run")
    bent, other = run.job_ids
    assert bent == "00-stadv-flow-5.0"
    rows, summary = run.rows(bent), bs.evaluation.summary.summarise(run)
    assert (rows["size_flow"].to_numpy() >= rows["size_flow_mean"].to_numpy()).all()
    assert set(summary["jobs"][0]["sizes"]) == {"l0", "l1", "l2", "linf", "flow", "flow_mean", "flow_loss"}
    assert set(summary["jobs"][1]["sizes"]) == {"l0", "l1", "l2", "linf"}
    assert "size_flow" not in run.rows(other).column_names
    page = (run.path / "report.html").read_text()
    assert "How far images are bent" in page
    assert bs.Run(run.path).verdicts(bent).sizes["flow"].max() <= 5
    with pytest.raises(BlindspotsError, match=f"the images of the job '{bent}' are bent"):
        bs.export(run.path, tmp_path / "out", format="npz", model=model)
    done = bs.export(run.path, tmp_path / "out", format="npz", model=model, jobs=[other])
    assert done.jobs[0].job == other
