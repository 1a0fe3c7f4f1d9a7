"""Transfer: what is counted, against attacks and judges run by hand; amplified changes and noise of a given size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import blindspots as bs
from blindspots.analysis import transfer as module
from blindspots.analysis import transfer_rows
from blindspots.analysis.distortions import amplified, distortion, gaussian
from blindspots.cli import main
from blindspots.noise import key
from blindspots.studies.page import Table


@pytest.fixture
def pair(conv: Any) -> list[bs.Classifier]:
    return [bs.Classifier(conv(seed), classes=5, batch=8, name=name) for seed, name in ((0, "one"), (1, "two"))]


@pytest.fixture
def data(pair: list[bs.Classifier]) -> bs.data.ImageData:  # type: ignore[name-defined]
    """Thirty images, of which each network gets some wrong."""
    images = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = pair[0].logits(images).argmax(1)
    labels[::7] = (labels[::7] + 1) % 5
    return bs.dataset((images, labels))


PGD = bs.PGD("0.05", steps=5)


def table(rows: list[dict[str, Any]], variant: str, what: str, of: str) -> list[list[int]]:
    return [row[what][of] for row in rows if row["variant"] == variant]


def test_the_diagonal_is_the_success_of_the_attack(pair: list[bs.Classifier], data: Any) -> None:
    rows = bs.analysis.Transfer((PGD,), control=False).measure(pair, data, pair)
    images, labels, index = data.batch(0, len(data))
    for place, model in enumerate(pair):
        result = PGD(model, images, labels, index=index)
        right = result.clean_correct
        fooled = int((result.success & right).sum())
        assert 0 < int(right.sum()) < len(data)
        row = rows[place]
        assert (row["success"], row["attacked"]) == (fooled, int(right.sum()))
        assert (row["wrong"]["both"][place], row["of"]["both"][place]) == (fooled, int(right.sum()))
        assert row["wrong"]["fooled"][place] == row["of"]["fooled"][place] == fooled
        robust = int((right & ~result.success).sum())
        assert (row["wrong"]["all"][place], row["of"]["all"][place]) == (len(data) - robust, len(data))
        size = distortion(images, result.images)[result.success & right]
        assert row["distortion"] == pytest.approx(float(size.mean()))


def test_other_entries_are_what_the_other_network_says(pair: list[bs.Classifier], data: Any) -> None:
    (row,) = bs.analysis.Transfer((PGD,), control=False).measure(pair[:1], data, pair, targets="random")
    images, labels, index = data.batch(0, len(data))
    mine = PGD(pair[0], images, labels, targets="random", index=index)
    theirs = bs.transfer(mine, images, pair[1])
    counted = {
        "fooled": mine.success & mine.clean_correct,
        "both": mine.clean_correct & theirs.clean_correct,
        "all": torch.ones(len(data), dtype=torch.bool),
    }
    for of, chosen in counted.items():
        assert row["of"][of][1] == int(chosen.sum())
        assert row["wrong"][of][1] == int((chosen & (theirs.prediction != labels)).sum())
        assert row["hits"][of][1] == int((chosen & theirs.success).sum())


def test_blocks_change_nothing(pair: list[bs.Classifier], data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bs.analysis.Transfer((PGD,), amplify=0.1, noise=(0.2,))
    whole = settings.measure(pair, data, pair)
    monkeypatch.setattr(module, "BLOCK", 7)
    parts = settings.measure(pair, data, pair)
    for row in (*whole, *parts):
        row["distortion"] = pytest.approx(row["distortion"])
    assert parts == whole
    assert [row["variant"] for row in whole] == ["attack"] * 2 + ["amplified"] * 2 + ["control"] * 2 + ["noise"]


def test_a_perturbation_is_a_row_for_all_images(pair: list[bs.Classifier], data: Any, tmp_path: Path) -> None:
    delta = 0.1 * torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)).sign()
    path = bs.Delta(delta, "linf", 0.11, "by hand").save(tmp_path / "v.safetensors")
    done = bs.analysis.Transfer(control=False)([], data, judges=pair, perturbations=[path], out=tmp_path / "out")
    images, labels, _ = data.batch(0, len(data))
    (row,) = done.values["rows"]
    for place, model in enumerate(pair):
        wrong = model.logits((images + delta).clamp(0, 1)).argmax(1) != labels
        assert row["wrong"]["all"][place] == row["wrong"]["fooled"][place] == int(wrong.sum())
        right = model.logits(images).argmax(1) == labels
        assert (row["wrong"]["both"][place], row["of"]["both"][place]) == (int((wrong & right).sum()), int(right.sum()))
    assert done.page is not None
    assert "rows without a source" in done.page.read_text()


def test_a_network_that_makes_the_changes_is_a_row_too(pair: list[bs.Classifier], data: Any, tmp_path: Path) -> None:
    settings = bs.Thresholded(1.5, "l2", epochs=2, minibatch=16, generator_settings={"width": 4, "norm": "none"})
    fitted = settings.fit(pair[0], data).perturbation
    path = fitted.save(tmp_path / "v.safetensors")
    (row,) = bs.analysis.Transfer(control=False).measure(
        [], data, pair, perturbations={"v": bs.Perturbation.load(path)}
    )
    images, labels, _ = data.batch(0, len(data))
    changed = fitted.apply(images)
    assert not torch.equal(changed, images)
    for place, model in enumerate(pair):
        assert row["wrong"]["all"][place] == int((model.logits(changed).argmax(1) != labels).sum())


def test_a_source_that_reads_nothing_right_leaves_dashes_that_are_explained(pair: list[bs.Classifier]) -> None:
    draw = torch.Generator().manual_seed(3)
    pixels = torch.rand(6, 1, 8, 8, generator=draw)
    logits = pair[0].logits(pixels)
    wrong = (logits.argmax(1) + 1) % logits.shape[1]
    done = bs.analysis.Transfer((PGD,), control=False)(pair[:1], (pixels, wrong), judges=pair[:1])
    table = next(block for block in done.blocks if isinstance(block, Table))
    assert [row[1:] for row in table.rows] == [("–",)]
    assert "reads none right" in table.caption


def images_and_changes(low: float, high: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    images = low + (high - low) * torch.rand(4, 1, 5, 5, generator=draw, dtype=torch.float64)
    return images, images + 0.01 * torch.randn(4, 1, 5, 5, generator=draw, dtype=torch.float64)


def test_amplified_changes_have_the_distortion_asked_for_before_they_are_clipped() -> None:
    images, changed = images_and_changes(0.45, 0.55)
    changed[3] = images[3]
    louder = amplified(images, changed, 0.1)
    assert distortion(images, louder)[:3].tolist() == pytest.approx([0.1] * 3, rel=1e-12)
    assert torch.equal(louder[3], images[3])
    cosine = nn.functional.cosine_similarity((louder - images).flatten(1)[:3], (changed - images).flatten(1)[:3])
    torch.testing.assert_close(cosine, torch.ones(3, dtype=torch.float64))
    images, changed = images_and_changes(0.0, 1.0)
    clipped = amplified(images, changed, 0.5)
    change = changed - images
    exact = images + change * 0.5 * 5 / change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(clipped, exact.clamp(0, 1))


@pytest.mark.parametrize("rms", [0.01, 0.3])
def test_noise_has_the_distortion_asked_for_after_the_clip(rms: float) -> None:
    images = torch.rand(4, 1, 6, 6, dtype=torch.float64).round()  # black and white: half of the noise is cut
    wanted = torch.tensor([rms, rms / 2, 0.0, rms])
    keys = key(0, torch.arange(4), "test")
    noisy = gaussian(images, wanted, keys)
    torch.testing.assert_close(distortion(images, noisy), wanted.double(), rtol=1e-9, atol=1e-12)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    torch.testing.assert_close(gaussian(images[1:2], wanted[1:2], keys[1:2]), noisy[1:2], rtol=0, atol=0)


def test_mistakes_are_told_in_a_sentence(pair: list[bs.Classifier], data: Any) -> None:
    settings = bs.analysis.Transfer((PGD,))
    wide = bs.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(100, 5)), batch=8, name="wide")
    with pytest.raises(
        bs.BlindspotsError, match=r"model 'wide' cannot take the images of 'arrays', of shape \(1, 8, 8\)"
    ):
        settings([pair[0], wide], data)
    other = bs.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), batch=8, name="other")
    with pytest.raises(bs.BlindspotsError, match="model 'other' tells 7 classes apart and 'one' 5"):
        settings([pair[0], other], data)
    few = bs.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), batch=8)
    with pytest.raises(bs.BlindspotsError, match="has images of class 4, and the models tell 2 classes apart"):
        settings([few], data)
    with pytest.raises(bs.BlindspotsError, match="a transfer matrix needs judges, and something to judge"):
        settings([], data, judges=pair)
    with pytest.raises(bs.BlindspotsError, match="targets must differ from the labels"):
        settings(pair, data, targets=int(data.labels[0]))
    with pytest.raises(bs.BlindspotsError, match="one target for each image, got 'all'"):
        settings(pair, data, targets="all")
    with pytest.raises(bs.BlindspotsError, match=r"Transfer\.of must be one of fooled, both, all, got 'none'"):
        bs.analysis.Transfer((PGD,), of="none")  # type: ignore[arg-type]
    wrong = bs.Delta(torch.zeros(1, 4, 4), "linf", 0.1, "by hand")
    with pytest.raises(bs.BlindspotsError, match=r"the perturbation is for images of shape \(1, 4, 4\)"):
        settings([], data, judges=pair, perturbations=[wrong])


def test_attacks_of_one_name_have_rows_of_their_own(pair: list[bs.Classifier], data: Any) -> None:
    two = (PGD, bs.PGD("0.1", steps=5))
    rows = bs.analysis.Transfer(two, control=False).measure(pair[:1], data, pair)
    assert [row["name"] for row in rows] == ["one, pgd (0.05)", "one, pgd (0.1)"]
    for attack, row in zip(two, rows, strict=True):
        assert row == {
            **bs.analysis.Transfer((attack,), control=False).measure(pair[:1], data, pair)[0],
            "name": row["name"],
        }
    assert transfer_rows.distinct(["v", "v"], ["", ""]) == ["v (1)", "v (2)"]


def test_networks_of_one_name_are_told_apart() -> None:
    def model(name: str, spec: str | None) -> bs.Classifier:
        return bs.Classifier(nn.Linear(1, 2), name=name, spec=spec)

    a, b, c = model("net", "runs/a/model.pt"), model("net", "runs/b/model.pt"), model("other", None)
    assert transfer_rows.named([a, b, c, a]) == ["net (a)", "net (b)", "other", "net (a)"]
    assert transfer_rows.named([model("net", "x.pt"), model("net", "y.pt")]) == ["net (x)", "net (y)"]
    assert transfer_rows.named([model("net", None), model("net", None)]) == ["net (1)", "net (2)"]
    assert transfer_rows.named([a, a]) == ["net", "net"]


def test_the_command_writes_matrix_and_heat_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "import torch\nfrom torch import nn\ndef net():\n    torch.manual_seed({})\n"
    text += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    for number in range(2):
        (tmp_path / f"net{number}.py").write_text(text.format(number))
    words = ["analyze", "transfer", "--source", "net0.py:net", "--source", "net1.py:net", "--batch", "32"]
    words += ["--attack", "pgd:steps=3", "--radius", "0.1", "--limit", "40", "--out", "out", "--of", "all"]
    assert main(words) == 0
    values = json.loads((tmp_path / "out/transfer.json").read_text())
    assert len(values["judges"]) == 2
    assert [row["of"]["all"] for row in values["rows"]] == [[40, 40]] * 4
    assert (tmp_path / "out/transfer.html").read_text().count("data:image/png") == 2


def test_a_torchvision_network_and_a_folder_of_images(tmp_path: Path) -> None:
    """The run of the paper on AlexNet and ImageNet, with random weights and three pictures."""
    model = bs.classifier("torchvision:shufflenet_v2_x0_5", batch=3)
    draw = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / "val" / "kind").mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val" / "kind" / f"{number}.png")
    folder = f"imagefolder:{tmp_path / 'val'}"
    images = bs.dataset(folder, size=32).batch(0, 3)[0]
    commonest = int(model.logits(images).argmax(1).mode().values)
    data = bs.dataset(folder, size=32, labels={"kind": commonest})
    attack = bs.Szegedy(radius=56, steps=3, rounds=0)
    done = bs.analysis.Transfer((attack,), noise=(0.1,))([model], data, targets="second", out=tmp_path / "out")
    row = done.values["rows"][0]
    assert row["attacked"] == int((model.logits(data.batch(0, 3)[0]).argmax(1) == commonest).sum()) > 0
    assert row["hits"]["fooled"] == row["of"]["fooled"] == [row["success"]]
    assert row["of"]["all"] == [3]
    assert (tmp_path / "out/transfer.html").is_file()
