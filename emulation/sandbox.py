"""A sandbox that cannot leak: private network, mount and PID namespaces around one command.

Everything a run makes (interfaces, bridges, processes) lives in these namespaces and the kernel takes
it away with them, however the run ends. `python -m emulation.sandbox -- CMD ...` tries it by hand.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

_MARK = "FEDCELL_SANDBOX"
_PR_SET_PDEATHSIG = 1

# A new network namespace shows through a fresh sysfs only; its loopback starts down.
_ENTER = 'mount -t sysfs sysfs /sys && ip link set lo up && exec "$@"'


class SandboxError(RuntimeError):
    """This machine does not let us make the namespaces; the message says which and what to do."""


def inside() -> bool:
    """Whether this process runs in a sandbox."""
    return os.environ.get(_MARK) == "1"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when process `parent` dies (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before we could ask.
        os.kill(os.getpid(), signal.SIGKILL)


def command(argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` as PID 1 of a new sandbox."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SandboxError("unshare (Debian package util-linux) is not installed: no sandbox")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    return [unshare, *user, *namespaces, "sh", "-c", _ENTER, "sandbox", *argv]


def probe() -> str | None:
    """None if a sandbox can be made here, else one line saying why not."""
    try:
        done = subprocess.run(command(["true"]), capture_output=True, text=True, timeout=20)
    except (SandboxError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    hint = "" if os.geteuid() == 0 else " (as an ordinary user: sysctl kernel.unprivileged_userns_clone=1)"
    return f"no private namespaces on this machine: {reason}{hint}"


def run(argv: Sequence[str], inherit: Mapping[str, int] | None = None) -> int:
    """Run `argv` in a new sandbox and return its exit status; signals to us reach it as SIGINT.

    `inherit` descriptors that it keeps, by the environment variables that tell it their numbers.

    Raises SandboxError when the namespaces cannot be made.
    """
    if reason := probe():
        raise SandboxError(reason)
    process = subprocess.Popen(
        command(argv),
        env=os.environ | {_MARK: "1"} | {name: str(fd) for name, fd in (inherit or {}).items()},
        pass_fds=list((inherit or {}).values()),
        preexec_fn=partial(_prepare_child, os.getpid()),
    )
    asked: list[int] = []

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        asked.append(signum)
        if len(asked) > 2:  # It did not listen.
            process.kill()
        # A terminal sends Ctrl-C to the whole foreground group, so the command has it already.
        elif signum != signal.SIGINT or not sys.stdin.isatty():
            _signal_child_of(process.pid, signal.SIGINT)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)
    status = process.wait()
    return 128 - status if status < 0 else status


def _prepare_child(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # A shell's background job would inherit "ignored".


def _signal_child_of(parent: int, signum: int) -> None:
    """Signal the sandbox's PID 1 by its PID out here (unshare itself holds signals back)."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        for pid in children.read_text().split():
            os.kill(int(pid), signum)
    except (FileNotFoundError, ProcessLookupError):
        pass  # It is ending already.


if __name__ == "__main__":
    arguments = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    if not arguments:
        sys.exit("usage: python -m emulation.sandbox -- COMMAND [ARGUMENT ...]")
    try:
        sys.exit(run(arguments))
    except SandboxError as error:
        sys.exit(str(error))
