"""Studies: done cell by cell, resumed, refused where they differ, and written as a page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

import blindspots as bs
from blindspots.attacks import StAdv
from blindspots.studies import assignment, defended, gap, gap_imagenet, intriguing, stadv, szegedy
from blindspots.studies.mistakes import PlusKappa, softmax_inside
from blindspots.studies.notebook import Notebook
from blindspots.studies.page import Paragraph, Picture, Table, Title, html, markdown, print_page
from blindspots.studies.pictures import grid, lines
from blindspots.studies.stadv_page import best_fixed

TRAINING, TEST = 120, 40


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits enlarged to 28 x 28 pixels, so that nothing needs to be downloaded."""
    data = bs.dataset("digits", split="train")
    images, labels, _ = data.batch(0, TRAINING + TEST)
    large = torch.nn.functional.interpolate(images, size=28, mode="bilinear").numpy()
    path = tmp_path_factory.mktemp("data") / "digits28.npz"
    first = slice(0, TRAINING)
    np.savez(path, x_train=large[first], y_train=labels[first], x_test=large[TRAINING:], y_test=labels[TRAINING:])
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies of seconds: two small networks, few images, few steps."""
    every = stadv.ablation
    monkeypatch.setattr(stadv, "QUICK", stadv.Size(None, 3, 6, 4, 4, 4, 4, 2, steps=3))
    shallow = StAdv(steps=3, halvings=1, restarts=0)
    monkeypatch.setattr(stadv.StAdvStudy, "_default", property(lambda self: shallow))
    monkeypatch.setattr(stadv, "HEADLINE", (("b", "tramer"),))
    monkeypatch.setattr(stadv, "OTHERS", (("b", "maxpool"),))
    monkeypatch.setattr(stadv, "TAUS", (0.05, 0.01))
    monkeypatch.setattr(stadv, "DEFENCES", ("mean-blur:size=3",))
    monkeypatch.setattr(stadv, "ablation", lambda steps: (every(steps)[0], every(steps)[9], every(steps)[-1]))
    lines = gap.lines
    monkeypatch.setattr(gap, "QUICK", gap.Size(2, 0.2, 0.2, 1, 20, 1, 4, 40, 1, 4, 1, 0.1))
    monkeypatch.setattr(gap, "OTHER", {"small-cnn": "lenet"})
    monkeypatch.setattr(gap, "lines", lambda size: [lines(size, width=2)[k] for k in (0, 1, 2, 4)])
    monkeypatch.setattr(szegedy, "QUICK", szegedy.Size(None, 3, 4, 1, steps=20))
    monkeypatch.setattr(szegedy, "NETS", (szegedy.NETS[0], szegedy.NETS[3]))
    monkeypatch.setattr(intriguing, "QUICK", intriguing.Size(None, 3, 4, 2, 1, steps=20))
    monkeypatch.setattr(intriguing, "NETS", intriguing.NETS[:4])
    monkeypatch.setattr(assignment, "QUICK", assignment.Size(60, 1, 8, 4, 2, 1, 2))
    monkeypatch.setattr(assignment, "DIGITS", assignment.Sweep(("0.1", "0.2"), "0.1"))
    monkeypatch.setattr(assignment, "SHOWN", ("plain", "PGD"))
    monkeypatch.setattr(assignment, "PICTURED", 2)
    monkeypatch.setattr(defended, "QUICK", defended.Size(60, 1, 1, 8, 4, 2, 1, 2, 2, 0))
    monkeypatch.setattr(defended, "NETWORKS", {"a": "small-cnn", "b": "fc10"})


def found(folder: Path) -> dict[str, Any]:
    """What the cells of a study found, but for the seconds."""
    cells = {path.stem: json.loads(path.read_text())["values"] for path in sorted((folder / "cells").glob("*.json"))}
    for values in cells.values():
        values.pop("seconds")
        for timing in ("training", "fit", "each"):
            values.pop(timing, None)
    return cells


# The networks of the first four are for 28 x 28 pixels; those of the others take the digits as they are.
STUDIES = {
    "stadv": None,
    "szegedy-lbfgs": None,
    "intriguing": None,
    "gap": None,
    "assignment": "digits",
    "defended": "digits",
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_stopped_study_goes_on_and_finds_the_same(name: str, small: None, archive: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    data = STUDIES[name] or str(archive)
    cells: list[str] = []
    done = bs.reproduce(name, data=data, out=str(whole), progress=cells.append)
    assert len(cells) == len(set(cells)) == len(found(whole))

    stop = cells[len(cells) // 2]

    def until(cell: str) -> None:
        if cell == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bs.reproduce(name, data=data, out=str(broken), progress=until)
    assert 0 < len(found(broken)) < len(cells)
    rest: list[str] = []
    bs.reproduce(name, data=data, out=str(broken), progress=rest.append)
    assert rest == cells[len(cells) // 2 :]
    assert found(broken) == found(whole)

    again: list[str] = []
    assert bs.reproduce(name, data=data, out=str(whole), progress=again.append).page == done.page
    assert not again

    page, text = done.page.read_text(), done.text.read_text()
    tables = [block for block in done.blocks if isinstance(block, Table)]
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert table.caption in page
        assert table.caption in text
    for block in done.blocks:
        if isinstance(block, Picture):
            assert (done.text.parent / name / block.name).read_bytes() == block.content
    assert "http" not in page.replace("http-equiv", "")
    with pytest.raises(bs.BlindspotsError, match=r"holds a study of other settings \(seed: 0 -> 1\)"):
        bs.reproduce(name, data=data, out=str(whole), seed=1)


def test_photographs_in_a_folder_and_a_network_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small network of random weights, so that nothing is downloaded; the bounds hold all the same."""
    for name, value in (("MODEL", "torchvision:squeezenet1_1"), ("WEIGHTS", None), ("PIXELS", 48), ("SHOWN", 2)):
        monkeypatch.setattr(gap_imagenet, name, value)
    monkeypatch.setattr(
        gap_imagenet, "COMMON", {**gap_imagenet.COMMON, "generator_settings": {"width": 2, "blocks": 1}, "minibatch": 4}
    )
    draw = np.random.default_rng(0)
    for number in range(8):
        place = tmp_path / "photos" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (60, 50, 3), dtype=np.uint8)).save(place / f"{number}.png")
    given = {"data": f"imagefolder:{tmp_path / 'photos'}", "out": str(tmp_path / "out")}
    done = bs.reproduce("gap-imagenet", **given)
    table = next(block for block in done.blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["each image, linf 10", "all images, linf 10", "all images, l2 2000"]
    assert "weights of the network are random" in done.page.read_text()
    images = torch.rand(3, 3, 48, 48)
    for file, norm, radius in (("0", "linf", 10 / 255), ("1", "linf", 10 / 255), ("2", "l2", 2000 / 255)):
        made = bs.Perturbation.load(tmp_path / "out" / "perturbations" / f"{file}.safetensors")
        assert made.norm == norm
        size = bs.geometry.NORMS[norm].size((made.apply(images) - images).double())
        assert (size > 0).all()
        assert (size <= radius + 1e-6).all()
    with pytest.raises(bs.BlindspotsError, match="needs a folder of photographs, got 'mnist'"):
        bs.reproduce("gap-imagenet", out=str(tmp_path / "other"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(bs.BlindspotsError, match="empty"):
        bs.reproduce("gap-imagenet", data=f"imagefolder:{empty}", out=str(tmp_path / "third"))


def test_mistakes_are_refused_in_a_sentence(small: None, tmp_path: Path, archive: Path) -> None:
    with pytest.raises(bs.BlindspotsError, match="study 'stadvv'"):
        bs.reproduce("stadvv")
    with pytest.raises(bs.BlindspotsError, match=r"missing\.npz"):
        bs.reproduce("szegedy-lbfgs", data=str(tmp_path / "missing.npz"), out=str(tmp_path / "none"))
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(bs.BlindspotsError, match="cannot be made"):
        bs.reproduce("szegedy-lbfgs", data=str(archive), out=str(taken))
    book = Notebook(tmp_path / "book", {"a": 1}, lambda cell: None)
    with pytest.raises(bs.BlindspotsError, match="another process is writing"):
        Notebook(tmp_path / "book", {"a": 1}, lambda cell: None)
    book.close()


def test_cells_keep_values_and_tensors_and_refuse_other_settings(tmp_path: Path) -> None:
    told: list[str] = []
    book = Notebook(tmp_path, {}, told.append)
    first = book.cell("one", {"n": 1}, lambda: ({"x": 2}, {"t": torch.arange(3)}))
    second = book.cell("one", {"n": 1}, lambda: pytest.fail("it is done already"))
    assert first[0] == second[0]
    assert second[0]["x"] == 2
    assert torch.equal(second[1]["t"], torch.arange(3))
    assert told == ["one"]
    with pytest.raises(bs.BlindspotsError, match=r"made with other settings \(n: 1 -> 2\)"):
        book.cell("one", {"n": 2}, lambda: ({}, {}))
    (tmp_path / "cells" / "one.json").write_text("{")
    with pytest.raises(bs.BlindspotsError, match="cannot be read"):
        book.cell("one", {"n": 1}, lambda: ({}, {}))


def test_pages_escape_what_they_show() -> None:
    blocks = [Title("A & B"), Paragraph("x < y"), Table("of <b>", ("a", "b|c"), [("1", "2|3")])]
    page, text = html("T", blocks), markdown("T", blocks, "p")
    assert "x &lt; y" in page
    assert "of &lt;b&gt;" in page
    assert "| 1 | 2\\|3 |" in text


def linear() -> tuple[bs.Classifier, Tensor, Tensor]:
    """Two classes told apart by left and right: a flow to the side changes the answer."""
    torch.manual_seed(0)
    weight = torch.linspace(-1, 1, 12).expand(12, 12).reshape(1, -1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.cat((weight, -weight)))
        net[1].bias.zero_()
    images = torch.zeros(4, 1, 12, 12)
    for row in range(4):
        images[row, 0, row + 1 : row + 7, 6:8] = 1.0
    return bs.Classifier(net, batch=4), images, torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(("width", "columns"), [(120, 3), (40, 3), (80, 14)])
def test_wide_tables_are_printed_row_by_row(width: int, columns: int) -> None:
    out = io.StringIO()
    names = tuple(f"column{number}" for number in range(columns))
    print_page(
        [Table("Everything", names, [tuple(f"value{number}" for number in range(columns))])],
        Console(file=out, width=width),
    )
    text = out.getvalue()
    assert "Everything" in text
    assert all(f"value{number}" in text for number in range(columns)), "no cell is cut short"
    assert all(name in text for name in names[1:])


def test_long_names_leave_the_images_of_a_grid_their_size() -> None:
    pictures = []
    for names in (["a", "b"], ["a name of many letters, and more", "b"]):
        black = {(row, 0): torch.zeros(1, 8, 8) for row in range(2)}
        with Image.open(io.BytesIO(grid(black, names, ["image"], set()))) as picture:
            pictures.append(int((np.asarray(picture.convert("L")) == 0).sum()))
    assert pictures[1] > 0.8 * pictures[0]


def test_captions_stand_below_their_images_and_lines_have_a_panel_each() -> None:
    black = {(0, column): torch.zeros(1, 8, 8) for column in range(2)}
    sizes = []
    for captions in (None, {(0, 0): "a caption of some length", (0, 1): "b"}):
        with Image.open(io.BytesIO(grid(black, ["row"], ["c", "d"], set(), captions))) as picture:
            sizes.append(picture.size)
    assert sizes[1][0] > sizes[0][0]
    assert sizes[1][1] > sizes[0][1]
    widths = []
    for titles in (("one",), ("one", "two")):
        panels = {title: {"a": [1.0, 0.5], "b": [0.9, 0.8]} for title in titles}
        with Image.open(io.BytesIO(lines([0.0, 0.1], panels))) as picture:
            widths.append(picture.size[0])
    assert widths[1] > widths[0] + 300


def test_a_kappa_that_is_added_parks_the_margin_where_a_subtracted_one_crosses() -> None:
    model, images, labels = linear()
    settings: dict[str, Any] = {"kappa": 0.5, "halvings": 0, "flow_loss": "global", "tau": 0.005, "smoothing": 0.0}
    parked = PlusKappa(iterate="final", **settings)(model, images, labels)
    crossed = StAdv(iterate="final", **settings)(model, images, labels)
    assert not parked.success.any()
    assert (parked.margin > 0.4).all()
    assert crossed.success.all()


def test_a_softmax_inside_makes_logits_probabilities() -> None:
    model, images, _ = linear()
    inside = softmax_inside(model).logits(images)
    torch.testing.assert_close(inside, model.logits(images).softmax(1))


def test_the_best_fixed_tau_is_that_of_smallest_loss_among_equals() -> None:
    def line(name: str, success: int, loss: float | None) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        return name, {"success": success, "flow_loss": loss}, {}

    search = line("search", 10, 3.0)
    assert best_fixed([line("0.05", 4, 1.0), line("0.01", 10, 5.0), line("0.005", 10, 7.0), search]) == ("0.01", 5.0)
    assert best_fixed([line("0.05", 4, 1.0), search]) is None
    assert best_fixed([line("0.05", 0, None), line("s", 0, None)]) is None
