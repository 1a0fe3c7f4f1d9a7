"""Training methods: what all of them keep to, and the closed forms and identities of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blindspots.errors import BlindspotsError
from blindspots.models import build, save_model
from blindspots.training import METHODS, PRESETS, TrainSettings, preset
from blindspots.training.awp import moved_weights
from blindspots.training.methods import check_ball, make_method
from blindspots.training.step import Step

RADIUS = 0.1

# Settings that make a method small; one entry a method, SOURCE standing for a model file.
SMALL: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"radius": RADIUS},
    "fgsm": {"radius": RADIUS},
    "fgm": {"radius": 0.5},
    "pgd": {"radius": RADIUS, "steps": 3},
    "fast": {"radius": RADIUS},
    "free": {"radius": RADIUS, "replays": 3},
    "trades": {"radius": RADIUS, "steps": 3},
    "spectral": {"beta": 0.1},
    "expected": {"sigma": 0.2, "pairs": 1},
    "mart": {"radius": RADIUS, "steps": 3},
    "ensemble": {"radius": RADIUS, "sources": "SOURCE"},
    "pool": {"fresh": 4, "every": 2, "size": 6},
    "stadv": {"radius": 0.5, "steps": 2},
    "universal": {"radius": RADIUS},
    "generator": {"radius": RADIUS, "width": 2},
    "attack": {"attack": f"pgd:radius={RADIUS},steps=3,keep=lowest"},
    "mix": {"methods": f"pgd:radius={RADIUS},steps=2+fgm:radius=0.5"},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "source.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        module = build("small-cnn", classes=4, channels=1, size=8)
    save_model(path, module, network="small-cnn", settings={}, shape=(1, 8, 8), classes=4, info={})
    return str(path)


def network(seed: int = 0, norm: bool = True) -> nn.Sequential:
    """A chain with batch normalisation and dropout, in training mode."""
    torch.manual_seed(seed)
    middle = (nn.BatchNorm2d(3), nn.Dropout(0.2)) if norm else ()
    return nn.Sequential(nn.Conv2d(1, 3, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)).train()


def step_of(module: nn.Module, count: int = 6, dtype: torch.dtype = torch.float32, **more: Any) -> Step:
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 8, 8, generator=draw).to(dtype)
    return Step(module.to(dtype), module, images, torch.arange(count) % 4, torch.arange(count) * 7, **more)


def method_of(name: str, source: str) -> Any:
    return make_method(name, {k: source if v == "SOURCE" else v for k, v in SMALL[name].items()})


def gradients(module: nn.Module, run: Callable[[], Iterator[Any]]) -> list[Tensor]:
    module.zero_grad()
    for part in run():
        part.loss.backward()
    return [weight.grad.clone() for weight in module.parameters() if weight.grad is not None]


@pytest.mark.parametrize("name", METHODS)
def test_crafting_leaves_the_network_as_it_was(name: str, source: str) -> None:
    module = network()
    module[0].weight.requires_grad_(False)
    module[1].eval()
    flags = [part.training for part in module.modules()], [w.requires_grad for w in module.parameters()]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    step = step_of(module)
    crafted = method_of(name, source).craft(step)
    assert flags == ([part.training for part in module.modules()], [w.requires_grad for w in module.parameters()])
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())
    if crafted is not None:
        assert not crafted.requires_grad
        assert crafted.shape == step.images.shape
        assert 0 <= float(crafted.min()) <= float(crafted.max()) <= 1
        assert not torch.equal(crafted, step.images)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_a_function_of_its_place_and_learns(name: str, source: str) -> None:
    found = []
    for _ in range(2):
        module = network(norm=False)
        step, method = step_of(module, seed=3, epoch=1, number=2), method_of(name, source)
        torch.manual_seed(0)
        found.append(gradients(module, lambda: method.parts(step, method.craft(step))))  # noqa: B023
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert sum(float(gradient.abs().sum()) for gradient in found[0]) > 0


@pytest.mark.parametrize("name", [n for n, kind in METHODS.items() if n not in ("universal", "attack", "mix")])
def test_what_is_crafted_lies_in_the_ball(name: str, source: str) -> None:
    method = method_of(name, source)
    if method.ball is None or method.craft(step_of(network())) is None:
        return
    step, (norm, radius) = step_of(network(norm=False).double(), dtype=torch.float64), method.ball
    change = (method.craft(step) - step.images).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(size.max()) <= radius * (1 + 1e-9)


def test_every_method_has_settings_here_and_a_place_in_the_list() -> None:
    assert set(SMALL) == set(METHODS)
    for kind in METHODS.values():
        assert kind.summary
        assert "Source" in (kind.__doc__ or "")
        assert all(field.name.islower() for field in fields(kind))


def test_the_mixtures_of_clean_and_crafted_images() -> None:
    """F1 = g1 + g2, F2 = (g1 + g2) / 2, F3 = F2 for equal halves without batch normalisation and not with it."""
    module = network(norm=False).double()

    def found(mixture: str, module: nn.Module = module) -> list[Tensor]:
        method, step = make_method("fgsm", {"radius": 0.1, "mixture": mixture}), step_of(module, dtype=torch.float64)
        crafted = method.craft(step)
        return gradients(module, lambda: method.parts(step, crafted))

    clean = gradients(module, lambda: make_method("plain", {}).parts(step_of(module, dtype=torch.float64), None))
    only, summed, mean, joined = (found(name) for name in ("only", "accumulate", "average", "concatenate"))
    for g1, g2, f1, f2, f3 in zip(clean, only, summed, mean, joined, strict=True):
        torch.testing.assert_close(f1, g1 + g2, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(f2, (g1 + g2) / 2, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(f3, f2, rtol=1e-12, atol=1e-15)
    torch.manual_seed(0)
    normed = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 4)).double().train()
    assert not torch.allclose(found("concatenate", normed)[0], found("average", normed)[0], rtol=1e-3)


def test_fgsm_on_a_linear_network_is_the_closed_form() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    step = step_of(module, dtype=torch.float64)
    logits = module(step.images)
    error = torch.softmax(logits, 1) - torch.eye(4, dtype=torch.float64)[step.labels]
    slope = (error @ module[1].weight).view_as(step.images)
    expected = (step.images + 0.1 * slope.sign()).clamp(0, 1)
    torch.testing.assert_close(make_method("fgsm", {"radius": 0.1}).craft(step), expected, rtol=0, atol=1e-12)
    normal = (step.images + 0.3 * slope / slope.flatten(1).norm(dim=1)[:, None, None, None]).clamp(0, 1)
    torch.testing.assert_close(make_method("fgm", {"radius": 0.3}).craft(step), normal, rtol=0, atol=1e-12)


def test_a_predicted_label_needs_no_label() -> None:
    module = network(norm=False)
    method, step = make_method("fgsm", {"radius": 0.1, "predicted": True}), step_of(module)
    first = method.craft(step)
    step.labels = (step.labels + 1) % 4
    assert torch.equal(method.craft(step), first)


def test_pgd_is_the_loop_one_would_write_and_costs_no_more() -> None:
    module = network(norm=False).double()
    step = step_of(module, dtype=torch.float64)
    calls = []
    module[0].register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    method = make_method("pgd", {"radius": 0.2, "steps": 4, "step_size": 0.07, "random_start": False})
    crafted = method.craft(step)
    assert calls == [True] * 4  # a forward and a backward for each step, and no other
    x = step.images.clone()
    for _ in range(4):
        x.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(module(x), step.labels), x)
        x = torch.min(torch.max(x.detach() + 0.07 * g.sign(), step.images - 0.2), step.images + 0.2).clamp(0, 1)
    torch.testing.assert_close(crafted, x, rtol=0, atol=1e-12)


def test_a_halved_scale_halves_the_step() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    method = make_method("fgsm", {"radius": 0.2})
    whole, half = (step_of(module, dtype=torch.float64, scale=scale) for scale in (1.0, 0.5))
    assert float((method.craft(whole) - whole.images).abs().max()) == pytest.approx(0.2)
    assert float((method.craft(half) - half.images).abs().max()) == pytest.approx(0.1)


def test_trades_and_mart_are_the_losses_of_their_code() -> None:
    module = network(norm=False).double()
    step = step_of(module, dtype=torch.float64)
    crafted = (step.images + 0.05).clamp(0, 1)
    clean, moved, y = module(step.images), module(crafted), step.labels
    (part,) = make_method("trades", {"radius": 0.1, "beta": 2.0}).parts(step, crafted)
    robust = nn.KLDivLoss(reduction="sum")(F.log_softmax(moved, 1), F.softmax(clean, 1)) / len(y)
    torch.testing.assert_close(part.loss, F.cross_entropy(clean, y) + 2.0 * robust, rtol=1e-12, atol=0)
    (part,) = make_method("mart", {"radius": 0.1, "beta": 3.0}).parts(step, crafted)
    probs, nat = F.softmax(moved, 1), F.softmax(clean, 1)
    order = torch.argsort(probs, 1)[:, -2:]
    rival = torch.where(order[:, -1] == y, order[:, -2], order[:, -1])
    binary = F.cross_entropy(moved, y) + F.nll_loss(torch.log(1.0001 - probs + 1e-12), rival)
    divergence = F.kl_div(torch.log(probs + 1e-12), nat, reduction="none").sum(1)
    unsure = 1.0000001 - nat.gather(1, y[:, None]).squeeze(1)
    torch.testing.assert_close(part.loss, binary + 3.0 * (divergence * unsure).mean(), rtol=1e-6, atol=0)


def test_trades_climbs_the_divergence() -> None:
    module = network(norm=False).double()
    step = step_of(module, dtype=torch.float64)
    crafted = make_method("trades", {"radius": 0.2, "steps": 5}).craft(step)
    clean = module(step.images).softmax(1)

    def divergence(images: Tensor) -> Tensor:
        return F.kl_div(module(images).log_softmax(1), clean, reduction="none").sum(1)

    drawn = (step.images + 0.4 * torch.rand_like(step.images) - 0.2).clamp(0, 1)
    assert bool((divergence(crafted) > divergence(drawn)).all())


def test_free_replays_move_the_weights_each_time_and_keep_delta() -> None:
    module = network(norm=False)
    method, step = make_method("free", {"radius": 0.1, "replays": 4}), step_of(module)
    optimiser, seen = torch.optim.SGD(module.parameters(), lr=0.1), []
    for part in method.parts(step, None):
        assert part.update
        part.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seen.append(module[-1].weight.detach().clone())
    assert len(seen) == 4
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(seen))
    delta = step.state["delta"]
    assert 0 < float(delta.abs().max()) <= 0.1 + 1e-7
    smaller = Step(module, module, step.images[:2], step.labels[:2], step.index[:2], state=step.state)
    for part in method.parts(smaller, None):
        part.loss.backward()
    assert torch.equal(step.state["delta"][2:], delta[2:])


def test_one_universal_change_for_all_images_that_climbs() -> None:
    module = network(norm=False).double()
    method = make_method("universal", {"radius": 0.1, "step_size": 0.02})
    step = step_of(module, dtype=torch.float64)
    losses = [F.cross_entropy(module(method.craft(step)), step.labels).item() for _ in range(8)]
    delta = step.state["universal"]
    assert delta.shape == (1, 8, 8)
    assert float(delta.abs().max()) == pytest.approx(0.1)
    assert losses[-1] > losses[0] > F.cross_entropy(module(step.images), step.labels).item()


def test_ensemble_steps_against_each_source_and_itself(source: str) -> None:
    module = network(norm=False)
    method = make_method("ensemble", {"radius": 0.1, "sources": source})
    own = make_method("fgsm", {"radius": 0.1, "predicted": True})
    kinds = set()
    for number in range(12):
        step = step_of(module, number=number)
        kinds.add(torch.equal(method.craft(step), own.craft(step)))
    assert kinds == {True, False}
    with pytest.raises(BlindspotsError, match=r"is for images \(1, 8, 8\) in 4 classes, the training images are"):
        method.check(module, (1, 8, 8), 10)
    with pytest.raises(BlindspotsError, match=r"absent\.safetensors"):
        make_method("ensemble", {"radius": 0.1, "sources": "absent.safetensors"}).check(module, (1, 8, 8), 4)


def test_the_pool_holds_examples_of_every_layer_and_trains_only_what_lies_above() -> None:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(64, 9), nn.Sigmoid(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 4))
    module = nn.Sequential(nn.Sequential(*layers[:3]), *layers[3:])
    method = make_method("pool", {"fresh": 4, "every": 1, "size": 6, "length": 0.1, "steps": 40})
    state: dict[str, Tensor] = {}
    for turn in range(5):
        step = step_of(module, state=state, number=turn)
        module.zero_grad()
        parts = method.parts(step, None)
        next(parts).loss.backward()
        place = (0, 3, 5)[turn % 3]
        below = [layer for layer in layers[:place] if isinstance(layer, nn.Linear)]
        above = [layer for layer in layers[place:] if isinstance(layer, nn.Linear)]
        assert all(layer.weight.grad is None for layer in below)
        assert all(layer.weight.grad is not None for layer in above)
        for _ in parts:
            pass
    assert {name for name in state if name.startswith("pool")} == {"pool 0", "pool 3", "pool 5"}
    assert all(len(state[name]) == 6 for name in state if name != "turn")
    for place in (0, 3):
        held, labels = state[f"pool {place}"], state[f"labels {place}"]
        assert 0 <= float(held.min()) <= float(held.max()) <= 1
        tail = nn.Sequential(*layers[place:])
        assert float((tail(held[-4:]).argmax(1) == labels[-4:]).float().mean()) <= 0.25
    with pytest.raises(BlindspotsError, match=r"pool needs a network that is a chain of layers.*got Bilinear"):
        method.check(nn.Bilinear(2, 2, 2), (1, 8, 8), 4)


def test_a_mixture_of_attacks() -> None:
    module, text = network(norm=False), "pgd:radius=0.05,steps=2+pgd:radius=0.2,steps=2+fgm:radius=0.5"
    parts = make_method("mix", {"methods": text}).members()
    step = step_of(module)
    each = torch.stack([F.cross_entropy(module(m.craft(step)), step.labels, reduction="none") for m in parts])
    worst = make_method("mix", {"methods": text, "combine": "worst"}).craft(step_of(module))
    torch.testing.assert_close(F.cross_entropy(module(worst), step.labels, reduction="none"), each.amax(0))
    average = make_method("mix", {"methods": text, "combine": "average"})
    (part,) = average.parts(step, average.craft(step_of(module)))
    torch.testing.assert_close(part.loss, each.mean())
    random, drawn = make_method("mix", {"methods": text}), set()
    for number in range(20):
        got = random.craft(step_of(module, number=number))
        drawn |= {k for k, m in enumerate(parts) if torch.equal(got, m.craft(step_of(module, number=number)))}
    assert drawn == {0, 1, 2}


def test_weight_perturbation_takes_the_gradient_elsewhere_and_comes_back() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    method, step = make_method("plain", {}), step_of(module, dtype=torch.float64)
    w, b = module[1].weight, module[1].bias
    before = w.detach().clone()
    (g,) = torch.autograd.grad(F.cross_entropy(module(step.images), step.labels), w)
    expected = before + 0.05 * before.norm() * g / g.norm()
    with moved_weights(step, method, None, 0.05, 1.0):
        torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=0)
        moved = gradients(module, lambda: method.parts(step, None))
    assert torch.equal(w.detach(), before)
    elsewhere = F.cross_entropy(F.linear(step.images.flatten(1), expected.requires_grad_(), b), step.labels)
    torch.testing.assert_close(moved[0], torch.autograd.grad(elsewhere, expected)[0], rtol=1e-12, atol=1e-15)
    with moved_weights(step, method, None, 0.0, 1.0):
        assert torch.equal(w.detach(), before)


def test_weight_perturbation_leaves_running_statistics_alone() -> None:
    module = network()
    before = module[1].running_mean.clone()
    with moved_weights(step_of(module), make_method("plain", {}), None, 0.01, 1.0):
        assert torch.equal(module[1].running_mean, before)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("pgdd", {}, "unknown training method 'pgdd': did you mean 'pgd'"),
        ("pgd", {}, "the training method pgd needs its radius: give method_settings radius 0.3, or 8/255"),
        ("pgd", {"radius": 0.3, "stepz": 3}, "unknown setting of method pgd 'stepz': did you mean 'steps'"),
        ("pgd", {"radius": 0.3, "steps": 2.5}, "PGDTraining.steps must be a whole number, got 2.5"),
        ("pgd", {"radius": 8}, "radius 8 is larger than 1, the whole range of a pixel"),
        ("pgd", {"radius": 0.3, "mixture": "half"}, "mixture must be one of"),
        ("attack", {"attack": "pgdd:radius=1"}, "unknown attack 'pgdd'"),
        ("mix", {"methods": "trades:radius=0.1"}, "trades has a loss of its own and cannot be mixed"),
        ("mix", {"methods": ""}, "names no method"),
    ],
)
def test_wrong_methods_fail_in_one_sentence(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BlindspotsError) as error:
        TrainSettings(method=name, method_settings=settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_that_exclude_each_other() -> None:
    free = {"method": "free", "method_settings": {"radius": 0.1}}
    with pytest.raises(BlindspotsError, match="leave awp at 0 and accumulate at 1"):
        TrainSettings(awp=0.01, **free)  # type: ignore[arg-type]
    with pytest.raises(BlindspotsError, match="the method plain has none: use report or stop"):
        TrainSettings(on_overfitting="halve")


def test_a_radius_beyond_the_range_of_the_images() -> None:
    with pytest.raises(BlindspotsError, match=r"radius 9 of the method fgm in l2 is larger than 8, the whole range"):
        check_ball(make_method("fgm", {"radius": 9}), (1, 8, 8))
    check_ball(make_method("fgm", {"radius": 8}), (1, 8, 8))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_trainings(name: str) -> None:
    settings = preset(name)
    assert type(settings.training_method()) is METHODS[PRESETS[name].method]
    assert PRESETS[name].source
    assert preset(name, epochs=3).epochs == 3


def test_settings_go_over_those_of_a_preset() -> None:
    method = make_method("madry-mnist", {"steps": 3})
    assert (str(method.radius), method.steps, method.step_size) == ("0.3", 3, 0.01)  # type: ignore[attr-defined]
    with pytest.raises(BlindspotsError, match="unknown preset 'madry': did you mean 'madry-mnist'"):
        preset("madry")


def test_an_ensemble_needs_its_sources() -> None:
    with pytest.raises(BlindspotsError, match="names no network"):
        make_method("ensemble", {"radius": 0.1, "sources": " + "}).check(network(), (1, 8, 8), 4)
