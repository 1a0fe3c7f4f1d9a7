"""The blind comparison: what the page holds, that its key cannot be read off it, and, in a browser, what it counts."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from blindspots import BlindspotsError, analysis
from blindspots.analysis.blind import blind_page, coded, png
from blindspots.data import dataset
from blindspots.evaluation.driver import evaluate
from blindspots.evaluation.intervals import clopper_pearson

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def folder(victim, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of the victim's images under FGSM."""
    out = tmp_path_factory.mktemp("blind")
    right = ~victim.wrong
    data = dataset((victim.images[right].float(), victim.labels[right]))
    analysis.Blind(attack="fgsm:radius=0.3", pairs=9)(victim.classifier(torch.float32), data, out=out)
    return out


def pairs_of(page: Path) -> list[dict[str, Any]]:
    key, payload = re.search(r'data-key="(\d+)">([^<]*)<', page.read_text()).groups()
    return json.loads(coded(base64.b64decode(payload), int(key)))["pairs"]


def test_coding_twice_gives_the_bytes_back_and_once_shows_nothing_of_them() -> None:
    content = b'{"attacked":1}' * 50
    assert coded(coded(content, 77), 77) == content
    assert b"attacked" not in coded(content, 77)
    # mulberry32 of the state 0, as published: 1144304738, 1416247, 958946056.
    assert list(coded(bytes(3), 0)) == [value & 255 for value in (1144304738, 1416247, 958946056)]


def test_the_page_tells_nothing_of_which_image_is_which(folder: Path) -> None:
    text = (folder / "blind.html").read_text()
    pairs = pairs_of(folder / "blind.html")
    assert {pair["attacked"] for pair in pairs} == {0, 1}, "their order in the file is random too"
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    for word in ("attacked", "original", "fgsm", "data:image"):
        assert word not in markup
    for pair in pairs:
        assert all(image not in text for image in pair["images"])
    assert json.loads((folder / "blind.json").read_text())["pairs"] == len(pairs)
    assert "attacked" not in (folder / "blind.json").read_text().replace("attack", "", 1)


def test_the_pairs_are_the_images_that_were_fooled(folder: Path, victim) -> None:
    right = (~victim.wrong).nonzero().flatten()
    clean = {png(victim.images[row].float()) for row in right}
    for pair in pairs_of(folder / "blind.html"):
        assert pair["images"][1 - pair["attacked"]] in clean
        assert pair["images"][pair["attacked"]] not in clean


def test_a_run_gives_pairs_too(victim, tmp_path: Path) -> None:
    from blindspots import FGSM

    data = dataset((victim.images.float(), victim.labels))
    run = evaluate(victim.classifier(torch.float32), data, [FGSM("0.3")], out=str(tmp_path / "run"))
    done = analysis.Blind(pairs=3).of_run(run, out=tmp_path)
    assert done.values["pairs"] == 3
    stored = run.images(run.job_ids[0], [pair["index"] for pair in pairs_of(done.page)])
    for pair in pairs_of(done.page):
        assert pair["images"][pair["attacked"]] == png(stored[pair["index"]])
    with pytest.raises(BlindspotsError, match="unknown job 'nought'"):
        analysis.Blind().of_run(run, "nought", out=tmp_path)


def test_no_fooled_image_is_no_page(victim, tmp_path: Path) -> None:
    right = ~victim.wrong
    data = dataset((victim.images[right].float(), victim.labels[right]))
    with pytest.raises(BlindspotsError, match=r"no image that .* fooled the model with"):
        analysis.Blind(attack="fgsm:radius=0", pairs=3)(victim.classifier(torch.float32), data, out=tmp_path)
    assert not (tmp_path / "blind.html").exists()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def answered(browser: Any, page_path: Path, choose: Any) -> tuple[dict[str, Any], str, list[str]]:
    """Answer every pair by `choose(page, number)`; what was saved, what was told, and what went wrong or was asked."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True, accept_downloads=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.goto(page_path.as_uri())
    page.get_by_role("button", name="Begin").click()
    for number in range(len(pairs_of(page_path))):
        page.locator("#place").filter(has_text=f"Pair {number + 1} of").wait_for()
        # The pair is drawn a moment after its number is told.
        page.locator("#left canvas").evaluate("canvas => new Promise(seen => setTimeout(seen, 60))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        markup = page.content()
        assert "attacked" not in re.sub(r"<script.*?</script>", "", markup, flags=re.S)
        assert 'id="pairs"' not in markup, "the coded images leave the page when they are read"
        choose(page, number)
    page.locator("#after").wait_for()
    told = page.locator("#result").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the answers").click()
    saved = json.loads(Path(download.value.path()).read_text())
    context.close()
    return saved, told, [line for line in said if not line.startswith(("data:", "blob:", page_path.as_uri()))]


@pytest.mark.browser
def test_answers_are_counted_with_their_exact_interval(browser: Any, folder: Path) -> None:
    def choose(page: Any, number: int) -> None:
        if number % 2:
            page.keyboard.press("ArrowLeft")
        else:
            page.get_by_role("button", name="Right").click()

    page_path = folder / "blind.html"
    saved, told, said = answered(browser, page_path, choose)
    assert said == []
    found, count = saved["chose_attacked"], len(pairs_of(page_path))
    assert found["of"] == count == len(saved["answers"])
    assert found["count"] == sum(answer["chose"] == "attacked" for answer in saved["answers"])
    assert sorted(answer["index"] for answer in saved["answers"]) == sorted(p["index"] for p in pairs_of(page_path))
    assert [answer["side"] for answer in saved["answers"]] == ["right", "left"] * (count // 2) + ["right"] * (count % 2)
    low, high = clopper_pearson(found["count"], count)
    assert found["low"] == pytest.approx(low, abs=1e-9)
    assert found["high"] == pytest.approx(high, abs=1e-9)
    assert f"{found['count']} of {count}" in told


@pytest.mark.browser
def test_whoever_sees_the_difference_is_counted_as_such(browser: Any, tmp_path: Path) -> None:
    """Attacked images are white here: whoever takes the darker one never takes them."""
    dark, light = png(torch.zeros(1, 4, 4)), png(torch.ones(1, 4, 4))
    pairs = [{"index": n, "images": [dark, light][:: -1 if n % 2 else 1], "attacked": 1 - n % 2} for n in range(12)]
    page_path = tmp_path / "blind.html"
    page_path.write_text(blind_page("Which?", {"about": {"format": 1}, "level": 0.95, "pairs": pairs}))

    def choose(page: Any, number: int) -> None:
        shade = page.locator("#left canvas").evaluate("c => c.getContext('2d').getImageData(0, 0, 1, 1).data[0]")
        page.get_by_role("button", name="Left" if shade == 0 else "Right").click()

    saved, _, _ = answered(browser, page_path, choose)
    assert saved["chose_attacked"]["count"] == 0
    assert saved["chose_attacked"]["low"] == 0
    assert saved["chose_attacked"]["high"] == pytest.approx(clopper_pearson(0, 12)[1], abs=1e-9)
    assert {answer["side"] for answer in saved["answers"]} == {"left", "right"}, "sides are drawn"
