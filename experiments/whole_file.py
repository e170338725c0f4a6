"""Files that are whole or not there: whoever reads one beside a writer never sees half of it."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """`path` holds all of `text`; or, if this fails, what it held before."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
