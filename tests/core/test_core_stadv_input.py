"""stAdv given what it cannot use: one clear sentence each, and a flag where only the run can tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import Affine, BlindspotsError, Classifier, FlowBall, StAdv
from blindspots.evaluation.summary import summarise

FEW = StAdv(steps=8, halvings=0, restarts=0)


@pytest.mark.parametrize("attack", [FEW, Affine(), FlowBall(0.1)], ids=lambda attack: attack.name)
@pytest.mark.parametrize(("height", "width"), [(1, 8), (8, 1), (1, 1)])
def test_images_without_two_pixels_a_direction(attack, height: int, width: int, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(height * width, 3))
    images, labels = torch.rand(4, 1, height, width), torch.zeros(4, dtype=torch.int64)
    sentence = f"images of {height} x {width} pixels cannot be bent: bilinear reading needs at least 2 pixels"
    with pytest.raises(BlindspotsError, match=sentence):
        attack(Classifier(net, classes=3, batch=2), images, labels)
    with torch.no_grad():
        labels = net(images).argmax(1)
    with pytest.raises(BlindspotsError, match=sentence):
        bs.evaluate(Classifier(net, classes=3, batch=2), (images, labels), attacks=[attack], out=tmp_path / "run")


def test_targets_that_are_the_labels(victim) -> None:
    with pytest.raises(BlindspotsError, match="targets must differ from the labels, but 13 of 13 are equal") as caught:
        FEW(victim.classifier(), victim.images, victim.labels, targets=victim.labels)
    assert "\n" not in str(caught.value)


class Sure(nn.Module):
    """A victim that answers with its probabilities and is sure of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.softmax = net, nn.Softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(30 * self.net(x))


def test_a_softmax_is_named_as_the_reason_in_result_run_and_report(victim, tmp_path: Path) -> None:
    model = Classifier(Sure(victim.module(torch.float32)), classes=5, batch=4)
    images = victim.images.float()
    result = FEW(model, images, victim.labels)
    stood = int((result.clean_correct & ~result.success).sum())
    assert stood >= 6
    flag = next(flag for flag in result.flags if flag.code == "probabilities")
    assert "seems to end in a softmax" in flag.text
    assert flag.text.endswith(f"{stood} of 11 attacked images withstood, and this is the likely reason.")
    assert "probabilities" in repr(result)
    run = bs.evaluate(model, (images, victim.labels), attacks=[FEW], out=tmp_path / "run")
    told = next(flag for flag in summarise(run)["flags"] if flag["code"] == "probabilities")
    assert told["text"].endswith("of 11 attacked images withstood, and this is the likely reason.")
    assert "In 00-stadv-flow-5.0, " in told["text"]
    page = (run.path / "report.html").read_text()
    assert "seems to end in a softmax" in page
    assert "withstood, and this is the likely reason." in page


def test_a_softmax_that_stops_nothing_is_not_blamed(victim) -> None:
    model = Classifier(nn.Sequential(victim.module(), nn.Softmax(1)), classes=5, batch=4)
    result = StAdv(steps=60)(model, victim.images, victim.labels)
    flag = next(flag for flag in result.flags if flag.code == "probabilities")
    stood = int((result.clean_correct & ~result.success).sum())
    assert ("likely reason" in flag.text) == (stood > 0)
    said = Classifier(nn.Sequential(victim.module(), nn.Softmax(1)), classes=5, batch=4, outputs="probabilities")
    assert not [flag for flag in FEW(said, victim.images, victim.labels).flags if flag.code == "probabilities"]


class Torn(nn.Module):
    """A victim that answers with NaN as soon as an image is not the one it was."""

    def __init__(self, net: nn.Module, clean: Tensor) -> None:
        super().__init__()
        self.net, self.clean = net, clean.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        far = torch.cdist(x.detach().flatten(1), self.clean, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        return torch.where((far > 0).unsqueeze(1), float("nan"), self.net(x))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_an_objective_that_is_not_a_number_fools_nobody_and_is_told(victim, solver, tmp_path: Path) -> None:
    model = Classifier(Torn(victim.module(), victim.images), classes=5, batch=4)
    attack = StAdv(steps=8, halvings=1, solver=solver)
    result = attack(model, victim.images, victim.labels)
    right = ~victim.wrong
    assert not result.success[right].any()
    assert torch.equal(result.images, victim.images)
    assert torch.isfinite(result.flow).all()
    assert (result.bad_gradients[right] > 0).all()
    flag = next(flag for flag in result.flags if flag.code == "bad-gradients")
    assert flag.text.startswith("For 11 of 11 attacked images some losses or gradients are NaN or infinite")
    run = bs.evaluate(model, (victim.images, victim.labels), attacks=[attack], out=tmp_path / "run")
    assert "bad-gradients" in [flag["code"] for flag in summarise(run)["flags"]]
