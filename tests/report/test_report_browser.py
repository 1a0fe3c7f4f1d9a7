"""The report in a real browser: opens offline, loads nothing, fits phone and laptop, reads well in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bent_run import bent_run
from report_example import example

from blindspots.evaluation.run import Run
from blindspots.evaluation.summary import summarise
from blindspots.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]

# The lowest contrast (WCAG 2) of any visible text with what is painted below it, and which text that is.
CONTRAST = """() => {
  const parse = text => { const v = text.match(/[\\d.]+/g).map(Number); return [v[0], v[1], v[2], v[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(k => top[k] * top[3] + below[k] * (1 - top[3]));
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const below = e => { const chain = [];
    for (; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
    return chain.reduce((under, layer) => over(layer, under), [255, 255, 255]); };
  let worst = [99, ''];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('').trim();
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), under = below(e);
    const ink = over(parse(e instanceof SVGElement ? style.fill : style.color), under);
    const [a, b] = [light(ink), light(under)].sort((x, y) => y - x), contrast = (a + 0.05) / (b + 0.05);
    if (contrast < worst[0]) worst = [contrast, own.slice(0, 40)];
  }
  return worst;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(example(tmp_path_factory.mktemp("browser") / "run"))
    return write_report(run, summarise(run), run.path / "report.html")


@pytest.fixture(scope="module")
def bent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bent_run(tmp_path_factory.mktemp("browser") / "bent").path / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def visit(browser: Any, report: Path, *, width: int = 1280, scheme: str = "light") -> tuple[Any, list[str]]:
    """Open the report offline; the list collects console messages, page errors and requests."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    page.on("request", lambda request: said.append(f"asked: {request.url}"))
    page.goto(report.as_uri())
    return page, said


def test_opens_offline_and_asks_for_nothing(browser: Any, report: Path) -> None:
    page, said = visit(browser, report)
    asked = [line for line in said if not line.startswith("asked: data:")]
    assert asked == [f"asked: {report.as_uri()}"]
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 54
    assert set(widths) == {8}
    assert page.eval_on_selector("img", "image => getComputedStyle(image).imageRendering") == "pixelated"
    page.context.close()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_fits_the_screen(browser: Any, report: Path, width: int) -> None:
    page, _ = visit(browser, report, width=width)
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.eval_on_selector_all(".chart svg", "all => all.filter(one => one.getClientRects().length).length")
    assert shown == 2, "one drawing a norm, the laptop's or the phone's"
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('.chart text')]"
        ".map(text => text.getBoundingClientRect().height).filter(height => height))"
    )
    assert smallest >= 10, "figure text stays readable"
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Any, report: Path, scheme: str) -> None:
    page, _ = visit(browser, report, scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    contrast, text = page.evaluate(CONTRAST)
    assert contrast >= 4.5, f"'{text}' has contrast {contrast:.2f}"
    page.context.close()


def test_light_and_dark_differ(browser: Any, report: Path) -> None:
    shots = []
    for scheme in ("light", "dark"):
        page, _ = visit(browser, report, scheme=scheme)
        shots.append(page.screenshot())
        shots.append(page.locator(".chart").first.screenshot())
        page.context.close()
    assert shots[0] != shots[2]
    assert shots[1] != shots[3], "the figures follow the page"


def test_keyboard_reaches_wide_tables_and_shows_where_it_is(browser: Any, report: Path) -> None:
    page, _ = visit(browser, report, width=360)
    table = page.locator(".scroll").first
    table.focus()
    page.keyboard.press("ArrowRight")
    # Scrolling is smooth and takes a moment. (`wait_for_function` would have to compile code, which the page forbids.)
    table.evaluate("table => new Promise(seen => table.scrollLeft ? seen() : table.addEventListener('scroll', seen))")
    assert table.evaluate("table => table.scrollLeft") > 0
    assert table.get_attribute("aria-label")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.context.close()


def test_prints_on_white(browser: Any, report: Path) -> None:
    page, _ = visit(browser, report, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.context.close()


@pytest.mark.parametrize(("width", "across"), [(390, 2), (1280, 4)])
def test_bent_images_fit_the_screen_and_stay_large(browser: Any, bent: Path, width: int, across: int) -> None:
    page, said = visit(browser, bent, width=width)
    assert [line for line in said if not line.startswith("asked: data:")] == [f"asked: {bent.as_uri()}"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.eval_on_selector_all(
        ".pictures .bent",
        "all => all.map(one => [...one.querySelectorAll('img, svg')].map(e => e.getBoundingClientRect().toJSON()))",
    )
    assert boxes
    for panels in boxes:
        assert len(panels) == 4, "original, attacked, change, arrows"
        assert len({round(panel["left"]) for panel in panels}) == across
        assert len({round(panel["width"]) for panel in panels}) == 1
        assert panels[0]["width"] >= 140
        assert all(abs(panel["width"] - panel["height"]) <= 1 for panel in panels)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_arrows_and_text_of_bent_images_stand_out(browser: Any, bent: Path, scheme: str) -> None:
    page, _ = visit(browser, bent, scheme=scheme)
    contrast, text = page.evaluate(CONTRAST)
    assert contrast >= 4.5, f"'{text}' has contrast {contrast:.2f}"
    drawing = page.locator("svg.flow").first
    assert drawing.get_attribute("aria-label")
    with_arrows = drawing.screenshot()
    page.add_style_tag(content=".flow path { display: none }")
    assert drawing.screenshot() != with_arrows
    page.context.close()


def test_the_spread_of_displacements_lies_in_its_scale(browser: Any, bent: Path) -> None:
    page, _ = visit(browser, bent)
    outside = page.eval_on_selector_all(
        ".spread",
        """all => all.filter(scale => { const box = scale.getBoundingClientRect();
        return [...scale.children].some(part => { const own = part.getBoundingClientRect();
          return own.left < box.left - 2 || own.right > box.right + 2; }); }).length""",
    )
    assert page.locator(".spread").count() >= 12
    assert outside == 0
    page.context.close()
