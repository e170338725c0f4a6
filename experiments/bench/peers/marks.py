"""Marks in Flower's own processes, under the names that fedcell's events have.

So that one timeline and one set of tables (experiments.timeline, experiments.record) serves both. Wire bytes
come from the device's interface counters, read at the marks themselves.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from client.counters import read_counters
from proto.events import EventLog

EVENTS, DEVICE_PID, DEVICE = "FEDCELL_PEER_EVENTS", "FEDCELL_PEER_DEVICE_PID", "dev0"
"""Environment variables: the folder of event logs, and a process in the device's namespaces."""


def _log(process: str) -> EventLog:
    return EventLog(Path(os.environ[EVENTS]) / f"{process}.jsonl", process)


def _device_counters() -> dict[str, int]:
    return asdict(read_counters(Path(f"/proc/{os.environ[DEVICE_PID]}/net")))


class ServerMarks:
    """A round as the server's strategy sees it."""

    def __init__(self, payload_bytes: int) -> None:
        self._events = _log("server")
        self._payload_bytes = payload_bytes

    def sending(self, number: int) -> None:
        """The messages of a round are made and are about to be sent."""
        self._events.write("connected", client=DEVICE, **_device_counters())
        self._events.write("round_start", round=number, cohort=[DEVICE])
        self._events.write("download_start", round=number, client=DEVICE, payload_bytes=self._payload_bytes)

    def received(self, number: int) -> None:
        """The update has come."""
        self._events.write(
            "upload_received",
            round=number,
            client=DEVICE,
            payload_bytes=self._payload_bytes,
            message_bytes=self._payload_bytes,
        )
        self._events.write("upload_end", round=number, client=DEVICE, attempts=1, **_device_counters())
        self._events.write("aggregate_start", round=number)

    def aggregated(self, number: int, *, finished: bool) -> None:
        """The new global arrays are ready."""
        outcome = "finished" if finished else "lost"
        self._events.write("round_end", round=number, outcomes={DEVICE: outcome}, weight=1)


class DeviceMarks:
    """A round as the device's training function sees it."""

    def __init__(self, number: int, payload_bytes: int) -> None:
        self._events = _log(DEVICE)
        self._round = {"round": number}
        self._payload_bytes = payload_bytes

    def downloaded(self) -> None:
        """The training function has the arrays."""
        payload = {"payload_bytes": self._payload_bytes, "message_bytes": self._payload_bytes}
        self._events.write("download_end", **self._round, **payload, **_device_counters())
        self._events.write("compute_start", **self._round)

    def trained(self) -> None:
        """The training function is about to return its update."""
        self._events.write("compute_end", **self._round, steps=1, cpu_s=0.0, overrun_s=0.0)
        self._events.write(
            "encode_end", **self._round, payload_bytes=self._payload_bytes, **_device_counters()
        )
        self._events.write("upload_start", **self._round, attempt=1, offset=0)
        self._events.close()
