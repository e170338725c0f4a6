"""Run a command in Debian's user-mode-linux kernel, on this machine's own files.

`boot.py TIMEOUT_S COMMAND ...` runs it in the same directory, passes on what it wrote and exits as it did.
The guest sees the machine's files read-only, with an empty /tmp of its own; it has one virtual CPU.
Everything of it lives in a sandbox and ends with this process.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
_REPOSITORY = HERE.parent.parent.parent
sys.path.insert(0, str(_REPOSITORY))

from emulation import sandbox  # noqa: E402  (this file runs as a script, too)

KERNEL = Path("/usr/bin/linux.uml")
_MEMORY = "2560M"
_LAUNCH = """
mount -t tmpfs -o size=$memory,mode=700 tmpfs "$scratch/memory" || exit
export TMPDIR="$scratch/memory" LD_PRELOAD="$scratch/xstate.so"
exec nice -n -20 $kernel rootfstype=hostfs rootflags=/ ro mem=$memory init=$init scratch="$scratch" \
    repository="$repository" uml_dir="$scratch" con=null con0=null,fd:1 </dev/null
"""


class BootError(RuntimeError):
    """The guest cannot be had, or did not get to its end; the message says why."""


def run(argv: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run `argv` in a guest of its own, in this directory and environment. Raises BootError."""
    if not KERNEL.exists():
        raise BootError(f"no {KERNEL}; fix: apt-get install user-mode-linux")
    with tempfile.TemporaryDirectory(prefix="uml-") as name:
        folder = Path(name)
        (folder / "memory").mkdir()
        library = folder / "xstate.so"
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, HERE / "xstate.c"],
            check=True,
        )
        kept = {key: os.environ[key] for key in ("HOME", "LANG", "FEDCELL_CACHE") if key in os.environ}
        environment = {**kept, "PYTHONDONTWRITEBYTECODE": "1"}
        words = ["exec", "env", *(f"{key}={value}" for key, value in environment.items()), *argv]
        (folder / "command").write_text(f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(words)}\n")
        settings = {"scratch": name, "memory": _MEMORY, "kernel": str(KERNEL)}
        settings |= {"init": str(HERE / "init.sh"), "repository": str(_REPOSITORY)}
        with (folder / "console").open("w") as console:
            try:
                subprocess.run(
                    sandbox.command(["sh", "-c", _LAUNCH]),
                    env=os.environ | settings,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    timeout=timeout_s,
                )
            except subprocess.TimeoutExpired:
                raise BootError(f"not done after {timeout_s:g} s; {_end_of(folder)}") from None
        if not (folder / "status").exists():
            raise BootError(f"the guest did not get to its end; {_end_of(folder)}")
        output, error, status = ((folder / what).read_text() for what in ("stdout", "stderr", "status"))
        return subprocess.CompletedProcess(argv, int(status), output, error)


def _end_of(folder: Path) -> str:
    """What the guest said last."""
    said = [
        f"its {what}: {(folder / what).read_text(errors='replace')[-1500:]}"
        for what in ("console", "stdout", "stderr")
        if (folder / what).exists()
    ]
    return "\n".join(said)


if __name__ == "__main__":
    try:
        done = run(sys.argv[2:], float(sys.argv[1]))
    except BootError as error:
        sys.exit(f"user-mode-linux: {error}")
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)
