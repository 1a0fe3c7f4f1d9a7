"""Fits of generative methods: closed forms on linear victims, bounds, resume, and a victim that stays as it was."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import BlindspotsError, Classifier, Direct, Discriminated, FixedNoise, Thresholded, UniversalPGD
from blindspots.generative import loop
from blindspots.generative.method import Method, Price
from blindspots.universal.perturbation import KEY

TINY: dict[str, Any] = {"generator_settings": {"width": 4, "norm": "none", "fine": 4}, "minibatch": 16, "epochs": 2}
METHODS: dict[str, Method] = {
    "direct": Direct(aim=1.0, **TINY),
    "direct-tanh": Direct(head="tanh", **TINY),
    "thresholded-l2": Thresholded(0.7, "l2", **TINY),
    "thresholded-linf": Thresholded("12/255", loss="least-likely", **TINY),
    "thresholded-paper": Thresholded(0.7, "l2", exact=False, loss="log-ce", leave="predictions", **TINY),
    "fixed-noise": FixedNoise(0.7, "l2", **TINY),
    "discriminated": Discriminated(**TINY),
    "universal-pgd": UniversalPGD(0.7, "l2", minibatch=16, epochs=2),
}
NAMES = pytest.mark.parametrize("name", METHODS)


class Normed(nn.Module):
    """A small network with batch norm, left in training mode, one weight frozen and one with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(60, 1, 8, 8, generator=draw), torch.randint(3, (60,), generator=draw)


def victim_net() -> Normed:
    torch.manual_seed(1)
    net = Normed()
    net.conv.weight.requires_grad_(False)
    net.head.weight.grad = torch.ones_like(net.head.weight)
    net.norm.running_mean += 0.3
    return net


def contents(done: bs.Perturbation) -> dict[str, Tensor]:
    return done.tensors()


def same(left: bs.Perturbation, right: bs.Perturbation) -> bool:
    one, other = contents(left), contents(right)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@NAMES
def test_a_fit_leaves_the_victim_and_the_random_state_as_they_were(name: str, images: tuple[Tensor, Tensor]) -> None:
    net = victim_net()
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    METHODS[name].fit(Classifier(net, batch=8), images)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True, True, True]
    assert [p.grad is not None for p in net.parameters()] == [False, False, False, False, True, False]
    assert torch.equal(net.head.weight.grad, torch.ones_like(net.head.weight))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), random)


@NAMES
def test_seeds_and_files_give_the_same_bits(name: str, images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    model, x = Classifier(victim_net(), batch=8), images[0]
    done = METHODS[name].fit(model, images, seed=3)
    assert same(done.perturbation, METHODS[name].fit(model, images, seed=3).perturbation)
    assert not same(done.perturbation, METHODS[name].fit(model, images, seed=4).perturbation)
    loaded = bs.Perturbation.load(done.perturbation.save(tmp_path / "v.safetensors"))
    assert type(loaded) is type(done.perturbation)
    assert same(loaded, done.perturbation)
    assert torch.equal(loaded.apply(x), done.perturbation.apply(x))
    assert (loaded.norm, str(loaded.radius), loaded.meta) == (
        done.perturbation.norm, str(done.perturbation.radius), done.perturbation.meta,
    )  # fmt: skip
    assert loaded.shape == (1, 8, 8)
    assert loaded.to_image(x[0]).shape == (1, 8, 8)
    assert set(loaded.size) == {"linf", "l2", "l1", "l0"}


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_image_stays_in_its_ball_alone_or_in_company(
    name: str, dtype: torch.dtype, images: tuple[Tensor, Tensor]
) -> None:
    v = METHODS[name].fit(Classifier(victim_net(), batch=8), images).perturbation
    x = images[0].to(dtype)
    x[:20] = x[:20].round()
    changed = v.apply(x)
    assert changed.dtype == dtype
    assert 0 <= changed.min() <= changed.max() <= 1
    size = bs.geometry.NORMS[v.norm].size((changed - x).double())
    assert (size <= float(v.radius) + 1e-6).all()
    assert torch.equal(v.apply(x[7:9]), changed[7:9])
    if name in ("fixed-noise", "universal-pgd"):
        assert v.delta.any()  # type: ignore[attr-defined]
        assert torch.equal(changed, (x + v.delta.to(x)).clamp(0, 1))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["thresholded-l2", "discriminated", "direct", "universal-pgd"])
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(
    name: str, images: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE", 0.0)
    model, path = Classifier(victim_net(), batch=8), tmp_path / "checkpoint"
    method = METHODS[name]
    whole = method.fit(model, images)
    steps = 0
    step = loop.Loop._step

    def killed(self: Any, rows: Tensor) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise RuntimeError("killed")
        step(self, rows)

    with monkeypatch.context() as once:
        once.setattr(loop.Loop, "_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            method.fit(model, images, checkpoint=path)
    assert path.exists()
    with pytest.raises(BlindspotsError, match="is the checkpoint of another fit"):
        method.fit(model, images, seed=1, checkpoint=path)
    with pytest.raises(BlindspotsError, match="is the checkpoint of another fit"):
        replace(method, minibatch=8).fit(model, images, checkpoint=path)
    again = method.fit(model, images, checkpoint=path)
    assert same(whole.perturbation, again.perturbation)
    assert (whole.forwards, whole.backwards) == (again.forwards, again.backwards)
    assert whole.perturbation.meta == again.perturbation.meta
    assert not path.exists()
    path.write_bytes(b"cut off")
    with pytest.raises(BlindspotsError, match="is damaged"):
        method.fit(model, images, checkpoint=path)


@pytest.mark.parametrize("method", [Thresholded(0.0, **TINY), Thresholded(0.0, "l2", **TINY), FixedNoise(0.0, **TINY)])
def test_a_radius_of_zero_changes_nothing(method: Method, images: tuple[Tensor, Tensor]) -> None:
    done = method.fit(Classifier(victim_net(), batch=8), images)
    assert torch.equal(done.perturbation.apply(images[0]), images[0])
    assert done.held_out.fooling["count"] == done.fitted_on.fooling["count"] == 0
    assert done.sizes["l2"]["most"] == 0


def two_classes() -> tuple[Classifier, Tensor]:
    """z_0 - z_1 = <w, x - grey> + 1: all images near grey are of class 0. w has one sign in each quarter."""
    sign = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat_interleave(4, 0).repeat_interleave(4, 1).flatten()
    w = sign * (0.5 + torch.rand(64, generator=torch.Generator().manual_seed(5)))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w, torch.zeros_like(w)]))
        net[1].bias.copy_(torch.tensor([1.0 - 0.5 * float(w.sum()), 0.0]))
    return Classifier(net, batch=8), w


def near_grey(count: int = 96) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return 0.5 + 0.1 * (torch.rand(count, 1, 8, 8, generator=draw) - 0.5), torch.zeros(count, dtype=torch.int64)


def test_the_optimal_universal_change_of_a_linear_victim_is_found() -> None:
    """In linf -radius * sign(w), in l2 -radius * w / ||w||: there the margin of every image is least."""
    model, w = two_classes()
    for norm, best in (("linf", -0.02 * w.sign()), ("l2", -0.2 * w / w.norm())):
        method = UniversalPGD(float(best.norm()) if norm == "l2" else 0.02, norm, minibatch=16, epochs=6, kappa=50)  # type: ignore[arg-type]
        found = method.fit(model, near_grey()).perturbation.delta.flatten()  # type: ignore[attr-defined]
        torch.testing.assert_close(found, best, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("targets", [None, 1])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", [Thresholded, FixedNoise])
def test_networks_come_near_the_optimum_of_a_linear_victim(kind: Any, norm: str, targets: int | None) -> None:
    """<w, x - x'> cannot exceed radius * ||w||_dual; a network that is fitted for a second comes within 15 % of it."""
    model, w = two_classes()
    x, y = near_grey()
    settings = {**TINY, "epochs": 14, "kappa": 50.0, "rate": 1e-2, "average": 0.9}
    v = kind(0.1, norm, **settings).fit(model, (x, y), targets=targets).perturbation
    gained = ((x - v.apply(x)).flatten(1) * w).sum(1)
    most = 0.1 * float(w.abs().sum() if norm == "linf" else w.norm())
    assert (gained <= most * (1 + 1e-5)).all()
    assert (gained >= 0.85 * most).all()


def test_the_price_of_a_change_is_what_it_says_and_an_aim_steers_its_weight() -> None:
    x = torch.zeros(2, 1, 1, 2)
    changed = torch.tensor([[[[0.6, 0.8]]], [[[0.0, 0.2]]]])  # of l2 sizes 1 and 0.2
    critic = nn.Conv2d(1, 1, 1)
    nn.init.constant_(critic.weight, 0.0)
    nn.init.constant_(critic.bias, 0.5)  # type: ignore[arg-type]
    price = Price(size=2.0, free=0.5, realism=4.0)
    assert loop.price_of(price, 3.0, x, changed, critic).item() == pytest.approx(2 * 3 * 0.5 / 2 + 4 * 0.25)
    assert loop.price_of(Price(), 3.0, x, changed, None).item() == 0
    assert loop.steered(Price(), 3.0, x, changed) == 3.0
    assert loop.steered(Price(size=1, aim=0.6), 3.0, x, changed) == pytest.approx(3.0)
    weight = 1.0
    for _ in range(70):
        weight = loop.steered(Price(size=1, aim=0.3), weight, x, changed)
    assert 1.9 < weight < 2.1


def test_several_victims_are_fooled_at_once_and_others_measured(images: tuple[Tensor, Tensor]) -> None:
    first, second, third = (Classifier(victim_net(), batch=8, name=name) for name in ("a", "b", "c"))
    done = METHODS["thresholded-l2"].fit([first, second], images, weights=[1.0, 2.0], others=[third])
    assert list(done.transfer) == ["1 b", "2 c"]
    assert done.transfer["1 b"] == done.transfer["2 c"] == done.held_out
    assert done.backwards == 2 * 2 * 57  # two passes over the images that are not held out, two victims


class PerPixel(nn.Module):
    """Bright pixels are of class 1, dark ones of class 0, and class 2 is far."""

    def forward(self, x: Tensor) -> Tensor:
        bright = 8 * (x[:, 0] - 0.5)
        return torch.stack([-bright, bright, torch.full_like(bright, -9.0)], 1)


@pytest.mark.parametrize("target", [None, "all", "map"])
def test_a_victim_may_answer_every_pixel(target: str | None, images: tuple[Tensor, Tensor]) -> None:
    model = Classifier(PerPixel(), batch=8, per_pixel=True)
    aim = {None: None, "all": 1, "map": torch.arange(64).view(8, 8) % 2}[target]
    settings = {**TINY, "epochs": 12, "rate": 1e-2, "average": 0.9}
    dark = (0.4 * images[0], images[1])
    done = Thresholded("1", **settings).fit(model, dark, targets=aim)
    assert done.held_out.fooling["of"] == 3
    assert done.held_out.fooling["value"] == 1.0  # to brighten is all that is to be learnt
    assert done.held_out.clean["value"] == 1.0
    with pytest.raises(BlindspotsError, match="needs one answer an image, and 'PerPixel' answers every pixel"):
        bs.PGD("0.1")(model, images[0], images[1])
    with pytest.raises(BlindspotsError, match=r"logits \(1, K, H, W\), got \(1, 3\)"):
        Classifier(victim_net(), batch=1, per_pixel=True).logits(images[0][:1])


def test_files_that_hold_no_network_are_refused(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    made = METHODS["thresholded-linf"].fit(Classifier(victim_net(), batch=8), images).perturbation
    path, about = tmp_path / "v.safetensors", made.meta["generator"]
    for tensors, generator, told in (
        (made.tensors(), None, "is not a readable perturbation file"),
        ({"other": torch.zeros(2)}, about, "the weights do not belong to a unet with the settings"),
        ({k: v * float("nan") for k, v in made.tensors().items()}, about, "must be finite"),
        (made.tensors(), {**about, "name": "unett"}, "generator 'unett'"),
    ):
        meta = {} if generator is None else {"generator": generator}
        told_ = {"format": 1, "norm": "linf", "radius": "0.1", "method": "test", "meta": meta}
        safetensors.torch.save_file(tensors, path, metadata={KEY: json.dumps(told_)})
        with pytest.raises(BlindspotsError) as caught:
            bs.Perturbation.load(path)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(BlindspotsError, match=r"Universal.norm is l2, but .* holds a perturbation of linf"):
        bs.Universal(path=str(made.save(path)), norm="l2")


def test_mistakes_are_one_sentence(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    model = Classifier(victim_net(), batch=8)
    cases: list[tuple[Any, str]] = [
        (lambda: Thresholded(3), "Thresholded.radius 3 is larger than 1"),
        (lambda: Thresholded(0.1, "l1"), "Thresholded.norm must be one of linf, l2, got 'l1'"),  # type: ignore[arg-type]
        (lambda: Thresholded(0.1, average=1.0), "Thresholded.average must be below 1"),
        (lambda: Direct(head="relu"), "Direct.head must be one of tanh, sigmoid, got 'relu'"),  # type: ignore[arg-type]
        (lambda: FixedNoise(0.1, generator_settings={"norm": "batch"}), "needs more than one image"),
        (lambda: UniversalPGD(0.1, held_out=1.0), "UniversalPGD.held_out must be below 1"),
        (lambda: METHODS["direct"].fit(model, images, targets=3), "targets must be classes from 0 to 2"),
        (lambda: METHODS["direct"].fit([], images), "give at least one"),
        (lambda: METHODS["direct"].fit(model, images).perturbation.to_image(), "give to_image an image (C, H, W)"),
        (
            lambda: METHODS["direct"].fit(model, images).perturbation.apply(torch.rand(1, 1, 9, 9)),
            "is for images of shape (1, 8, 8), got images of shape (1, 9, 9)",
        ),
    ]
    for call, told in cases:
        with pytest.raises(BlindspotsError) as caught:
            call()
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
