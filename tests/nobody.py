"""An ordinary user for the time of a test, with a /dev/net/tun of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def as_nobody(tun_mode: str = "666") -> list[str]:
    """What to put before a command, as root. The device node is in a mount namespace of its own: the
    machine's stays as it is. Skips where this Python lies in a folder that is closed to others."""
    if subprocess.run([*_NOBODY, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"user nobody cannot run {sys.executable}: it lies in a folder closed to others")
    script = (
        f"mount -t tmpfs -o mode=755 none /mnt && mknod -m {tun_mode} /mnt/tun c 10 200 && "
        "mount --bind /mnt/tun /dev/net/tun && "
        f'exec {" ".join(_NOBODY)} "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "sh"]
