"""A weight decay for each layer is the gradient of its penalty."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import blindspots as bs
from blindspots.training.preparation import _optimiser


def network() -> nn.Module:
    return bs.build("fc6-4-3", classes=3, size=2)


def test_a_step_follows_the_loss_with_its_penalty() -> None:
    decays, rate = (0.3, 0.0, 0.7), 0.1
    settings = bs.TrainSettings(optimiser="sgd", momentum=0.0, learning_rate=rate, layer_decay=decays)
    net = network().double()
    optimiser = _optimiser(settings, net)
    images, labels = torch.rand(5, 1, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    matrices = [weight for weight in net.parameters() if weight.ndim > 1]
    penalty = sum(d * w.square().sum() / len(w) for d, w in zip(decays, matrices, strict=True))
    loss = nn.functional.cross_entropy(net(images), labels)
    gradients = torch.autograd.grad(loss + penalty, [*net.parameters()])
    wanted = [w - rate * g for w, g in zip(net.parameters(), gradients, strict=True)]
    nn.functional.cross_entropy(net(images), labels).backward()
    optimiser.step()
    for weight, new in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight.detach(), new.detach())


def test_mistakes_are_told_in_a_sentence() -> None:
    with pytest.raises(bs.BlindspotsError, match="has 3 layers with a weight matrix, and layer_decay 2 numbers"):
        _optimiser(bs.TrainSettings(network="fc6-4-3", layer_decay=(1.0, 1.0)), network())
    with pytest.raises(bs.BlindspotsError, match="without weight_decay: leave one out"):
        bs.TrainSettings(layer_decay=(1.0,), weight_decay=0.1)
    with pytest.raises(bs.BlindspotsError, match="finite numbers from 0 up"):
        bs.TrainSettings(layer_decay=(-1.0,))


def test_a_part_of_the_data_keeps_numbers_and_has_a_fingerprint_of_its_own() -> None:
    data = bs.dataset("digits", limit=50)
    part = data.part(torch.tensor([7, 3]))
    assert part.index.tolist() == data.index[[3, 7]].tolist()
    assert torch.equal(part.batch(0, 2)[0], data.take(torch.tensor([3, 7]))[0])
    assert len(data) == 50
    assert part.fingerprint() != data.fingerprint()
    with pytest.raises(bs.BlindspotsError, match="needs rows from 0 to 49"):
        data.part(torch.tensor([50]))
