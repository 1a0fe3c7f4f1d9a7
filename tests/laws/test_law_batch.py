"""Law 1: the result for an image does not depend on the batch it came in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from law_table import CASES, Case

from blindspots import Result
from blindspots.batching import Layout
from blindspots.layouts import equal_shapes
from blindspots.oracle import Oracle

EXACT = ("images", "success", "prediction", "forwards", "backwards", "steps", "zero_gradients", "bad_gradients")
COUNTERS = ("success", "prediction", "forwards", "backwards", "steps")


def attack(
    victim: Any,
    case: Case,
    dtype: torch.dtype,
    rows: list[int],
    batch: int = 4,
    smaller: tuple[int, ...] = (),
    **call: Any,
) -> Result:
    return case.attack(
        victim.classifier(dtype, batch, smaller=smaller),
        victim.images[rows].to(dtype),
        victim.labels[rows],
        index=victim.index[rows],
        targets=case.targets,
        **call,
    )


def reference(victim: Any, case: Case, dtype: torch.dtype) -> Result:
    key = (case, dtype)
    if key not in victim.cache:
        victim.cache[key] = attack(victim, case, dtype, list(range(13)))
    return victim.cache[key]


def differing(part: Result, whole: Result, rows: list[int], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not torch.equal(getattr(part, name), getattr(whole, name)[rows])]


# rows, population: a permutation (with another population and so another packing), a subset, a single image, rows in
# ones, in populations smaller than the model batch of 4, and with a ragged last population and a ragged last batch.
WAYS: dict[str, tuple[list[int], int | None]] = {
    "permuted": ([8, 3, 12, 0, 9, 5, 1, 11, 2, 10, 4, 7, 6], None),
    "subset": ([12, 2, 7, 3, 8], None),
    "alone": ([7], None),
    "population 1": ([12, 6, 2, 5, 0], 1),
    "population 3 of batch 4": (list(range(13)), 3),
    "population 5": (list(range(13)), 5),
    "repeated": ([4, 4, 2, 4], None),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_company_changes_nothing(victim, case: Case, dtype: torch.dtype) -> None:
    """Bit for bit, in float64 and in float32, as long as the model batch is the same."""
    whole = reference(victim, case, dtype)
    for way, (rows, population) in WAYS.items():
        part = attack(victim, case, dtype, rows, population=population)
        assert differing(part, whole, rows, EXACT) == [], way
        if whole.flow is not None:
            assert torch.equal(part.flow, whole.flow[rows]), way


@pytest.mark.parametrize("case", CASES, ids=str)
def test_smaller_calls_change_nothing(victim, case: Case) -> None:
    """Where few images are left, calls of a smaller shape: bit for bit, since only those that are equal are used."""
    rows, dtype = [12, 2, 7, 3, 8, 0], torch.float32
    if "smaller" not in victim.cache:
        module = victim.module(dtype)
        victim.cache["smaller"] = equal_shapes(lambda x, _: module(x), victim.images[:1].to(dtype), Layout(16))
    smaller = victim.cache["smaller"]
    assert smaller, "no smaller call answers like one of 16: nothing is tested"
    whole = attack(victim, case, dtype, rows, 16)
    part = attack(victim, case, dtype, rows, 16, smaller)
    assert differing(part, whole, list(range(len(rows))), EXACT) == []


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_model_batch_changes_nothing_in_float64(victim, case: Case, batch: int) -> None:
    """Other kernels may round otherwise: images to 1e-9, verdicts and counters the same."""
    rows = list(range(13))
    whole, part = reference(victim, case, torch.float64), attack(victim, case, torch.float64, rows, batch)
    assert differing(part, whole, rows, COUNTERS) == []
    assert (part.images - whole.images).abs().max() <= 1e-9


@pytest.mark.parametrize("case", CASES, ids=str)
def test_looking_for_settled_rows_less_often_changes_nothing(
    victim, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an accelerator the number of settled rows is read every few queries only: here that pace on the CPU."""
    start = Oracle.__init__

    def slower(self: Oracle, *args: Any, **settings: Any) -> None:
        start(self, *args, **settings)
        self._pace = 4

    monkeypatch.setattr(Oracle, "__init__", slower)
    for population in (None, 3):
        part = attack(victim, case, torch.float64, list(range(13)), population=population)
        assert differing(part, reference(victim, case, torch.float64), list(range(13)), EXACT) == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_twice_is_the_same(victim, case: Case) -> None:
    """No setting and no state of the first call leaks into the second (settings changed by a phase, metric objects)."""
    before = repr(case.attack)
    again = attack(victim, case, torch.float64, list(range(13)))
    assert differing(again, reference(victim, case, torch.float64), list(range(13)), EXACT) == []
    assert repr(case.attack) == before


@pytest.mark.parametrize("case", [c for c in CASES if c.targets is None], ids=str)
def test_layout_in_memory_changes_nothing(victim, case: Case) -> None:
    """Images that are a transposed or a channels-last view are attacked like their contiguous copy."""
    images = victim.images.transpose(2, 3).contiguous().transpose(2, 3)
    model = victim.classifier()
    part = case.attack(model, images, victim.labels, index=victim.index)
    whole = reference(victim, case, torch.float64)
    assert differing(part, whole, list(range(13)), COUNTERS) == []
    assert (part.images - whole.images).abs().max() <= 1e-9


def test_all_targets_match_single_targets(victim) -> None:
    """ "all" is every other class in turn: each of its rows equals the attack on that class alone."""
    from law_table import build

    attack_ = build("pgd", "linf")
    rows = [0, 1, 3]
    images, labels, index = victim.images[rows], victim.labels[rows], victim.index[rows]
    every = attack_(victim.classifier(), images, labels, index=index, targets="all")
    assert len(every) == 3 * 4
    assert every.index.tolist() == index.repeat_interleave(4).tolist()
    for target in range(5):
        mine = (every.targets == target).nonzero().squeeze(1)
        chosen = labels != target
        if not len(mine):
            continue
        one = attack_(
            victim.classifier(),
            images[chosen],
            labels[chosen],
            index=index[chosen],
            targets=torch.full((len(mine),), target),
        )
        assert torch.equal(every.images[mine], one.images)
        assert torch.equal(every.forwards[mine], one.forwards)


def test_seed_and_index_are_the_keys_of_randomness(victim) -> None:
    from law_table import build

    noise, model = build("uniform-noise", "linf", draws=6), victim.classifier()
    first = noise(model, victim.images, victim.labels, index=victim.index)
    other_seed = noise(model, victim.images, victim.labels, index=victim.index, seed=1)
    other_index = noise(model, victim.images, victim.labels, index=victim.index + 1)
    attacked = ~victim.wrong
    # A noise image that does not lower the loss is not kept: compare what was kept where both kept one.
    for other in (other_seed, other_index):
        moved = attacked & (first.size["linf"] > 0) & (other.size["linf"] > 0)
        assert moved.any()
        assert (first.images != other.images).flatten(1).any(1)[moved].all()
