"""The parts of the studies of adversarial training: attacks that are what they are called, and answers by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import blindspots as bs
from blindspots.studies import assignment, defended
from blindspots.studies.assignment import AssignmentStudy, stepping
from blindspots.studies.assignment_answers import Scene, Seen, answers, changed, mean
from blindspots.studies.assignment_page import KINDS
from blindspots.studies.defended import RECALLED


def test_one_step_is_the_sign_method_and_the_normalised_gradient(victim: Any) -> None:
    """Where a step raises the loss it is the one of FGSM or FGM, bit for bit; where not, the image stays."""
    right = ~victim.wrong
    images, labels, index = victim.images[right], victim.labels[right], victim.index[right]
    model = victim.classifier()
    for norm, reference, radius in (("linf", bs.FGSM("0.03"), "0.03"), ("l2", bs.FGM("0.5"), "0.5")):
        one = stepping(radius, norm, 1)(model, images, labels, index=index)  # type: ignore[arg-type]
        other = reference(model, images, labels, index=index)
        assert torch.equal(one.success, other.success)
        assert torch.equal(one.images[one.success], other.images[one.success])
        assert bool(one.success.any())
        loss = torch.nn.functional.cross_entropy
        before = loss(model.logits(images), labels, reduction="none")
        assert bool((loss(model.logits(one.images), labels, reduction="none") >= before).all())


def test_sign_and_normalised_steps_are_paired_by_their_l2_size() -> None:
    """Away from the box a sign step of eps has l2 size eps sqrt(n), and so has its normalised partner."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    images = 0.4 + 0.2 * torch.rand(6, 1, 8, 8)
    labels, model = net(images).argmax(1), bs.Classifier(net, batch=8)
    study = AssignmentStudy(data="digits")
    attacks = study._attacks()
    for place, radius in enumerate(study.sweep.radii[:2]):
        sizes = [attacks[kind][place](model, images, labels).size["l2"] for kind in ("sign", "normalised")]
        assert sizes[0].tolist() == pytest.approx([float(radius) * 8] * 6, rel=1e-4)
        assert sizes[1].tolist() == pytest.approx(sizes[0].tolist(), rel=1e-4)


def test_photographs_have_the_radii_of_the_course(monkeypatch: pytest.MonkeyPatch) -> None:
    study = AssignmentStudy()
    for channels, radii in ((1, assignment.DIGITS.radii), (3, assignment.PHOTOS.radii)):
        pixels, labels = torch.rand(4, channels, 32, 32), torch.tensor([0, 1, 2, 3])
        data = bs.dataset((pixels, labels))
        monkeypatch.setattr(AssignmentStudy, "images", lambda self, data=data: data)
        assert study.sweep.radii == radii
    # CIFAR-10: a sign step of 0.01 is a normalised one of 0.554.
    assert study._paired("0.01") == pytest.approx(0.01 * math.sqrt(3072))


def seen(right: list[bool], confidence: list[float] | None = None) -> Seen:
    values = torch.tensor(confidence or [0.5] * len(right))
    return Seen(torch.tensor(right), torch.arange(len(right)).float(), torch.zeros(len(right)).long(), values)


def test_differences_and_means_are_those_of_a_hand() -> None:
    new, old = seen([True] * 9 + [False]), seen([True] * 4 + [False] * 6)
    assert re.fullmatch(r"\+50\.0.pp \[\+20\.0 to \+80\.0\], p 0\.062", changed(new, old))
    assert changed(old, old).startswith("0")
    assert mean(torch.tensor([1.0, 2.0, 3.0])) == f"2 [{2 - 1.959964 / 3**0.5:.3g}–{2 + 1.959964 / 3**0.5:.3g}]"
    assert (mean(torch.tensor([])), mean(torch.tensor([0.25]), 100, " %")) == ("–", "25 %")
    assert seen([True, False, False], [0.9, 0.2, 0.4]).errors.startswith("30 % [")


def scene() -> Scene:
    return Scene(("0.1", "0.2"), "0.1", 64, 5, {}, ("dog", "cat"), "cat")


def everything(networks: Iterator[str]) -> tuple[dict[str, Any], dict[str, dict[tuple[str, str], Tensor]]]:
    """Networks that get 8 of 10 right unchanged, 5 in the middle, 1 at the end."""
    images = {("none", ""): seen([True] * 8 + [False] * 2), ("stAdv", ""): seen([True] * 3 + [False] * 7)}
    for kind in KINDS:
        images |= {(kind, "0.1"): seen([True] * 5 + [False] * 5), (kind, "0.2"): seen([True] + [False] * 9)}
    taken = {(kind, radius): torch.tensor([True, False]) for kind in ("sign", "PGD") for radius in ("", "0.1", "0.2")}
    return dict.fromkeys(networks, images), {"plain": taken}


def test_every_question_is_answered_with_a_number_and_its_interval() -> None:
    names = [training.name for training in assignment.TRAININGS]
    told = list(answers(scene(), *everything(iter(names))))
    assert len(told) == 13
    for question, answer in told:
        assert question.endswith("?")
        assert re.search(r"\d.* \[[^\]]*\d(–| to )[^\]]*\]", answer) or "[0 to 0]" in answer, question
    assert told[0][1].startswith("Yes. A sign step of 0.1 takes accuracy from 80.0")
    assert "cat" in told[-1][0]
    assert "50.0" in told[-1][1]


def test_a_question_whose_networks_are_missing_is_left_open() -> None:
    told = dict(answers(scene(), *everything(iter(["plain"]))))
    assert not told["Do the three ways to train on both differ?"]
    assert not told["Is the accuracy on unchanged images better, the same or worse?"]
    assert not any("random noise" in question for question in told)


def test_images_of_the_class_itself_are_not_counted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says one class of everything: all images of other classes count as taken for it, and no more."""
    from blindspots.studies.notebook import Notebook

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.eye(10)[3])
    monkeypatch.setattr(assignment, "QUICK", assignment.Size(60, 1, 40, 4, 2, 1, 2))
    monkeypatch.setattr(AssignmentStudy, "_model", lambda self, book, name: bs.Classifier(net, batch=8))
    study = AssignmentStudy(data="digits")
    book = Notebook(tmp_path, {}, lambda cell: None)
    reached = study._aimed(book, "plain")
    book.close()
    others = int((study.images().batch(0, 40)[1] != 3).sum())
    assert others < 40
    for each in reached.values():
        assert each.tolist() == [True] * others


def test_what_is_recalled_is_called_so() -> None:
    assert set(RECALLED) == {"FGSM", "C&W", "stAdv"}
    assert all(set(rows) == set(defended.NETWORKS) for rows in RECALLED.values())
    none = {"of": 4, "success": 1, "size": None, "gradients": 1.0}
    every = dict.fromkeys(("noise", "FGSM", "PGD", "C&W", "stAdv"), none)
    which = [(letter, defence) for letter in defended.NETWORKS for defence in defended.DEFENCES]
    blocks = defended._headline(dict.fromkeys(which, every), {pair: every for pair in which if pair[1] != "plain"})
    table = blocks[-1]
    assert table.columns[3] == "paper, as recalled"  # type: ignore[union-attr]
    shown = {row[:3]: row[3] for row in table.rows}  # type: ignore[union-attr]
    # papers: stAdv on network A, trained on FGSM, on an ensemble, on PGD.
    assert [shown["A", name, "stAdv"] for name in list(defended.DEFENCES.values())[1:]] == [
        "32.62 %",
        "48.07 %",
        "48.38 %",
    ]
    assert shown["C", "PGD", "C&W"] == "0.98 %"
    assert shown["B", "Ens", "PGD"] == "–"
