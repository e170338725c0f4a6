"""What the command line's commands share: their arguments, and how they end."""

from __future__ import annotations

import itertools
import json
import signal
import sys
from collections.abc import Iterable
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


def a_folder(path: Path | None) -> Path | None:
    """Of an option: what is to be written to must not turn out to be a file when all is done."""
    if path is not None:
        nearest = next(one for one in (path, *path.absolute().parents) if one.exists())
        if not nearest.is_dir():
            raise typer.BadParameter(f"{nearest} is not a folder")
    return path


Output = Annotated[Path, typer.Option(metavar="DIR", callback=a_folder, help="Where all of it goes.")]


def a_file(path: Path | None) -> Path | None:
    """Of an option: a file that can be made or replaced."""
    if path is not None:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder")
        a_folder(path.absolute().parent)
    return path


def print_invalid(reasons: Iterable[str]) -> None:
    """A line a reason. What several in a row have in common after their semicolon, as what the machine did to
    the relay, is said once, below them."""
    for why, group in itertools.groupby(reasons, key=lambda reason: reason.partition("; ")[2]):
        alike = list(group)
        shared = why if len(alike) > 1 else ""
        for reason in alike:
            print(f"INVALID: {reason.partition('; ')[0] if shared else reason}")
        if shared:
            print(f"  {shared}")


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
