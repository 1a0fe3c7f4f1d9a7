"""Differences of paired shares: closed forms, the drawn bootstrap, other libraries, and the laws of a difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from blindspots.evaluation.intervals import clopper_pearson
from blindspots.evaluation.paired import bootstrap, difference, holm, mcnemar


def test_mcnemar_is_what_a_hand_counts() -> None:
    # 10 images differ, 9 of them for one side: 2 (C(10, 9) + C(10, 10)) / 2^10.
    assert mcnemar(9, 1) == pytest.approx(2 * 11 / 1024, rel=1e-12)
    assert mcnemar(1, 9) == mcnemar(9, 1)
    assert mcnemar(4, 0) == pytest.approx(2 / 16, rel=1e-12)
    assert mcnemar(0, 0) == mcnemar(5, 5) == mcnemar(5, 4) == 1.0


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_binomial_test(first: int, second: int) -> None:
    if first + second:
        assert mcnemar(first, second) == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-9)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_the_interval_turns_with_its_sides_and_holds_the_difference(first: int, second: int, same: int) -> None:
    of = first + second + same + 1
    low, high = bootstrap(first, second, of)
    assert bootstrap(second, first, of) == (-high, -low)
    assert -1 <= low <= (first - second) / of <= high <= 1


def test_the_interval_is_that_of_the_binomial_where_one_side_is_never_right_alone() -> None:
    """Then a draw is a binomial number, whose quantiles scipy knows."""
    for count, of in ((30, 100), (1, 40), (39, 40), (700, 1000)):
        low, high = (round(of * end) for end in bootstrap(count, 0, of))
        assert low == binom.ppf(0.025, of, count / of)
        assert of - high == binom.ppf(0.025, of, 1 - count / of)


def test_the_interval_is_nearly_the_exact_one_of_a_share_where_the_other_is_always_wrong() -> None:
    for count in (200, 500, 700):
        assert bootstrap(count, 0, 1000) == pytest.approx(clopper_pearson(count, 1000), abs=0.002)


def test_the_interval_is_the_limit_of_drawn_bootstraps() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random(300) < 0.8, generator.random(300) < 0.7
    draws = generator.integers(0, 300, (20_000, 300))
    drawn = (first[draws].mean(1) - second[draws].mean(1)) * 300
    found = difference(first, second)
    below = [np.mean(drawn <= 300 * found[end] + 0.5) for end in ("low", "high")]
    atoms = [np.mean(np.abs(drawn - 300 * found[end]) < 0.5) for end in ("low", "high")]
    # The tails reach the level with the end and not without it, but for the error of drawing (0.0011 each).
    assert below[0] > 0.025 - 0.005 > below[0] - atoms[0] - 0.01
    assert 1 - below[1] < 0.025 + 0.005 < 1 - below[1] + atoms[1] + 0.01


def test_no_difference_is_exactly_nothing_and_tells_what_is_still_possible() -> None:
    same = np.arange(50) % 3 > 0
    found = difference(same, same.copy())
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0.0, 0.0, 0.0, 1.0)
    assert found["differ"]["high"] == pytest.approx(1 - 0.025 ** (1 / 50))
    assert bootstrap(20, 0, 20) == (1.0, 1.0)


def test_a_large_sample_keeps_its_precision() -> None:
    low, high = bootstrap(3000, 2500, 50_000)
    spread = 1.959964 * np.sqrt(5500 / 50_000 - 0.01**2) / np.sqrt(50_000)
    assert low == pytest.approx(0.01 - spread, abs=3e-5)
    assert high == pytest.approx(0.01 + spread, abs=3e-5)


def test_counts_that_cannot_be_are_refused() -> None:
    for counts in ((3, 3, 5), (-1, 0, 5)):
        with pytest.raises(ValueError, match="at most 5"):
            bootstrap(*counts)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_each_p_between_itself_and_bonferroni_and_keeps_their_order(p: list[float]) -> None:
    raised = holm(p)
    assert all(a <= b <= min(1, len(p) * a) for a, b in zip(p, raised, strict=True)) or len(p) == 1
    assert np.array_equal(np.argsort(p, kind="stable"), np.lexsort((np.arange(len(p)), p, raised)))
    assert raised[p.index(min(p))] == min(1, len(p) * min(p))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
