"""One self-contained HTML page from sections: nothing is fetched, nothing runs but the scripts given here.

    page("Paper suite", [Section("Latency", parts.picture(path, "latency by scheme"), note="What it shows.")])

Whatever is no Markup is escaped as text, so what comes from data is harmless; a content security policy
names the hash of each script, forbids all others and every address.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.figures import style

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading of its own.

    `html` is shown as it is if it is Markup (see parts.py), and as plain text otherwise. A folded section
    shows its title and `note` and opens at a click.
    """

    title: str
    html: Markup | str
    note: str = ""
    """What a reader should know of it, in a sentence or two; plain text."""
    folded: bool = False

    @property
    def id(self) -> str:
        """Its address within the page: `Bytes on the wire` -> `bytes-on-the-wire`."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


def page(
    title: str,
    sections: Sequence[Section],
    *,
    kicker: str = "fedcell",
    lead: Markup | str = "",
    badge: str = "",
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
) -> str:
    """The whole page as text, to be written as UTF-8.

    `kicker` stands small above the title and `lead` below it; a `badge` warns wherever one scrolls to.
    `scripts` run in order after everything is there; they read `data` (JSON values, no NaN) from the element
    `#data`. Raises ValueError for a script that would end its own element.
    """
    everything = [*scripts, (_HERE / "page.js").read_text()]
    for script in everything:
        if re.search(r"</script|<!--", script, re.IGNORECASE):
            raise ValueError("a script that holds '</script' or '<!--' cannot stand within a page")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            kicker=kicker,
            lead=lead,
            badge=badge,
            sections=sections,
            policy=_policy(everything),
            style=Markup(palette() + (_HERE / "page.css").read_text()),
            scripts=[Markup(script) for script in everything],
            data=data,
        )
    )


def palette() -> str:
    """The figures' colours as CSS variables: `--orange`, and `--phase-upload` for each phase."""
    named = {name.lower(): value for name, value in style.PALETTE.items()}
    named |= {f"phase-{phase}": colour for phase, colour in style.PHASE_COLOURS.items()}
    return ":root{" + "".join(f"--{name}:{value};" for name, value in named.items()) + "}\n"


def _policy(scripts: Sequence[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    # Charts set style attributes; no style can fetch anything where default-src is 'none'.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment
