"""Units against directions: planted structure is found, streaming changes nothing, permutations are exact."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots.analysis import units as module
from blindspots.analysis.permutation import compare
from blindspots.analysis.toplists import TopList, extended
from blindspots.cli import main

CLASSES = 4


def planted(count: int = 120) -> tuple[Tensor, Tensor]:
    """Images of 4 x 4 pixels whose pixel y is bright for label y alone; pixel 15 is the same for all."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % CLASSES
    images = torch.rand(count, 1, 4, 4, generator=draw) * 0.4
    pixels = images.flatten(1)
    pixels[:, :CLASSES] = 0
    pixels[torch.arange(count), labels] = 0.5 + 0.5 * torch.rand(count, generator=draw)
    pixels[:, 15] = 0.25
    return images, labels


def net(classes: int = CLASSES) -> bs.Classifier:
    """Layer '0' answers with the pixels."""
    return bs.classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, classes)), batch=8)


def look(**settings: Any) -> module.Units:
    return module.Units(**{"layer": "0", "directions": 20, "top": 6, "permutations": 199, "shown": 0, **settings})


def by_number(values: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {row["number"]: row for row in values["units"]}


def test_a_unit_that_answers_one_class_has_purity_1_and_a_dead_one_is_left_out() -> None:
    images, labels = planted()
    values = look()(net(), (images, labels)).values
    found = by_number(values)
    assert values["width"] == 16
    assert values["constant"] == 1
    assert 15 not in found
    for y in range(CLASSES):
        assert found[y]["purity"] == found[y]["agreement"] == 1
        assert found[y]["labels"] == [y] * 6
        best = images.flatten(1)[:, y].argsort(descending=True)[:6]
        assert found[y]["rows"] == best.tolist()
        top = images[best].flatten(1)
        pairs = [float((top[i] - top[j]).norm()) for i, j in combinations(range(6), 2)]
        assert found[y]["distance"] == pytest.approx(sum(pairs) / len(pairs), rel=1e-6)


def test_random_images_have_the_agreement_of_the_classes() -> None:
    images, labels = planted()
    values = look(directions=400, top=4)(net(), (images, labels)).values
    counts = labels.bincount().double()
    prior = float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))
    random = torch.tensor([row["agreement"] for row in values["random"]])
    # Sets of random images are independent: the mean has this standard error.
    assert abs(float(random.mean()) - prior) < 4 * float(random.std()) / 400**0.5
    assert all(len(set(row["rows"])) == 4 for row in values["random"])


@pytest.mark.parametrize("size", [7, 64])
def test_streaming_finds_what_all_at_once_finds(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted()
    whole = look(top=5)(net(), data).values
    monkeypatch.setattr(module, "_IMAGES", size)
    parts = look(top=5)(net(), data).values
    for kind in module.KINDS:
        assert [row["rows"] for row in parts[kind]] == [row["rows"] for row in whole[kind]]


def test_a_top_list_is_the_sorted_beginning_in_any_order_of_arrival() -> None:
    draw = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 4, (50, 3), generator=draw).double()  # many ties
    ties, rows = torch.randperm(50, generator=draw), torch.arange(50)
    wanted = [sorted(range(50), key=lambda i: (-float(scores[i, j]), int(ties[i])))[:8] for j in range(3)]
    for order in (torch.arange(50), torch.randperm(50, generator=draw)):
        for size in (1, 9, 50):
            best: TopList | None = None
            for part in order.split(size):
                best = extended(best, scores[part], rows[part], ties[part], 8)
            assert best is not None
            assert best.rows.T.tolist() == wanted
            assert torch.equal(best.least, scores.amin(0))


def test_the_permutation_test_agrees_with_all_regroupings() -> None:
    first, second = torch.tensor([1.0, 2.0, 4.0, 9.0]), torch.tensor([0.0, 1.5, 3.0, 2.5, 0.5])
    pooled = torch.cat((first, second))
    differences = []
    for chosen in combinations(range(9), 4):
        inside = pooled[list(chosen)]
        differences.append(float(inside.mean() - (pooled.sum() - inside.sum()) / 5))
    found = compare(first, second, seed=0, purpose="test", draws=20_000)
    assert found["difference"] == pytest.approx(4 - 1.5)
    exact = sum(abs(d) >= 2.5 - 1e-9 for d in differences) / len(differences)
    assert found["p"] == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5 + 1e-4)
    low, high = torch.quantile(torch.tensor(differences), torch.tensor([0.025, 0.975])).tolist()
    assert found["null_low"] == pytest.approx(low, abs=0.1)
    assert found["null_high"] == pytest.approx(high, abs=0.1)
    assert found["low"] < found["difference"] < found["high"]
    assert compare(first, second, seed=0, purpose="test", draws=50) == compare(
        first, second, seed=0, purpose="test", draws=50
    )


def test_equal_groups_do_not_differ() -> None:
    found = compare(torch.full((30,), 0.1), torch.full((40,), 0.1), seed=0, purpose="test", draws=99)
    assert found["p"] == 1
    assert found["difference"] == pytest.approx(0, abs=1e-15)


def test_directions_are_of_length_1_and_uniform_ones_are_positive() -> None:
    for draw in ("normal", "uniform"):
        directions = look(draw=draw)._directions(50, 3)
        torch.testing.assert_close(directions.norm(dim=0), torch.ones(20))
        assert bool((directions >= 0).all()) == (draw == "uniform")


def test_channels_are_pooled_on_request() -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, CLASSES))
    model = bs.classifier(conv, batch=8)
    assert look(layer="0")(model, planted()).values["width"] == 12
    assert look(layer="0", pool="max")(model, planted()).values["width"] == 3
    with pytest.raises(bs.BlindspotsError, match=r"Units\.pool is mean, but layer '1' .* leave pool out"):
        look(layer="1", pool="mean")(model, planted())


def test_mistakes_are_told_in_a_sentence() -> None:
    with pytest.raises(bs.BlindspotsError, match="unknown layer '7': known: 0, 1"):
        look(layer="7")(net(), planted())
    with pytest.raises(bs.BlindspotsError, match=r"Units\.top asks for 6 images, and .* has 4"):
        look()(net(), planted(4))
    with pytest.raises(bs.BlindspotsError, match=r"Units\.top must be at least 2, got 1"):
        look(top=1)
    with pytest.raises(bs.BlindspotsError, match=r"Units\.draw must be one of normal, uniform, got 'gauss'"):
        look(draw="gauss")
    dead = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(16, CLASSES))
    dead[1].register_forward_hook(lambda layer, inputs, answer: answer * 0)
    with pytest.raises(bs.BlindspotsError, match="all 16 units of layer '1' answer every image alike"):
        look(layer="1")(dead, planted())


def test_the_command_writes_page_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    words = ["analyze", "units", "--model", "net.py:net", "--data", "digits", "--limit", "60", "--batch", "32"]
    assert (
        main([*words, "--layer", "1", "--directions", "8", "--permutations", "99", "--shown", "2", "--out", "out"]) == 0
    )
    values = json.loads((tmp_path / "out/units.json").read_text())
    page = (tmp_path / "out/units.html").read_text()
    assert len(values["units"]) == 10
    assert page.count("data:image/png") == 3
    assert "single units less random directions: purity" in page
