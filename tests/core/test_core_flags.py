"""Red flags that a model raises: each triggered, and none of them on a healthy model."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from blindspots import BIM, FGSM, PGD, Classifier
from blindspots.flags import Flag, gradient_flags, output_flags, probe


def codes(flags: tuple[Flag, ...]) -> list[str]:
    return [flag.code for flag in flags]


def result_flags(net: nn.Module, victim, attack=None) -> list[str]:
    model = Classifier(net, batch=4)
    images = victim.images.to(model.dtype)
    return codes((attack or BIM(0.04, steps=5))(model, images, victim.labels).flags)


def test_a_healthy_model_raises_none(victim) -> None:
    assert result_flags(victim.module(), victim) == []
    assert result_flags(victim.module(torch.float32), victim) == []
    assert probe(victim.classifier(), victim.images) == ()


def test_softmax_inside_the_model(victim) -> None:
    """Trap 40."""
    assert "probabilities" in result_flags(nn.Sequential(victim.module(), nn.Softmax(1)), victim)
    assert "probabilities" in codes(
        probe(Classifier(nn.Sequential(victim.module(), nn.Softmax(1)), batch=4), victim.images)
    )


def test_positive_logits_are_no_probabilities() -> None:
    logits = torch.tensor([[0.2, 0.8], [0.5, 0.6]])
    assert output_flags(logits) == ()
    assert codes(output_flags(torch.tensor([[0.2, 0.8], [0.5, 0.5]]))) == ["probabilities"]
    assert output_flags(torch.tensor([[-0.2, 1.2], [0.5, 0.5]])) == ()


def test_constant_output(victim) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5] * 0 + torch.arange(5)

    assert "constant-output" in result_flags(Constant(), victim)
    assert output_flags(torch.tensor([[1.0, 2.0]])) == (), "one image says nothing"


def test_one_image_towards_every_target_is_no_constant_output(victim) -> None:
    model = victim.classifier()
    for count in (1, 2):
        images, labels = victim.images[:count], victim.labels[:count]
        assert codes(FGSM(0.04)(model, images, labels, targets="all").flags) == []


class Steps(nn.Module):
    """Rounds to few grey levels: the true gradient is zero almost everywhere."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * 8).round() / 8)


def test_zero_gradients(victim) -> None:
    assert "zero-gradients" in result_flags(Steps(victim.module()), victim)


def test_a_model_that_cuts_the_graph_has_zero_gradients(victim) -> None:
    class Cut(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.detach())

    class Inference(Cut):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.net(x)

    for kind in (Cut, Inference):
        assert "zero-gradients" in result_flags(kind(victim.module()), victim)
        assert "zero-gradients" in result_flags(kind(victim.module()), victim, PGD(0.04, steps=3, keep="lowest"))


def test_some_zero_gradients_are_no_flag() -> None:
    attacked = torch.ones(100, dtype=torch.bool)
    backwards = torch.full((100,), 10)
    zero = torch.zeros(100, dtype=torch.int64)
    none = torch.zeros_like(zero)
    zero[:4] = 10
    assert gradient_flags(attacked, zero, none, backwards) == (), "fewer than one image in twenty"
    zero[:5] = 10
    assert codes(gradient_flags(attacked, zero, none, backwards)) == ["zero-gradients"]
    assert gradient_flags(attacked, none + 5, none, backwards) == (), "no more than half of the gradients"
    assert gradient_flags(~attacked, none + 10, none, backwards) == (), "nothing was attacked"


def test_gradients_that_are_not_finite(victim) -> None:
    class Root(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net((x - x.detach()).abs().sqrt() + x)

    assert "bad-gradients" in result_flags(Root(victim.module()), victim)


def test_outputs_that_are_not_finite() -> None:
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]])
    (flag,) = output_flags(logits)
    assert flag.code == "bad-outputs"
    assert "2 of 3 images" in flag.text


def test_randomness_in_eval_mode(victim) -> None:
    class Drops(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(nn.functional.dropout(x, 0.5, training=True))

    found = codes(probe(Classifier(Drops(victim.module()).eval(), batch=4), victim.images))
    assert found == ["random-output"]


def test_batch_statistics(victim) -> None:
    net = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), victim.build()).double().eval()
    assert codes(probe(Classifier(net, batch=4), victim.images)) == ["batch-dependent"]
    tracked = nn.Sequential(nn.BatchNorm2d(1), victim.build()).double().eval()
    assert probe(Classifier(tracked, batch=4), victim.images) == ()


def test_train_mode_and_missing_weights(victim) -> None:
    net = victim.module().train()
    (flag,) = probe(Classifier(net, batch=4), victim.images)
    assert flag.code == "train-mode"
    assert flag.severity == "warning"
    assert "the module itself, conv, head" in flag.text
    (flag,) = probe(Classifier(victim.module(), batch=4, name="resnet18", trained=False), victim.images)
    assert flag.code == "untrained"
    assert probe(Classifier(victim.module(), batch=4, trained=True), victim.images) == ()


@pytest.mark.parametrize("severity", ["error", "warning", "info"])
def test_flags_are_json(severity: str) -> None:
    flag = Flag("code", severity, "Title", "Text.")
    assert json.loads(json.dumps(flag.to_json())) == {
        "code": "code",
        "severity": severity,
        "title": "Title",
        "text": "Text.",
        "job": None,
    }
