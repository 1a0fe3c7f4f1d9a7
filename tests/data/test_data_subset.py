"""Stratified subsets: shares within one image, nested, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindspots.data.draws import draw, uniform
from blindspots.data.subset import stratified

CLASSES = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(lambda counts: sum(counts) > 0)


def labels_of(counts: list[int], shuffle: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(shuffle).permutation(labels)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(counts=CLASSES, seed=st.integers(0, 2**63), shuffle=st.integers(0, 9))
def test_every_limit_keeps_shares_and_contains_the_smaller(counts: list[int], seed: int, shuffle: int) -> None:
    labels = labels_of(counts, shuffle)
    total = len(labels)
    before: set[int] = set()
    for limit in range(1, total + 1):
        chosen = stratified(labels, limit, seed)
        assert len(chosen) == limit
        assert (np.diff(chosen) > 0).all()
        got = np.bincount(labels[chosen], minlength=len(counts))
        for count, share in zip(got.tolist(), counts, strict=True):
            assert abs(count * total - limit * share) < total  # within one image of the exact share, in whole numbers
        assert before < set(chosen.tolist())
        before = set(chosen.tolist())


def test_no_alabama_paradox() -> None:
    """Largest remainder gives classes of 6, 6, 2 images 4, 4, 2 of 10 but 5, 5, 1 of 11: the third loses one."""
    labels = np.repeat([0, 1, 2], [6, 6, 2])
    ten, eleven = (np.bincount(labels[stratified(labels, limit, 0)], minlength=3) for limit in (10, 11))
    assert (eleven >= ten).all()


def test_same_on_every_machine() -> None:
    assert stratified(np.arange(40) % 4, 8, seed=5).tolist() == [11, 12, 15, 16, 17, 26, 29, 38]
    assert draw(0, np.arange(2)).tolist() == [12035550249420947055, 627405149472732430]


def test_seed_chooses_images_and_which_class_goes_first() -> None:
    labels = np.arange(100) % 10
    picks = {tuple(stratified(labels, 10, seed)) for seed in range(20)}
    firsts = {int(labels[stratified(labels, 1, seed)][0]) for seed in range(20)}
    assert len(picks) == 20
    assert len(firsts) > 3


@pytest.mark.parametrize("limit", [7, 8, 1000])
def test_limit_of_all_or_more_gives_all(limit: int) -> None:
    assert stratified(np.array([3, 1, 1, 0, 3, 3, 2]), limit, 1).tolist() == list(range(7))


def test_uniform_fills_the_unit_interval_evenly() -> None:
    values = uniform(draw(7, np.arange(10_000)))
    assert values.min() >= 0
    assert values.max() < 1
    # Ten bins of 1000 expected: the standard deviation of a bin is 30.
    assert np.abs(np.histogram(values, 10, (0, 1))[0] - 1000).max() < 150
