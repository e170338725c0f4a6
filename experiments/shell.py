"""The Mininet prompt inside an experiment's network, or lines for it run one after the other."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from mininet.cli import CLI
from mininet.log import lg

from emulation.topology import Network


class ShellError(ValueError):
    """A line that names neither a Mininet command nor a node, or addresses what has no address."""


class _Prompt(CLI):
    """Mininet's prompt, which would put 127.0.0.1 for a switch's name: whoever pings that pings itself."""

    def default(self, line: str) -> None:
        try:
            self._check(line)
        except ShellError as error:
            print(f"*** {error}")
        else:
            super().default(line)

    def _check(self, line: str) -> None:
        first, arguments, _ = self.parseline(line)
        if first not in self.mn or not arguments:
            nodes = ", ".join(sorted(self.mn.keys()))
            raise ShellError(f"'{line}': write a Mininet command, or a node ({nodes}) and its command")
        switches = {switch.name for switch in self.mn.switches}
        if addressed := switches & set(arguments.split()):
            raise ShellError(f"'{line}': {addressed.pop()} only forwards, it has no address; hosts have")


class _Lines(_Prompt):
    """The prompt, fed with lines instead of a keyboard."""

    def run(self) -> None:
        """Nothing to read: the lines come by onecmd."""

    def default(self, line: str) -> None:
        self._check(line)
        CLI.default(self, line)


def prompt(network: Network) -> None:
    """The interactive prompt; returns when the user leaves it."""
    _print_to(sys.stdout)
    _Prompt(network.mininet)


def run_lines(network: Network, lines: Sequence[str], *, capture: bool) -> list[dict[str, str]]:
    """Run prompt lines. Their output goes to standard output, or with `capture` into what is returned.

    Raises ShellError for a line that names no command and no node.
    """
    # The prompt polls its input while a command runs: a pipe nobody writes to keeps it quiet.
    silence, hold = os.pipe()
    answers = []
    with os.fdopen(silence) as nothing, os.fdopen(hold, "w"):
        shell = _Lines(network.mininet, stdin=nothing)
        for line in lines:
            output = io.StringIO()
            _print_to(output if capture else sys.stdout)
            if not capture:
                print(f"mininet> {line}", flush=True)
            shell.onecmd(shell.precmd(line))
            answers.append({"line": line, "output": output.getvalue()})
    return answers


def _print_to(stream: TextIO) -> None:
    """Mininet logs what commands print; send it to `stream`."""
    lg.setLogLevel("output")
    for handler in lg.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)
