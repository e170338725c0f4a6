"""What sections are made of: tables, pictures, facts, callouts, code. All escape what they are given."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from markupsafe import Markup

_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}

Text = Markup | str


def join(*parts: Text) -> Markup:
    """One after the other."""
    return Markup("\n").join(parts)


def paragraph(text: Text) -> Markup:
    return Markup("<p>{}</p>").format(text)


def heading(text: Text) -> Markup:
    """Below a section's title."""
    return Markup("<h3>{}</h3>").format(text)


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Text]], *, left: int = 1, caption: str = ""
) -> Markup:
    """A table, which scrolls by itself where it is too wide; columns after the first `left` are numbers."""

    def cells(tag: str, values: Sequence[Text]) -> Markup:
        return Markup("").join(
            Markup("<{}{}>{}</{}>").format(
                Markup(tag), Markup("" if i < left else ' class="number"'), v, Markup(tag)
            )
            for i, v in enumerate(values)
        )

    head = Markup("<thead><tr>{}</tr></thead>").format(cells("th", headers))
    body = Markup("\n").join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in rows)
    about = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    return Markup('<div class="scroll" tabindex="0"><table>{}{}<tbody>{}</tbody></table></div>').format(
        about, head, body
    )


def facts(pairs: Iterable[tuple[str, Text]]) -> Markup:
    """Names and what they are, one under the other."""
    rows = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in pairs)
    return Markup('<dl class="facts">{}</dl>').format(Markup("\n").join(rows))


def figures(values: Iterable[tuple[str, str, str]]) -> Markup:
    """A few large numbers: (number, what it is, what to hold it against)."""
    boxes = (
        Markup(
            '<div><span class="value">{}</span><span class="name">{}</span><small>{}</small></div>'
        ).format(*one)
        for one in values
    )
    return Markup('<div class="key">{}</div>').format(Markup("\n").join(boxes))


def callout(kind: Literal["good", "bad", "note"], title: str, lines: Iterable[Text] = ()) -> Markup:
    """A box that is seen first; its title says in words what its colour says."""
    said = [*lines]
    if len(said) > 1:
        items = Markup("").join(Markup("<li>{}</li>").format(line) for line in said)
        html = Markup("<ul>{}</ul>").format(items)
    else:
        html = Markup("").join(Markup('<p class="only">{}</p>').format(line) for line in said)
    return Markup('<div class="callout {}" role="note"><p class="verdict">{}</p>{}</div>').format(
        kind, title, html
    )


def fold(summary: Text, html: Text) -> Markup:
    """Shown at a click."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, html)


def code(text: str, *, name: str = "") -> Markup:
    """Text to copy; with a file's `name` also to save."""
    save = Markup('<button type="button" data-save="{}">save {}</button>').format(name, name) if name else ""
    return Markup(
        '<div class="code"><div class="tools">{}<button type="button" data-copy>copy</button></div>'
        '<pre tabindex="0">{}</pre></div>'
    ).format(save, text)


def picture(path: Path, alt: str, caption: str = "") -> Markup:
    """A PNG, JPEG or SVG file, within the page. Raises OSError, and KeyError for any other kind."""
    content = base64.b64encode(path.read_bytes()).decode()
    about = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    return Markup(
        '<figure class="picture"><div class="scroll" tabindex="0">'
        '<img src="data:{};base64,{}" alt="{}"></div>{}</figure>'
    ).format(_MEDIA[path.suffix.lower()], content, alt, about)
