"""Devices on other machines: they join through a port of this machine that leads into the sandbox.

The command line opens the port before it enters the sandbox, for inside there is no way out; a forwarder
(emulation/forwarder.py) carries what arrives there to the server. Between a remote device and the server lies
the real network: nothing of it is emulated, calibrated or counted.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

from emulation import host_process
from experiments.config import ConfigError, Experiment

LISTENER = "FEDCELL_REMOTE_LISTENER"
"""Environment variable: the listening socket's descriptor, inside the sandbox."""


def listen(experiment: Experiment) -> dict[str, int]:
    """What the sandbox has to inherit: LISTENER -> the descriptor; nothing where no device is remote."""
    address = experiment.federation.remote_listen
    if address is None:
        return {}
    host, _, port = address.rpartition(":")
    try:
        listener = socket.create_server((host, int(port)))
    except OSError as error:
        raise ConfigError(f"federation.remote_listen: {address}: {error.strerror or error}") from error
    return {LISTENER: listener.detach()}


def commands(experiment: Experiment) -> dict[str, str]:
    """Remote device -> the command line that starts it on its machine, in a clone of this repository."""
    found = {}
    for name, device in experiment.expanded_devices():
        if not device.remote:
            continue
        command = [
            "python",
            "-m",
            "client",
            "--server",
            str(experiment.federation.remote_listen),
            "--id",
            name,
        ]
        # What everybody's `compute` says is of this machine's devices.
        if device.seconds_per_step is not None or device.compute_profile is not None:
            command += ["--seconds-per-step", f"{experiment.seconds_per_step(device):g}"]
        found[name] = shlex.join(command)
    return found


class Forwarder:
    """Carries connections from this machine's port to `server`, in the network of process `pid`."""

    def __init__(self, server: str, pid: int, log: Path) -> None:
        self._server, self._pid, self._log = server, pid, log

    def __enter__(self) -> Forwarder:
        if LISTENER not in os.environ:
            raise ConfigError("federation.remote_listen: remote devices need a run begun with `fedcell run`")
        descriptor = int(os.environ[LISTENER])
        command = [sys.executable, "-m", "emulation.forwarder", str(descriptor), self._server]
        self._process = host_process.start(command, pid=self._pid, log=self._log, pass_fds=[descriptor])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()
