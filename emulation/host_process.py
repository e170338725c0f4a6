"""A process in a host's network that runs beside this one and does not outlive it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from emulation.sandbox import die_with_parent


def start(
    argv: Sequence[str],
    *,
    pid: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command in the namespaces of process `pid`; what it says is appended to `log`.

    It has a session of its own, as the terminal's Ctrl-C is for this process, which then ends it.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ["mnexec", "-a", str(pid), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
