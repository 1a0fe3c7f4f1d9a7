"""Layers by name: what is found, what hooks see, and that nothing of them stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from blindspots import BlindspotsError, Classifier, analysis, dataset
from blindspots.analysis.layers import activations, enough, find_layer, hooked, layer_names, traced


class Twice(nn.Module):
    """A network whose one ReLU runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(64, 8), nn.Linear(8, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x.flatten(1)))))


def hooks_of(module: nn.Module) -> int:
    return sum(len(layer._forward_hooks) for layer in module.modules())


def test_an_unknown_layer_is_refused_with_the_names_there_are(conv) -> None:
    with pytest.raises(BlindspotsError, match="unknown layer 'convv': did you mean 'conv'\\? known: conv, head"):
        find_layer(conv(), "convv")
    with pytest.raises(BlindspotsError, match="known: conv, head"):
        find_layer(conv(), "")
    assert layer_names(conv()) == ["conv", "head"]


def test_activations_are_what_the_layer_answers_whatever_the_model_batch(victim) -> None:
    found, logits = activations(victim.classifier(batch=4), victim.images, ["conv", "head"])
    net = victim.module()
    assert torch.allclose(found["conv"], net.conv(victim.images), atol=1e-12)
    assert torch.equal(found["head"], logits)
    assert found["conv"].shape == (13, 6, 8, 8)


def test_activations_are_kept_before_a_later_layer_writes_over_them() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 3))
    found, _ = activations(Classifier(net, batch=2), torch.rand(3, 1, 8, 8), ["0"])
    assert bool((found["0"] < 0).any())


def test_layers_that_run_twice_or_never_are_refused() -> None:
    net = Twice()
    net.idle = nn.Linear(2, 2)
    model = Classifier(net, batch=2)
    with pytest.raises(BlindspotsError, match="layer 'relu' runs 2 times for one image"):
        activations(model, torch.rand(2, 1, 8, 8), ["relu"])
    with pytest.raises(BlindspotsError, match="layer 'idle' runs 0 times"):
        activations(model, torch.rand(2, 1, 8, 8), ["idle"])
    assert hooks_of(net) == 0


def test_a_hook_may_change_an_answer_and_is_gone_after_an_exception(victim) -> None:
    model = victim.classifier()
    with model.session(), hooked(model.module, {"conv": torch.zeros_like}):
        assert torch.allclose(model.forward(victim.images[:4]), model.module.head.bias.expand(4, 5))
    with pytest.raises(ZeroDivisionError), hooked(model.module, {"conv": lambda answer: None}):
        raise ZeroDivisionError
    assert hooks_of(model.module) == 0


def test_the_order_is_that_of_running(victim) -> None:
    order = traced(victim.classifier(), victim.images[:1])
    assert order == [("conv", (1, 6, 8, 8)), ("head", (1, 5))]


def test_the_list_of_layers_tells_shapes_and_weights(conv, tmp_path) -> None:
    data = dataset("digits", limit=4)
    done = analysis.Layers()(Classifier(conv(), batch=2), data, out=tmp_path)
    assert done.values["layers"] == [
        {"layer": "conv", "kind": "Conv2d", "shape": [6, 8, 8], "runs": 1, "weights": 60},
        {"layer": "head", "kind": "Linear", "shape": [5], "runs": 1, "weights": 485},
    ]
    assert "6 x 8 x 8" in (tmp_path / "layers.html").read_text()
    assert "made_with" in (tmp_path / "layers.json").read_text()


def test_asking_for_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(BlindspotsError, match=r"Maps.images asks for 9 images, and 'digits' \(test\) has 4"):
        enough(dataset("digits", limit=4), 9, "Maps.images")
