"""Law 4: nothing is left behind, neither in the module nor in global state, also when the module fails half-way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from law_table import ONE_EACH, Case
from torch import Tensor, nn

from blindspots import Classifier


class Untidy(nn.Module):
    """Frozen and live BatchNorm, dropout, partly frozen weights, buffers written in place and buffers replaced."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.conv, self.frozen, self.live = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4 * 36, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(4, 6, 6))
        self.register_buffer("passing", torch.full((2,), float("nan")), persistent=False)
        self.fail_at = fail_at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:
            raise RuntimeError("the module broke")
        h = self.live(self.frozen(self.conv(x)))
        self.last = h.detach().mean(0)  # a new tensor takes the place of the buffer
        torch.rand(3)  # global randomness is used up
        return self.head(self.drop(h.relu()).flatten(1))


def untidy(fail_at: int | None = None) -> Untidy:
    net = Untidy(fail_at).train()
    net.frozen.eval()
    net.conv.weight.requires_grad_(False)
    net.head.weight.grad = torch.full_like(net.head.weight, 2.0)
    return net


def snapshot(net: nn.Module) -> dict[str, Any]:
    return {
        "training": {name: module.training for name, module in net.named_modules()},
        "buffers": {name: (id(buffer), buffer.clone()) for name, buffer in net.named_buffers()},
        "parameters": {
            name: (id(p), p.detach().clone(), p.requires_grad, None if p.grad is None else p.grad.clone())
            for name, p in net.named_parameters()
        },
        "hooks": {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in net.named_modules()},
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same(before: Any, after: Any, where: str = "") -> None:
    assert type(before) is type(after), where
    if isinstance(before, dict):
        assert before.keys() == after.keys(), where
        for key in before:
            assert_same(before[key], after[key], f"{where}/{key}")
    elif isinstance(before, tuple):
        for left, right in zip(before, after, strict=True):
            assert_same(left, right, where)
    elif isinstance(before, Tensor):
        torch.testing.assert_close(before, after, rtol=0, atol=0, equal_nan=True, msg=where)
    else:
        assert before == after, where


IMAGES, LABELS = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_an_attack_leaves_no_trace(case: Case) -> None:
    net = untidy()
    before = snapshot(net)
    case.attack(Classifier(net, classes=3, batch=2), IMAGES, LABELS)
    assert_same(before, snapshot(net))


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_an_attack_that_fails_leaves_no_trace(case: Case) -> None:
    """The module raises on its third call, in the middle of the first query and of the first backward pass."""
    net = untidy(fail_at=3)
    before = snapshot(net)
    with pytest.raises(RuntimeError, match="the module broke"):
        case.attack(Classifier(net, classes=3, batch=2), IMAGES, LABELS)
    net.calls -= net.calls  # written by the module before it failed, and restored
    assert_same(before, snapshot(net))


def _no_grad() -> AbstractContextManager[Any]:
    return torch.no_grad()


def _inference() -> AbstractContextManager[Any]:
    return torch.inference_mode()


@pytest.mark.parametrize("mode", [_no_grad, _inference])
@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_outer_gradient_modes_change_no_result(
    victim, case: Case, mode: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Labels, images and index may be made inside torch.no_grad() or torch.inference_mode()."""
    results, model = [], victim.classifier()
    for outer in (nullcontext, mode):
        with outer():
            images, labels, index = victim.images * 1.0, victim.labels + 0, victim.index + 0
            targets = (labels + 1) % 5
            results.append(case.attack(model, images, labels, index=index))
            results.append(case.attack(model, images, labels, index=index, targets=targets))
            model.logits(images)
    for plain, under in zip(results[:2], results[2:], strict=True):
        assert torch.equal(plain.images, under.images)
        assert torch.equal(plain.backwards, under.backwards)
        assert not under.images.requires_grad


def test_logits_and_tuning_leave_no_trace() -> None:
    net = untidy()
    before = snapshot(net)
    model = Classifier(net)
    model.logits(IMAGES)
    assert 1 <= model.size(IMAGES) <= 512
    assert_same(before, snapshot(net))


def test_sessions_nest_and_restore_once() -> None:
    net = untidy()
    model = Classifier(net, batch=2)
    before = snapshot(net)
    with model.session():
        with model.session():
            assert not net.training
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
    assert_same(before, snapshot(net))


def test_images_that_require_grad_keep_their_grad(victim) -> None:
    images = victim.images.clone().requires_grad_()
    images.grad = torch.ones_like(images)
    ONE_EACH[2].attack(victim.classifier(), images, victim.labels)
    assert images.requires_grad
    assert torch.equal(images.grad, torch.ones_like(images))


class WritesItsInput(nn.Module):
    """Normalises in place, as hand-written models do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.5).mul_(2))


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_a_module_that_writes_to_its_input_is_harmless(victim, case: Case) -> None:
    class Copies(WritesItsInput):
        def forward(self, x: Tensor) -> Tensor:
            return self.net((x - 0.5) * 2)

    results = [
        case.attack(Classifier(kind(victim.module()), classes=5, batch=4), victim.images, victim.labels)
        for kind in (WritesItsInput, Copies)
    ]
    assert torch.equal(results[0].images, results[1].images)
    assert torch.equal(results[0].success, results[1].success)
