"""An ordinary user for the time of a test, with a /dev/net/tun of its own."""

from __future__ import annotations

import shlex
import stat
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

_NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"


def as_nobody(tun_mode: str = "666") -> list[str]:
    """What to put before a command, as root. Its mounts are in a namespace of its own: the machine's device
    node and the closed folders that Python or the repository lie in (root's home) stay as they are."""
    lines = [
        "umask 022",
        "mount -t tmpfs -o mode=755 none /mnt",
        f"mknod -m {tun_mode} /mnt/tun c 10 200",
        "mount --bind /mnt/tun /dev/net/tun",
        *_through_closed_folders([Path(sys.base_prefix).resolve(), REPOSITORY]),
        f'exec {_NOBODY} "$@"',
    ]
    return ["unshare", "--mount", "sh", "-c", " && ".join(lines), "sh"]


def _through_closed_folders(wanted: list[Path]) -> list[str]:
    """Commands that put an open, empty folder over each closed one, and in it what of it is wanted."""
    covers = {path: cover for path in wanted if (cover := _outermost_closed(path))}
    kept = {path: f"/mnt/{number}" for number, path in enumerate(covers)}
    lines = [f"mkdir {kept[path]} && mount --rbind {_q(path)} {kept[path]}" for path in covers]
    lines += [f"mount -t tmpfs -o mode=755 none {_q(cover)}" for cover in sorted(set(covers.values()))]
    lines += [f"mkdir -p {_q(path)} && mount --rbind {kept[path]} {_q(path)}" for path in covers]
    return lines


def _outermost_closed(path: Path) -> Path | None:
    return next((folder for folder in reversed(path.parents) if not _is_open(folder)), None)


def _is_open(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def _q(path: Path) -> str:
    return shlex.quote(str(path))
