"""Pages: nothing from data can become markup or script, and nothing else may run."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup

from experiments.figures import style
from experiments.report import parts
from experiments.report.page import Section, page

EVIL = "</title></script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """Every element of a page, with its attributes, and the texts of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._within = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag == "script"
        if self._within:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.scripts[-1] += data


def harmless(html: str) -> None:
    """No element or attribute came from data."""
    tags = Tags(html)
    assert not [
        attributes for _, attributes in tags.found if any(name.startswith("on") for name in attributes)
    ]
    assert not any(script.startswith("alert") for script in tags.scripts)
    sources = [attributes.get("src") or "" for _, attributes in tags.found]
    assert all(source.startswith("data:") for source in sources if source)


def test_whatever_is_no_markup_is_text() -> None:
    everything = parts.join(
        parts.table([EVIL], [[EVIL]], caption=EVIL),
        parts.facts([(EVIL, EVIL)]),
        parts.figures([(EVIL, EVIL, EVIL)]),
        parts.callout("bad", EVIL, [EVIL]),
        parts.fold(EVIL, EVIL),
        parts.code(EVIL, name=EVIL),
        parts.paragraph(EVIL),
        parts.heading(EVIL),
    )
    sections = [
        Section(EVIL, everything, note=EVIL),
        Section("two", EVIL),
        Section("three", "", folded=True, note=EVIL),
    ]
    html = page(EVIL, sections, kicker=EVIL, lead=EVIL, data={EVIL: EVIL})
    harmless(html)
    assert html.count("<script") == 2  # the data, and the page's own


def test_markup_is_shown_as_it_is() -> None:
    assert "<p>as it is</p>" in page("t", [Section("s", Markup("<p>as it is</p>"))])


def test_the_policy_names_every_script_by_its_hash_and_no_address() -> None:
    script = "window.x = 1;"
    tags = Tags(page("t", [], scripts=[script], data={"a": 1}))
    (policy,) = [a["content"] for tag, a in tags.found if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    executed = [text for text in tags.scripts if not text.startswith("{")]
    assert allowed == [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in executed]
    assert executed[0] == script
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_a_script_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot stand within a page"):
        page("t", [], scripts=["x = '</SCRIPT>'"])


def test_values_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|not JSON"):
        page("t", [], data={"a": float("nan")})


def test_colours_are_the_figures() -> None:
    html = page("t", [])
    assert f"--phase-upload:{style.PHASE_COLOURS['upload']};" in html
    assert f"--orange:{style.ORANGE};" in html


def test_pictures_are_within(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text("<svg/>")
    encoded = base64.b64encode(b"<svg/>").decode()
    assert f'src="data:image/svg+xml;base64,{encoded}" alt="x &#34;y&#34;"' in parts.picture(path, 'x "y"')
