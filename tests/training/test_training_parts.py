"""Closed forms and invariants of the parts: schedules, label smoothing, held-out split, order, images in memory."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blindspots.data import dataset
from blindspots.training.measure import measure
from blindspots.training.methods import make_method
from blindspots.training.order import epoch_batches, hold_out, key
from blindspots.training.rows import channel_moments, read_rows
from blindspots.training.schedule import rate_at
from blindspots.training.step import Step


def _torch_rates(make, total: int) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = make(optimiser)
    rates = []
    for _ in range(total):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the step after the last one, which torch remarks upon
            schedule.step()
    return rates


@pytest.mark.parametrize("total", [10, 37, 200])
def test_schedules_are_those_of_torch(total: int) -> None:
    cosine = _torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=total), total)
    assert [rate_at("cosine", step, total, 0.3) for step in range(total)] == pytest.approx(cosine, rel=1e-9)
    cycle = _torch_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.3, total_steps=total + 1, cycle_momentum=False),
        total + 1,
    )
    assert [rate_at("onecycle", step, total + 1, 0.3) for step in range(total + 1)] == pytest.approx(cycle, rel=1e-9)
    assert {rate_at("constant", step, total, 0.3) for step in range(total)} == {0.3}


@given(st.integers(1, 400), st.sampled_from(["constant", "cosine", "onecycle", "cyclic", "steps"]), st.integers(0, 50))
def test_a_rate_is_positive_and_at_most_the_peak(total: int, schedule: str, warmup: int) -> None:
    more = {"warmup": warmup, "milestones": (0.5, 0.75), "decay": 0.1}
    rates = [rate_at(schedule, step, total, 0.3, **more) for step in range(total)]
    assert 0 < min(rates) <= max(rates) <= 0.3 * (1 + 1e-12)


def test_cyclic_is_a_triangle_and_steps_fall_at_their_milestones() -> None:
    cycle = [rate_at("cyclic", step, 9, 0.5) for step in range(9)]
    assert cycle == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1])
    falls = [rate_at("steps", step, 10, 1.0, milestones=(0.5, 0.8), decay=0.1) for step in range(10)]
    assert falls == pytest.approx([1.0] * 5 + [0.1] * 3 + [0.01] * 2)
    warm = [rate_at("constant", step, 10, 0.2, warmup=4) for step in range(6)]
    assert warm == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_plain_loss_is_the_cross_entropy_with_smoothed_targets() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    images, labels = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 1])
    for smoothing in (0.0, 0.3):
        step = Step(network, network, images, labels, torch.arange(5), smoothing=smoothing)
        ((loss, logits),) = ((part.loss, part.logits) for part in make_method("plain", {}).parts(step, None))
        assert logits is not None
        target = (1 - smoothing) * torch.eye(4, dtype=torch.float64)[labels] + smoothing / 4
        expected = -(target * torch.log_softmax(logits, 1)).sum(1).mean()
        assert torch.equal(logits, network(images))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.floats(0, 0.9),
    st.integers(0, 2**40),
    st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_held_out_images_are_disjoint_complete_and_stratified(
    classes: list[int], share: float, seed: int, first: int
) -> None:
    labels = torch.tensor(classes)
    training, held = hold_out(labels, torch.arange(len(labels)) + first, share, seed)
    assert sorted(training.tolist() + held.tolist()) == list(range(len(labels)))
    for label in set(classes):
        count, chosen = classes.count(label), int((labels[held] == label).sum())
        if share == 0 or count == 1:
            assert chosen == 0
        else:
            assert chosen == min(max(round(share * count), 1), count - 1)


def test_held_out_images_depend_on_the_seed_and_on_nothing_else() -> None:
    labels, index = torch.arange(300) % 3, torch.arange(300)
    once, again, other = (hold_out(labels, index, 0.2, seed)[1] for seed in (5, 5, 6))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize(("count", "batch"), [(1, 1), (65, 64), (64, 64), (100, 7), (5, 64)])
def test_an_epoch_sees_every_image_once_in_nearly_equal_batches(count: int, batch: int) -> None:
    batches = epoch_batches(count, batch, seed=0, epoch=3)
    assert torch.cat(batches).sort().values.tolist() == list(range(count))
    sizes = [len(rows) for rows in batches]
    assert len(sizes) == math.ceil(count / batch)
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(epoch_batches(50, 8, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert len({key(seed, "step", epoch, step) for seed in range(5) for epoch in range(5) for step in range(5)}) == 125


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_rows_return_the_very_pixels_of_the_data(kind: str) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 4, 4), dtype=torch.uint8) if kind == "bytes" else torch.rand(30, 3, 4, 4)
    data = dataset((images, torch.arange(30) % 3))
    part, chosen = read_rows(data, torch.arange(5, 30)), torch.tensor([7, 0, 24])
    assert part.stored is not None
    assert part.stored.dtype == (torch.uint8 if kind == "bytes" else torch.float32)
    for got, expected in zip(part.batch(chosen), data.take(chosen + 5), strict=True):
        assert torch.equal(got, expected)


def test_rows_too_big_for_memory_are_read_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset("digits", limit=50)
    kept = read_rows(data, torch.arange(10, 50))
    monkeypatch.setattr("blindspots.training.rows.MEMORY", 100)
    streamed = read_rows(data, torch.arange(10, 50))
    assert streamed.stored is None
    rows = torch.tensor([3, 1, 39])
    for got, expected in zip(streamed.batch(rows), kept.batch(rows), strict=True):
        assert torch.equal(got, expected)


def test_moments_are_those_of_numpy_and_a_constant_channel_is_left_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(40, 3, 5, 5)
    images[:, 1] = 0.25
    mean, std = channel_moments(read_rows(dataset((images, torch.zeros(40, dtype=torch.int64)))))
    assert mean == pytest.approx(images.double().mean(dim=(0, 2, 3)).tolist(), rel=1e-12)
    exact = images.double().std(dim=(0, 2, 3), unbiased=False).tolist()
    assert std == pytest.approx([exact[0], 1.0, exact[2]], rel=1e-9)


def test_measure_is_the_mean_over_all_images_and_not_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blindspots.training.measure.BATCH", 7)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    data = dataset("digits", limit=50)
    loss, accuracy = measure(network, read_rows(data), torch.device("cpu"))
    logits = network(data.batch(0, 50)[0])
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, data.labels).item(), rel=1e-5)
    assert accuracy == int((logits.argmax(1) == data.labels).sum()) / 50
