"""Run a piece of Python in a sandbox of its own and take its report.

The report is the one JSON document on standard output; anything else there fails the test, so Mininet's
chatter cannot slip in.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_PREAMBLE = """
import dataclasses, json, os, signal, subprocess, sys, time
from emulation.backend import LinkError
from emulation.calibration import calibrate
from emulation.link import AccessLink, LinkSpec
from emulation.topology import Network

def inside(network, host, *argv):
    command = ["mnexec", "-a", str(network.pid(host)), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
"""


def report(code: str, timeout_s: float = 100, prefix: Sequence[str] = ()) -> Any:
    """What `code` prints, as JSON. It finds Network, AccessLink, LinkSpec, calibrate and `inside`.

    `prefix` goes before the command that makes the sandbox.
    """
    done = subprocess.run(
        [
            *prefix,
            sys.executable,
            "-m",
            "emulation.sandbox",
            "--",
            sys.executable,
            "-Bc",
            _PREAMBLE + textwrap.dedent(code),
        ],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=_REPOSITORY,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
