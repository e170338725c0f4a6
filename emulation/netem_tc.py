"""Talking to `ip` and `tc`: many lines by one process, and a tc that stays for changes while it all runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emulation.link import LinkError
from emulation.netem_stages import Qdiscs

_NO_COMMAND = "done"
"""Not a command of tc's: it says so, with the line's number, when it has got there."""


class Tc:
    """A `tc -batch` that waits for lines: a change costs no new process. Not for several threads at once."""

    def __init__(self, tables: Path) -> None:
        """`tables` is where it looks for distributions."""
        self._process = subprocess.Popen(
            ["tc", "-force", "-batch", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TC_LIB_DIR": str(tables)},
        )
        self._lines = 0

    def do(self, lines: Sequence[str]) -> None:
        """Execute the lines. Raises LinkError with the first that failed and why; the rest are tried."""
        assert self._process.stdin is not None and self._process.stderr is not None
        first, last = self._lines + 1, self._lines + len(lines) + 1
        self._lines = last
        try:
            self._process.stdin.write("\n".join([*lines, _NO_COMMAND]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LinkError("tc has ended") from None
        why: list[str] = []
        failed = ""
        for said in self._process.stderr:
            if said.startswith("Command failed -:"):
                number = int(said.rpartition(":")[2])
                if number == last:
                    break
                failed = failed or f"tc {lines[number - first]}: {' '.join(why) or 'failed'}"
            elif said.strip():
                why.append(said.strip())
        else:
            raise LinkError(f"tc has ended: {' '.join(why)}")
        if failed:
            raise LinkError(failed)

    def close(self) -> None:
        self._process.communicate()


def qdiscs() -> Qdiscs:
    """Every interface's disciplines with their statistics, in one look."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for qdisc in json.loads(_run(["tc", "-s", "-j", "qdisc", "show"])):
        found.setdefault(qdisc["dev"], []).append(qdisc)
    return found


def classes(interfaces: Sequence[str]) -> dict[str, str]:
    """The line that `tc class show` prints of each interface's one class. Raises LinkError."""
    asked = "".join(f"class show dev {interface}\n" for interface in interfaces)
    shown = [line for line in _run(["tc", "-batch", "-"], asked).splitlines() if line.startswith("class ")]
    if len(shown) != len(interfaces):
        raise LinkError(f"tc shows {len(shown)} HTB classes of {len(interfaces)}")
    return dict(zip(interfaces, shown, strict=True))


def ip(lines: Sequence[str]) -> None:
    """Run lines of `ip`. Raises LinkError."""
    _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _run(argv: Sequence[str], stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise LinkError(f"{' '.join(argv)}: {' '.join(done.stderr.split()) or 'failed'}")
    return done.stdout
