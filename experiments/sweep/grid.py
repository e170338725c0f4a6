"""Axes as a command line has them, `uplink.codec=fp32,eden(2) adapter.rank=2,4`, and the points they span."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from experiments.config import ConfigError

Point = dict[str, str]
"""Configuration key -> value, as an override writes it."""

_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = set(_OPENING.values())
_QUOTES = "'\""


def parse(arguments: Iterable[str]) -> dict[str, list[str]]:
    """`key=a,b,c` each -> key -> its values, in the order written; one value is a fixed override.

    A comma within parentheses, brackets, braces or a quoted value belongs to the value. Raises ConfigError
    for what is no axis: no key, nothing between two commas, something open or given twice.
    """
    axes: dict[str, list[str]] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{argument}': write key=value, or key=a,b,c for an axis of the grid")
        key = key.strip()
        if key in axes:
            raise ConfigError(f"{key}: given twice; write all values in one: {key}=a,b,c")
        axes[key] = values = _split(key, text)
        for value in values:
            if not value:
                raise ConfigError(f"{key}: a value is missing in '{text}'")
            if values.count(value) > 1:
                raise ConfigError(f"{key}: {value} is given twice")
    return axes


def _split(key: str, text: str) -> list[str]:
    """Cut at the commas that belong to no value."""
    values, start = [], 0
    closers: list[str] = []
    quote = ""
    for position, character in enumerate(text):
        begins = not text[start:position].strip()
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES and (begins or closers):
            quote = character
        elif character in _OPENING:
            closers.append(_OPENING[character])
        elif character in _CLOSING:
            if not closers or closers.pop() != character:
                raise ConfigError(f"{key}: '{character}' closes nothing in '{text}'")
        elif character == "," and not closers:
            values.append(text[start:position].strip())
            start = position + 1
    if quote or closers:
        raise ConfigError(f"{key}: '{quote or closers[-1]}' is missing in '{text}'")
    return [*values, text[start:].strip()]


def grid(axes: Mapping[str, Sequence[str]]) -> list[Point]:
    """Every combination of the axes' values; the last key varies fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
