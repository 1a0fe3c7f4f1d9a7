"""UAP: closed forms on linear victims, the ball, seeds, targets, and rates on images that were not fitted on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import UAP, BlindspotsError, Classifier
from blindspots.settings import plain
from blindspots.universal import METHODS, Fitted
from blindspots.universal.fitted import Watched, split

PIXELS = 16
SHAPE = (1, 4, 4)


def two_classes() -> tuple[nn.Module, Tensor]:
    """z_0 - z_1 = <w, x - grey> + 1."""
    w = torch.randn(PIXELS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w, torch.zeros_like(w)]))
        net[1].bias.copy_(torch.tensor([1.0 - 0.5 * float(w.sum()), 0.0], dtype=torch.float64))
    return net.eval(), w


def of_one_class(count: int = 20) -> tuple[Tensor, Tensor]:
    """Images near grey, all of class 0 for `two_classes`."""
    draw = torch.Generator().manual_seed(1)
    images = 0.5 + 0.1 * (torch.rand(count, *SHAPE, generator=draw) - 0.5)
    return images, torch.zeros(count, dtype=torch.int64)


def gaps(w: Tensor, images: Tensor) -> Tensor:
    return ((images.double() - 0.5).flatten(1) * w).sum(1) + 1


def dual(w: Tensor, norm: str) -> float:
    return float(w.abs().sum() if norm == "linf" else w.norm())


def steepest(w: Tensor, norm: str) -> Tensor:
    """The direction of unit size that lowers <w, x> most."""
    return (-w.sign() if norm == "linf" else -w / w.norm()).view(SHAPE)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_perturbation_fools_every_image_of_a_class(norm: str) -> None:
    """v = -c * the steepest direction; all are fooled from c = the largest distance on, and no step passes 1.02 times.

    A step goes from x + v to the boundary of that image, and 2 % further.
    """
    net, w = two_classes()
    images, labels = of_one_class()
    far = float(gaps(w, images).max()) / dual(w, norm)
    done = UAP(2 * far, norm=norm, rate=1.0).fit(Classifier(net, batch=4), (images, labels))
    v = done.perturbation
    assert done.reached
    assert done.epochs == 1
    fitted_far = float(gaps(w, images[split_rows(images)[0]]).max()) / dual(w, norm)
    assert fitted_far <= v.size[norm] <= 1.02 * fitted_far * (1 + 1e-9)
    torch.testing.assert_close(v.delta, v.size[norm] * steepest(w, norm), rtol=1e-6, atol=1e-12)
    assert done.fitted_on.fooling["value"] == 1.0
    assert done.fitted_on.robust["value"] == 0.0
    assert done.fitted_on.clean["value"] == 1.0


def split_rows(images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    return split(bs.dataset((images, torch.zeros(len(images), dtype=torch.int64))), 0.2, seed, None)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_ball_that_is_too_small_is_used_up(norm: str) -> None:
    """Then v = radius * the steepest direction, and exactly the images nearer than the radius are fooled."""
    net, w = two_classes()
    images, labels = of_one_class(40)
    distances = gaps(w, images) / dual(w, norm)
    # Between two images: one at the radius itself would be decided by rounding.
    radius = float(distances.sort().values[19:21].mean())
    done = UAP(radius, norm=norm, rate=1.0, epochs=2).fit(Classifier(net, batch=4), (images, labels))
    torch.testing.assert_close(done.perturbation.delta, radius * steepest(w, norm), rtol=1e-6, atol=0)
    rows, held = split_rows(images)
    for part, rates in ((rows, done.fitted_on), (held, done.held_out)):
        assert rates.fooling["count"] == int((distances[part] < radius).sum())
        assert rates.robust["count"] == rates.fooling["of"] - rates.fooling["count"]
    assert not done.reached
    assert done.epochs == 2


def sequential(w: Tensor, images: Tensor, order: Tensor, norm: str, radius: float) -> Tensor:
    """The paper's update, image by image, with the exact step of a linear network."""
    v = torch.zeros(SHAPE, dtype=torch.float64)
    for row in order.tolist():
        gap = float(gaps(w, (images[row].double() + v).unsqueeze(0)))
        if gap > 0:
            v = v + 1.02 * gap / dual(w, norm) * steepest(w, norm)
            size = float(v.abs().max() if norm == "linf" else v.norm())
            v = v * min(1.0, radius / size)
    return v


@pytest.mark.parametrize("screen", [1, 5, 64])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_the_papers_update_image_by_image(norm: str, screen: int) -> None:
    """With one class on this side of one boundary no step undoes another, so that screening changes nothing."""
    net, w = two_classes()
    images, labels = of_one_class()
    data = bs.dataset((images, labels))
    radius = 2 * float(gaps(w, images).max()) / dual(w, norm)
    model = Classifier(net, batch=4)
    done = UAP(radius, norm=norm, epochs=1, screen=screen).fit(model, data, seed=7)
    rows, _ = split(data, 0.2, 7, None)
    with model.session():
        order = rows[Watched(model, data, rows, None).order(7, 0)]
    expected = sequential(w, images, order, norm, radius)
    torch.testing.assert_close(done.perturbation.delta, expected, rtol=1e-9, atol=1e-12)


def test_a_step_that_the_box_cuts_off_arrives_all_the_same() -> None:
    """Three classes by brightness, with bounds at 0.3 and 0.7: black images must rise by 0.3, bright ones fall by 0.05.

    A v that is negative leaves black images black, so the step to them has to begin at black, not at x + v; a v that is
    positive leaves bright ones white. The image that is visited last is fooled in any order.
    """
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]))
        net[1].bias.copy_(torch.tensor([0.0, -0.3, -1.0], dtype=torch.float64))
    images = torch.tensor([0.0, 0.75, 0.0, 0.75]).view(4, 1, 1, 1).repeat(1, 1, 1, 2)
    labels = torch.tensor([0, 2, 0, 2])
    data, model = bs.dataset((images, labels)), Classifier(net, batch=1)
    assert torch.equal(model.logits(images).argmax(1), labels)
    rows, _ = split(data, 0.2, 0, None)
    assert set(labels[rows].tolist()) == {0, 2}
    v = UAP("0.9", epochs=1, rate=1.0, screen=1).fit(model, data).perturbation
    with model.session():
        last = rows[Watched(model, data, rows, None).order(0, 0)][-1:]
    assert not torch.equal(model.logits(v.apply(images[last])).argmax(1), labels[last])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ball_box_and_rates_hold_when_derived_again(victim, norm: str, dtype: torch.dtype) -> None:
    radius = {"linf": 0.1, "l2": 0.6}[norm]
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    net = victim.module(dtype)
    labels = net(images.to(dtype)).argmax(1)
    labels[::7] = (labels[::7] + 1) % 5
    done = UAP(radius, norm=norm, epochs=2).fit(Classifier(net, batch=8), (images, labels))
    v = done.perturbation
    assert v.delta.dtype == dtype
    assert 0 < v.size[norm] <= radius * (1 + 1e-6)
    rows, held = split(bs.dataset((images, labels)), 0.2, 0, None)
    assert sorted([*rows.tolist(), *held.tolist()]) == list(range(60))
    assert len(held) == 12
    for part, rates in ((rows, done.fitted_on), (held, done.held_out)):
        clean, changed = images[part].to(dtype), v.apply(images[part].to(dtype))
        assert ((changed >= 0) & (changed <= 1)).all()
        with torch.no_grad():
            before, after = net(clean).argmax(1), net(changed).argmax(1)
        right = before == labels[part]
        assert rates.fooling["count"] == int((before != after).sum())
        assert rates.robust["count"] == int((right & (after == labels[part])).sum())
        assert rates.clean["count"] == int(right.sum())
        assert {rates.fooling["of"], rates.robust["of"], rates.clean["of"]} == {len(part)}
        assert rates.fooling["low"] <= rates.fooling["value"] <= rates.fooling["high"]
    assert done.fitted_on.fooling["value"] > 0.2, "the test would be idle"


class Asking(nn.Module):
    """Notes which images are asked for gradients."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.asked = net, []
        self.forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if x.requires_grad:
            self.asked.append(x.detach().clone())
        return self.net(x)


def test_held_out_images_are_not_fitted_on_and_passes_are_counted(victim) -> None:
    images = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    net = Asking(victim.module())
    labels = net.net(images.double()).argmax(1)
    data = bs.dataset((images, labels))
    net.forwards = 0
    done = UAP(0.02, epochs=1).fit(Classifier(net, classes=5, batch=1), data)
    rows, held = split(data, 0.2, 0, None)
    asked = torch.cat(net.asked).flatten(1)
    nearest = torch.cdist(asked, images.double().flatten(1), p=float("inf"))
    # DeepFool leaves the ball, but its first point of each image is x + v.
    firsts = nearest.min(1).values <= 0.02 + 1e-9
    assert firsts.any()
    assert set(nearest.argmin(1)[firsts].tolist()) <= set(rows.tolist())
    assert set(held.tolist()).isdisjoint(rows.tolist())
    assert net.forwards == done.forwards
    assert done.backwards > 0


def test_a_target_is_what_the_images_become(victim) -> None:
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    net = victim.module()
    with torch.no_grad():
        before = net(images.double()).argmax(1)
    for target in range(5):
        done = UAP(0.25, epochs=3).fit(Classifier(net, batch=8), (images, before), targets=target)
        rows, held = split(bs.dataset((images, before)), 0.2, 0, None)
        for part, rates in ((rows, done.fitted_on), (held, done.held_out)):
            with torch.no_grad():
                after = net(done.perturbation.apply(images[part].double())).argmax(1)
            other = before[part] != target
            assert rates.fooling["of"] == int(other.sum())
            assert rates.fooling["count"] == int((after[other] == target).sum())
        assert done.fitted_on.fooling["value"] >= 0.5
        assert done.perturbation.meta["target"] == target


def same(a: Fitted, b: Fitted) -> bool:
    return torch.equal(a.perturbation.delta, b.perturbation.delta) and a.perturbation.meta == b.perturbation.meta


def test_a_seed_decides_everything(victim) -> None:
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = victim.module()(images.double()).argmax(1)

    def fit(seed: int, **settings: int) -> Fitted:
        torch.rand(7)  # the global random state plays no part
        return UAP(0.05, epochs=2, **settings).fit(victim.classifier(), (images, labels), seed=seed)

    first = fit(0)
    assert same(first, fit(0))
    assert not torch.equal(first.perturbation.delta, fit(1).perturbation.delta)
    assert first.held_out.fooling["of"] == 8


def test_a_limit_takes_fewer_images(victim) -> None:
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = victim.module()(images.double()).argmax(1)
    done = UAP(0.05, epochs=1, held_out=0.25).fit(victim.classifier(), (images, labels), limit=12)
    assert (done.fitted_on.fooling["of"], done.held_out.fooling["of"]) == (9, 3)


def test_nothing_is_left_behind(victim) -> None:
    module = victim.module().train()
    images = torch.rand(12, 1, 8, 8)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    UAP(0.05, epochs=1).fit(module, (images, torch.arange(12) % 5))
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_radius_zero_fools_nothing(victim) -> None:
    images = torch.rand(10, 1, 8, 8)
    labels = victim.module()(images.double()).argmax(1)
    done = UAP(0, epochs=1).fit(victim.classifier(), (images, labels))
    assert not done.perturbation.delta.any()
    assert done.fitted_on.fooling["count"] == 0
    assert done.fitted_on.robust["value"] == 1.0


class Flat(nn.Module):
    """Answers with constants: no gradient leads anywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * 0 + torch.tensor([1.0, 0.0, 0.5])


def test_a_search_that_finds_nothing_says_so(victim) -> None:
    images, labels = torch.rand(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64)
    with pytest.raises(BlindspotsError, match="no step that fools an image was found for any of 5 images within 10"):
        UAP(0.1).fit(Classifier(Flat(), batch=4), (images, labels))
    with pytest.raises(BlindspotsError, match="none of the 5 images can be fooled: all are predicted as the target"):
        UAP(0.1).fit(Classifier(Flat(), batch=4), (images, labels), targets=0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: UAP("wide"), "radius 'wide' is not a number: write it as 0.03 or 8/255, in pixel units of [0, 1]"),
        (lambda: UAP(0.1, norm="l1"), "UAP.norm must be one of linf, l2, got 'l1'"),
        (lambda: UAP(0.1, epochs=0), "UAP.epochs must be at least 1, got 0"),
        (lambda: UAP(0.1, rate=0), "UAP.rate must be above 0, got 0"),
        (lambda: UAP(0.1, rate=1.5), "UAP.rate must be at most 1, got 1.5"),
        (lambda: UAP(0.1, screen=2.5), "UAP.screen must be a whole number, got 2.5"),
        (lambda: UAP(0.1, overshoot=-1), "UAP.overshoot must be at least 0, got -1"),
        (lambda: UAP(0.1, held_out=1), "UAP.held_out must be below 1, got 1"),
    ],
)
def test_impossible_settings_are_refused(make, sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        make()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"targets": 9}, "targets must be one class from 0 to 4"),
        ({"targets": "random"}, "targets must be one class from 0 to 4"),
        ({"limit": 1}, "limit must be a whole number of at least 2, got 1"),
    ],
)
def test_calls_that_cannot_be_are_refused(victim, given: dict[str, object], sentence: str) -> None:
    with pytest.raises(BlindspotsError, match=sentence):
        UAP(0.1).fit(victim.classifier(), (torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)), **given)
    with pytest.raises(BlindspotsError, match="at least 2 images"):
        UAP(0.1).fit(victim.classifier(), (torch.rand(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)))


def test_settings_are_plain_values() -> None:
    uap = UAP("10/255", norm="l2")
    assert UAP(**plain(uap)) == uap
    assert hash(UAP(**plain(uap))) == hash(uap)
    assert plain(uap)["radius"] == "10/255"
    assert METHODS["uap"] is UAP
    assert math.isclose(float(uap.radius), 10 / 255)
