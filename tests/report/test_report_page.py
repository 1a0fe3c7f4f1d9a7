"""The report as a file: complete, self-contained, escaped, repeatable; its pictures and its figures."""

from __future__ import annotations

import base64
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_example import HOSTILE, example
from report_run import job, write_run
from rich.console import Console

from blindspots.evaluation.run import Run
from blindspots.evaluation.summary import job_labels, summarise
from blindspots.report import print_summary, write_report
from blindspots.report.figures import curves
from blindspots.report.pictures import amplification, gallery, png
from blindspots.report.words import duration, headline, interval, number, percent, sureness, trust


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(example(tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return write_report(run, summarise(run), run.path / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Headings, ids, references and attributes of a page; fails on tags that close what is not open."""

    VOID = frozenset({"meta", "link", "br", "img", "wbr", "use", "path"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(values)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[name]) for name in ("href", "src") if values.get(name)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_page_is_well_formed_and_stands_alone(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids)), "two figures share ids"
    for link in outline.links:
        assert link.startswith(("#", "data:")), f"the page would load {link}"
        if link.startswith("#"):
            assert link[1:] in outline.ids
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    assert len(page) < 300_000


def test_headings_descend_one_level_at_a_time(page: str) -> None:
    headings = Outline(page).headings
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


def test_names_are_escaped(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "cat &amp; dog" in page


def test_every_picture_has_words_for_it(page: str) -> None:
    images = Outline(page).images
    assert len(images) == 3 * (12 + 6)
    assert all(image["alt"] for image in images)
    assert all(image["class"] == "small" for image in images), "8 x 8 images are enlarged with hard edges"


def test_page_says_what_a_reader_came_for(run: Run, page: str) -> None:
    text = re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", "", page))
    assert "Of 24 images the model gets 91.7\u202f% right [73.0–99.0]" in text
    assert "25.0\u202f% stay right within linf 16/255 [9.8–46.7]" in text
    assert trust(summarise(run)) == "2 red flags"
    for words in (
        "One step fools images that many steps miss",
        "Many gradients are zero",
        "worst case",
        "uniform (noise)",
    ):
        assert words in text


def test_identical_runs_have_identical_pages(tmp_path: Path, page: str) -> None:
    other = Run(example(tmp_path / "elsewhere"))
    assert write_report(other, summarise(other), tmp_path / "r.html").read_text(encoding="utf-8") == page


def test_figure_takes_its_colours_from_the_page(run: Run) -> None:
    for wide in (True, False):
        svg = curves(summarise(run), "linf", wide=wide)
        assert not re.search(r"#[0-9a-fA-F]{6}", svg), "a colour that would be wrong in the light or in the dark"
        assert "var(--noise)" in svg
        assert ">8/255</text>" in svg, "text stays text"
        assert "worst case" in svg
        assert "DejaVu" not in svg


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pictures_of_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    run = Run(example(tmp_path / "run", channels=channels))
    shown = gallery(run, {name: words["label"] for name, words in job_labels(run.jobs).items()})
    assert (len(shown.successes), len(shown.failures)) == (12, 6)
    assert (shown.note is None) == (channels in (1, 3))
    picture = Image.open(io.BytesIO(base64.b64decode(shown.successes[0].original.split(",")[1])))
    assert picture.size == (8, 8)
    assert picture.mode == ("L" if channels < 3 else "RGB")


def test_pictures_are_spread_and_true(run: Run) -> None:
    shown = gallery(run, {name: words["label"] for name, words in job_labels(run.jobs).items()})
    assert {picture.label for picture in shown.successes[:4]} == set(run.manifest["class_names"])
    assert shown.fooled == 16
    for picture in shown.successes:
        assert picture.after != picture.label
        assert picture.before == picture.label
    for picture in shown.failures:
        assert picture.after == picture.label


def test_amplified_difference_lies_around_mid_grey() -> None:
    assert [amplification(size) for size in (0.001, 8 / 255, 0.1, 0.25, 0.3, 1.0, 0.0)] == [500, 10, 5, 2, 1, 1, 1]
    encoded = png(0.5 + 5 * np.full((1, 2, 2), -0.1))
    level = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded.split(",")[1]))))
    assert level.tolist() == [[0, 0], [0, 0]]


def test_terminal_prints_the_same_numbers(run: Run) -> None:
    written = io.StringIO()
    print_summary(run, summarise(run), Console(file=written, width=100))
    text = written.getvalue()
    assert "Of 24 images the model gets 91.7\u202f% right [73.0–99.0]." in " ".join(text.split("\n")[:3])
    assert HOSTILE[:8] in text
    assert "2 red flags." in text
    assert re.search(r"linf 16/255\s+25\.0\u202f%\s+9\.8–46\.7", text)


def test_a_run_in_which_nothing_could_be_attacked(tmp_path: Path) -> None:
    jobs = [(job("00-pgd-linf-0.1", "pgd", 0.1), {"success": [0] * 8})]
    run = Run(write_run(tmp_path / "run", [0, 1] * 4, [1, 0] * 4, jobs))
    summary = summarise(run)
    assert summary["jobs"][0]["success"]["value"] is None
    text = write_report(run, summary, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Nothing was attacked" in text
    assert "No attack turned an image." in text
    print_summary(run, summary, Console(file=io.StringIO()))


def test_a_run_without_attacks(tmp_path: Path) -> None:
    run = Run(write_run(tmp_path / "run", [0, 1, 2, 3] * 4, [0, 1, 2, 3] * 4, []))
    summary = summarise(run)
    assert headline(summary).endswith("No attack was run.")
    assert "No attack was run." in write_report(run, summary, tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("keep", "shown"), [("fooled", (12, 0)), ("none", (0, 0))])
def test_pictures_that_were_not_kept_are_not_shown(tmp_path: Path, keep: str, shown: tuple[int, int]) -> None:
    run = Run(example(tmp_path / "run", settings={"keep_images": keep}))
    found = gallery(run, {name: words["label"] for name, words in job_labels(run.jobs).items()})
    assert (len(found.successes), len(found.failures)) == shown
    text = write_report(run, summarise(run), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "of which the run stored none" in text


def test_an_image_of_the_target_class_is_left_alone_and_stays_right(tmp_path: Path) -> None:
    rows = {"success": [0, 1] * 4, "attacked": [0, 1] * 4, "target": [0] * 8}
    jobs = [(job("00-pgd-linf-0.1", "pgd", 0.1, targets="0"), rows)]
    run = Run(write_run(tmp_path / "run", [0, 1] * 4, [0, 1] * 4, jobs))
    summary = summarise(run)
    assert (summary["jobs"][0]["success"]["of"], summary["jobs"][0]["robust"]["count"]) == (4, 4)
    assert "No image that was right" in write_report(run, summary, tmp_path / "r.html").read_text(encoding="utf-8")


def test_many_classes_are_cut_and_said(tmp_path: Path) -> None:
    labels = list(range(60))
    jobs = [(job("00-pgd-linf-0.1", "pgd", 0.1), {"success": [1] * 30 + [0] * 30})]
    run = Run(write_run(tmp_path / "run", labels, labels, jobs, shard=60))
    text = write_report(run, summarise(run), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "the 40 least robust of 60 classes" in text
    assert "the most frequent of 30 changes" in text


def test_numbers_read_as_people_write_them() -> None:
    assert [percent(share) for share in (0.0, 1.0, 0.9996, 0.0004, None)] == [
        "0.0\u202f%",
        "100.0\u202f%",
        "99.96\u202f%",
        "0.04\u202f%",
        "–",
    ]
    assert interval({"of": 0, "low": 0.0, "high": 1.0}) == ""
    assert [number(value) for value in (12345, 0.12345, 123.45, None)] == ["12\u202f345", "0.123", "123.5", "–"]
    assert [duration(value) for value in (0.84, 42, 720, 11100)] == [
        "0.8\u202fs",
        "42\u202fs",
        "12\u202fmin",
        "3\u202fh 05\u202fmin",
    ]
    assert sureness(0.99999) == "> 99.9\u202f%"
