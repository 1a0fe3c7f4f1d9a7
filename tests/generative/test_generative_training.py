"""Joint training: the generator learns beside the network, within its ball, and goes on from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blindspots.geometry import NORMS
from blindspots.training import TrainSettings, fit
from blindspots.training.methods import make_method
from blindspots.training.step import Step


def taken(victim, state, steps: range, norm: str = "l2"):
    """The changed images of these steps, on a network that stays as it is."""
    torch.manual_seed(0)
    network = victim.module(torch.float32)
    method, cache = make_method("generator", {"radius": 0.5, "norm": norm, "width": 2}), {}
    made = []
    for number in steps:
        step = Step(
            network,
            network,
            victim.images.float(),
            victim.labels,
            victim.index,
            number=number,
            state=state,
            cache=cache,
        )
        made.append(method.craft(step))
    return made, network


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_generator_climbs_within_its_ball_and_goes_on_from_a_checkpoint(victim, norm: str) -> None:
    state: dict[str, torch.Tensor] = {}
    first, _ = taken(victim, state, range(4), norm)
    kept = {name: value.clone() for name, value in state.items()}
    rest, network = taken(victim, kept, range(4, 30), norm)
    whole, _ = taken(victim, {}, range(30), norm)
    for one, other in zip([*first, *rest], whole, strict=True):
        assert torch.equal(one, other)
    x = victim.images.float()
    for made in whole:
        assert (NORMS[norm].size((made - x).double()) <= 0.5 * (1 + 1e-6)).all()
        assert not made.requires_grad
    losses = [float(torch.nn.functional.cross_entropy(network(made), victim.labels).detach()) for made in whole]
    assert losses[-1] > losses[0]
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


def test_a_network_is_trained_against_it(tmp_path: Path) -> None:
    settings = TrainSettings(
        data="digits", limit=80, epochs=1, method="generator", out=str(tmp_path / "t"), device="cpu", threads=1,
        method_settings={"radius": 0.5, "norm": "l2", "width": 2},
    )  # fmt: skip
    assert fit(settings).model.is_file()
