"""What the command line's commands share: their arguments, and how they end."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE ...]",
        help="Overrides, such as rounds=2 uplink.codec=int8",
    ),
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/latest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def print_json(document: dict[str, Any]) -> None:
    """All that a command prints to standard output with --json."""
    json.dump(document, sys.stdout, allow_nan=False)
    print()


def end_bench(document: dict[str, Any], text: str, holds: bool, as_json: bool) -> NoReturn:
    """Print a bench's document or its tables, and exit by its verdict."""
    if as_json:
        print_json(document)
    else:
        print(text, end="")
    raise typer.Exit(0 if holds else 1)


def interruptible() -> None:
    """However it is asked to end, it cleans up as after Ctrl-C, which a background job would ignore."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
