"""What this machine can do for fedcell, and the fix for what it cannot."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from emulation import backend, sandbox
from experiments.config import BUNDLED_BASE

_TOOLS = {
    "mnexec": "mininet",
    "ip": "iproute2",
    "tc": "iproute2",
    "bridge": "iproute2",
    "ping": "iputils-ping",
    "iperf3": "iperf3",
    "ethtool": "ethtool",
    "unshare": "util-linux",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `needed`: without it no run is possible."""

    name: str
    ok: bool
    detail: str
    needed: bool = True


def examine() -> list[Finding]:
    """Look at everything; each finding stands for itself."""
    return [
        *_tools(),
        _probed("sandbox", sandbox.probe, "private namespaces can be made"),
        *_backends(),
        _real_time(),
        _data(),
        _base(),
        _torch(),
        Finding("cores", True, f"{len(os.sched_getaffinity(0))} for training", needed=False),
    ]


def _tools() -> list[Finding]:
    return [
        Finding(name, bool(path := shutil.which(name)), path or f"not found; fix: apt-get install {package}")
        for name, package in _TOOLS.items()
    ]


def _probed(name: str, probe: Callable[[], str | None], good: str) -> Finding:
    reason = probe()
    return Finding(name, reason is None, reason or good)


def _backends() -> list[Finding]:
    reasons = backend.probe()
    usable = [name for name, reason in reasons.items() if reason is None]
    found = [
        Finding(f"{name} links", reason is None, reason or "usable", needed=False)
        for name, reason in reasons.items()
    ]
    chosen = f"'{usable[0]}' is chosen by default" if usable else "no backend is usable; see above"
    return [*found, Finding("links", bool(usable), chosen)]


def _real_time() -> Finding:
    allowed = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] > 0
    detail = (
        "allowed"
        if allowed
        else (
            "not allowed: the relay may be late under load and runs be marked invalid; "
            "fix: run as root, or raise rtprio in /etc/security/limits.conf"
        )
    )
    return Finding("real-time relay", allowed, detail, needed=False)


def _data() -> Finding:
    from client.diffusion import data

    try:
        data.load_training("emoji", size=64)
    except data.DataError as error:
        return Finding("emoji data set", False, str(error), needed=False)
    return Finding("emoji data set", True, str(data.emoji_folder()), needed=False)


def _base() -> Finding:
    found = (BUNDLED_BASE / "model_index.json").is_file()
    return Finding("bundled base", found, str(BUNDLED_BASE), needed=False)


def _torch() -> Finding:
    try:
        return Finding("torch", True, metadata.version("torch"), needed=False)
    except metadata.PackageNotFoundError:
        return Finding("torch", False, "not installed; fix: make setup", needed=False)
