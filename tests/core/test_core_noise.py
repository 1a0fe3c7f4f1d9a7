"""Random numbers as a function of their key: moments, independence, and nothing but the key."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from blindspots.noise import key, normal, uniform

DRAWS = pytest.mark.parametrize("draw", [uniform, normal])


@DRAWS
def test_a_number_depends_on_its_key_and_place_alone(draw) -> None:
    keys = key(5, torch.tensor([9, 4, 4, 1000000]), "attack")
    whole = draw(keys, (3, 2), torch.float64)
    assert torch.equal(whole[1], whole[2])
    for row in range(4):
        assert torch.equal(draw(keys[row : row + 1], (3, 2), torch.float64)[0], whole[row])
    assert torch.equal(draw(keys, (6,), torch.float64).view(4, 3, 2), whole)
    # A larger image starts with the same numbers.
    assert torch.equal(draw(keys, (9,), torch.float64)[:, :6], whole.flatten(1))


@DRAWS
def test_global_randomness_is_neither_used_nor_moved(draw) -> None:
    before = torch.get_rng_state()
    first = draw(key(0, torch.arange(3)), (4,), torch.float32)
    torch.manual_seed(99)
    assert torch.equal(draw(key(0, torch.arange(3)), (4,), torch.float32), first)
    torch.set_rng_state(before)
    draw(key(0, torch.arange(3)), (4,), torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


@DRAWS
def test_float32_and_float64_are_the_same_numbers(draw) -> None:
    keys = key(1, torch.arange(100))
    single, double = draw(keys, (50,), torch.float32), draw(keys, (50,), torch.float64)
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())
    if draw is uniform:
        assert torch.equal(single.double(), double)


def test_uniform_numbers_are_uniform() -> None:
    values = uniform(key(2, torch.arange(200)), (500,), torch.float64)
    assert float(values.min()) >= 0
    assert float(values.max()) < 1
    assert float(values.mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / 1e5) ** 0.5)
    assert float(values.var()) == pytest.approx(1 / 12, rel=0.02)
    assert stats.kstest(values.flatten().numpy(), "uniform").pvalue > 0.01


def test_normal_numbers_are_normal() -> None:
    values = normal(key(3, torch.arange(200)), (500,), torch.float64).flatten()
    assert float(values.mean()) == pytest.approx(0, abs=4 / 1e5**0.5)
    assert float(values.var()) == pytest.approx(1, rel=0.02)
    assert float((values**4).mean()) == pytest.approx(3, rel=0.05)
    assert stats.kstest(values.numpy(), "norm").pvalue > 0.01
    assert torch.isfinite(values).all()


@DRAWS
@pytest.mark.parametrize("what", ["index", "seed", "word", "draw", "place"])
def test_neighbours_are_independent(draw, what: str) -> None:
    index = torch.arange(2000)
    if what == "index":
        values = draw(key(0, torch.arange(2001)), (1,), torch.float64).squeeze(1)
        left, right = values[:-1], values[1:]
    elif what == "place":
        left, right = draw(key(0, index), (2,), torch.float64).unbind(1)
    else:
        other = {"seed": key(1, index), "word": key(0, index, "pgd"), "draw": key(0, index, 0)}[what]
        this = key(0, index, 1) if what == "draw" else key(0, index)
        left, right = (draw(k, (1,), torch.float64).squeeze(1) for k in (this, other))
    assert abs(float(torch.corrcoef(torch.stack([left, right]))[0, 1])) < 4 / 2000**0.5
    assert stats.spearmanr(left.abs().numpy(), right.abs().numpy()).pvalue > 0.001


def test_no_two_of_seed_and_index_share_a_key() -> None:
    """(seed 0, image 1) and (seed 1, image 0) are two different draws, and so is every restart and draw."""
    keys = torch.cat([key(seed, torch.arange(256)) for seed in range(256)])
    assert len(keys.unique()) == 256 * 256
    nested = torch.stack([key(r, key(0, torch.arange(50), "a"), d) for r in range(10) for d in range(10)])
    assert len(nested.unique()) == 50 * 100


def test_keys_are_the_same_for_ever() -> None:
    """Numbers of earlier runs must stay reproducible: a change here changes every seeded result."""
    assert key(0, torch.tensor([0, 1]), "pgd").tolist() == KEYS_OF_VERSION_1
    assert uniform(key(0, torch.tensor([0])), (3,), torch.float64)[0].tolist() == UNIFORM_OF_VERSION_1


@pytest.mark.parametrize("seed", [-1, 2**62, -(2**63)])
def test_any_64_bit_seed_will_do(seed: int) -> None:
    values = uniform(key(seed, torch.arange(100)), (10,), torch.float64)
    assert len(values.unique()) == 1000


KEYS_OF_VERSION_1 = [-2451121009605230123, 4345780411433736407]
UNIFORM_OF_VERSION_1 = [0.13870936632156372, 0.9711020588874817, 0.27783286571502686]
