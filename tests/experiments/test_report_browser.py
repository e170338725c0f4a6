"""Reports in a real browser: nothing is fetched, nothing errs, the timeline answers, all is legible."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from experiments.report.report import write_report
from tests.experiments.report_runs import CELL, add_rare_tables, write_run
from tests.experiments.test_report_page import EVIL

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}


@dataclass
class Opened:
    """A page in the browser, and all that it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if found is None:
        pytest.fail("no Chromium or Chrome here to look at reports with: `make browser` installs it")
    with sync_playwright() as playwright:
        # In a container root has no sandbox to give, and /dev/shm may be small.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real run, evaluated, with samples."""
    return write_report(CELL, tmp_path_factory.mktemp("cell") / "report.html")


def opened(
    browser: Browser, path: Path, size: ViewportSize = DESK, scheme: Literal["light", "dark"] = "light"
) -> Opened:
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.set_default_timeout(10_000)
    seen = Opened(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("dialog", lambda dialog: seen.complaints.append(f"dialog {dialog.message}"))
    page.goto(path.as_uri())
    return seen


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const background = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest("script, style, .tip")) continue;
    const style = getComputedStyle(node);
    const ink = parse(node.closest("svg") ? style.fill : style.color), paper = background(node);
    const [high, low] = [light(ink), light(paper)].sort((a, b) => b - a);
    const text = node.textContent.trim().slice(0, 40);
    found.push([(high + 0.05) / (low + 0.05), text, ink.join(), paper.join()]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_fetched_nothing_errs_and_all_text_is_legible(
    browser: Browser, cell: Path, scheme: Literal["light", "dark"]
) -> None:
    seen = opened(browser, cell, scheme=scheme)
    unfold(seen.page)
    seen.page.wait_for_function(
        "[...document.querySelectorAll('.chart')].every((one) => one.querySelector('svg'))"
    )
    found = seen.page.evaluate(CONTRASTS)
    assert len(found) > 300
    # WCAG 2.2, level AA, 1.4.3.
    assert [one for one in found if one[0] < 4.5] == []
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 600) == (scheme == "light")
    assert seen.requests == [cell.as_uri()]
    assert seen.complaints == []
    seen.page.close()


def test_the_timeline_has_a_lane_a_device_and_says_exact_numbers(browser: Browser, cell: Path) -> None:
    seen = opened(browser, cell)
    page, chart = seen.page, "[data-chart=timeline] .view svg"
    lanes = page.locator(f"{chart} [aria-label='y-axis tick label'] text").all_text_contents()
    assert lanes == ["server", "dev0", "dev1", "dev2", "dev3"]
    row = pd.read_csv(CELL / "clients.csv").set_index(["round", "client"]).loc[(2, "dev3")]
    page.locator("[data-chart=timeline] select").select_option("2")
    page.locator(chart).scroll_into_view_if_needed()
    box = page.locator(chart).bounding_box()
    assert box is not None
    # dev3's lane is the last; in round 2 it trains in the middle of its round.
    bars = page.evaluate(
        """() => [...document.querySelectorAll("[data-chart=timeline] .view [aria-label=bar] rect")]
          .map((bar) => bar.getBoundingClientRect())
          .map(({x, y, width, height}) => ({x, y, width, height}))"""
    )
    lowest = max(bar["y"] for bar in bars)
    longest = max((bar for bar in bars if bar["y"] > lowest - 1), key=lambda bar: bar["width"])
    page.mouse.move(longest["x"] + longest["width"] / 2, longest["y"] + longest["height"] / 2)
    said = page.locator(".tip").inner_text()
    assert "dev3 · round 2" in said
    for phase in ("download", "gate", "compute", "encode", "upload", "wait", "aggregate"):
        assert re.search(rf"{phase}\s+{row[f'{phase}_s']:.3f} s", said), (phase, said)
    page.mouse.move(box["x"] + 5, box["y"] - 20)
    assert page.locator(".tip").is_hidden()
    assert seen.complaints == []
    page.close()


def test_dragging_zooms_in_and_a_double_click_shows_everything(browser: Browser, cell: Path) -> None:
    page = opened(browser, cell).page
    chart = page.locator("[data-chart=timeline] .view svg")
    chart.scroll_into_view_if_needed()
    rounds = page.locator("[data-chart=timeline] .view [aria-label=text] text", has_text="round")
    assert rounds.all_text_contents() == [f"round {number}" for number in range(1, 7)]
    box = chart.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle, steps=3)
    page.mouse.up()
    assert 1 <= rounds.count() <= 2
    page.mouse.dblclick(box["x"] + 0.5 * box["width"], middle)
    assert rounds.count() == 6
    page.close()


def test_bars_say_exact_numbers_too(browser: Browser, cell: Path) -> None:
    page = opened(browser, cell).page
    latency_s = pd.read_csv(CELL / "rounds.csv")["latency_s"]
    for bar, seconds in zip(
        page.locator("[data-chart=latency] [aria-label=bar] rect").all(), latency_s, strict=True
    ):
        bar.hover(force=True)  # the bound lies across it
        assert f"{seconds:.3f} s" in page.locator(".tip").inner_text()
    page.locator("[data-chart=bytes-up] svg").hover(force=True)
    wire = pd.read_csv(CELL / "clients.csv").groupby("client")["wire_up_bytes"].mean()
    said = page.locator(".tip").inner_text()
    assert any(f"{count / 1e3:.3f} kB" in said for count in wire), said
    page.close()


def test_what_only_some_runs_have_is_drawn(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", devices=3)
    add_rare_tables(run)
    seen = opened(browser, write_report(run))
    drawn = {
        place.get_attribute("data-chart"): place.locator("svg").count()
        for place in seen.page.locator(".chart").all()
    }
    assert drawn["retrieval"] == 1 and drawn["channel"] == 3 and drawn["loss-by-time"] == 1
    assert all(drawn.values())
    seen.page.get_by_label("device", exact=True).select_option("dev1")
    assert seen.page.locator("[data-chart=channel] svg").count() == 3
    assert seen.page.locator("[data-chart=timeline] title", has_text="did not end").count() == 1
    assert seen.complaints == []
    seen.page.close()


def test_it_fits_a_phone(browser: Browser, cell: Path) -> None:
    seen = opened(browser, cell, size=PHONE)
    unfold(seen.page)
    seen.page.wait_for_function(
        "[...document.querySelectorAll('.chart')].every((one) => one.querySelector('svg'))"
    )
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert seen.complaints == []
    seen.page.close()


def test_on_paper_it_is_black_on_white(browser: Browser, cell: Path) -> None:
    page = opened(browser, cell, scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    colours = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert colours == ["rgb(27, 31, 36)", "rgb(255, 255, 255)"]
    assert page.locator("nav").is_hidden() and page.locator(".toolbar").first.is_hidden()
    page.close()


def test_a_hundred_devices_and_hostile_names_draw_too(browser: Browser, tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", devices=100, rounds=5, run=EVIL, warnings=[EVIL])
    clients = pd.read_csv(run / "clients.csv").replace("dev7", EVIL)
    clients.to_csv(run / "clients.csv", index=False)
    seen = opened(browser, write_report(run))
    lanes = seen.page.locator("[data-chart=timeline] .view [aria-label='y-axis tick label'] text")
    assert lanes.count() >= 101
    assert seen.page.locator("[data-chart=phases] [aria-label='y-axis tick label'] text").count() == 24
    seen.page.get_by_role("button", name=re.compile("show all 10")).first.click()
    assert seen.page.locator("[data-chart=phases] [aria-label='y-axis tick label'] text").count() >= 100
    assert seen.page.locator("h1").inner_text() == EVIL
    assert seen.complaints == [] and len(seen.requests) == 1
    seen.page.close()


def test_what_it_would_fetch_is_forbidden_and_would_be_seen(
    browser: Browser, cell: Path, tmp_path: Path
) -> None:
    """The checks above can fail: an image from elsewhere and a script of somebody else's are noticed."""
    broken = tmp_path / "broken.html"
    added = '<img src="http://127.0.0.1:9/x.png"><script>document.title = "changed"</script></body>'
    broken.write_text(cell.read_text().replace("</body>", added))
    seen = opened(browser, broken)
    assert len([text for text in seen.complaints if "Content Security Policy" in text]) == 2
    assert seen.page.title() != "changed"
    seen.page.close()
