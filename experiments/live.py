"""Progress while a run is under way: a live table on a terminal, plain lines elsewhere.

Goes to standard error; knows only the events.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.timeline import Event, emulated
from proto.exchange import TRAINER


class EventTail:
    """The events that came since the last look, from a folder of growing logs."""

    def __init__(self, folder: Path, dilation: float) -> None:
        self._folder, self._dilation = folder, dilation
        self._offsets: dict[Path, int] = {}

    def read(self) -> list[Event]:
        """New events in order of time; a line that is still being written waits for the next look."""
        events: list[Event] = []
        for file in self._folder.glob("*.jsonl"):
            if file.stat().st_size == self._offsets.get(file, 0):
                continue  # With many devices most logs are as they were.
            with file.open("rb") as log:
                log.seek(self._offsets.get(file, 0))
                whole, newline, _ = log.read().rpartition(b"\n")
            self._offsets[file] = self._offsets.get(file, 0) + len(whole) + len(newline)
            events += [emulated(json.loads(line), self._dilation) for line in whole.splitlines()]
        return sorted(events, key=lambda event: event["t"])


@dataclass
class _DeviceState:
    phase: str = "starting"
    done: int = 0
    total: int = 0
    down_bytes: int = 0
    up_bytes: int = 0

    def enter(self, phase: str, total: int = 0) -> None:
        self.phase, self.done, self.total = phase, 0, total


class Progress:
    """Shows stages and events of a run. `with Progress(...) as progress: progress.stage("calibrating")`."""

    def __init__(self, name: str, devices: list[str], rounds: int, steps: int, dilation: float = 1.0) -> None:
        self._console = Console(stderr=True)
        self._devices = {device: _DeviceState() for device in devices}
        self._rounds, self._steps, self._dilation = rounds, steps, dilation
        self._name, self._stage, self._round = name, "", 0
        self._started = time.monotonic()
        self._round_started = self._emulated = 0.0
        self._live = Live(
            get_renderable=self._table, console=self._console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def stage(self, text: str) -> None:
        """What the run is doing outside its rounds."""
        self._stage = text
        self._line(text)

    def tell(self, text: str) -> None:
        """Something that the user has to know, whatever stage this is."""
        self._line(text)

    def show(self, events: list[Event]) -> None:
        """Take in new events."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "round_start":
            self._round, self._round_started = event["round"], event["t"]
            self._stage = "running"
        elif kind == "round_end":
            latency = event["t"] - self._round_started
            self._emulated += latency
            self._stage = "between rounds"
            outcomes = event["outcomes"].values()
            finished = sum(outcome == "finished" for outcome in outcomes)
            self._line(
                f"round {event['round']}/{self._rounds}: {latency:.2f} s, {finished}/{len(outcomes)} updates"
            )
        elif kind == "nobody_available":
            next_s = event["next_in_s"]
            when = "ever again" if next_s is None else f"for another {next_s:.1f} s"
            self._line(f"round {event['round']}: no device is available {when}")
        device = self._devices.get(event.get("client") or event["process"])
        if device is None:
            return
        match kind:
            case "prepare_start":
                device.enter("preparing")
            case "connected":
                device.enter("ready")
            case "download_start" | "delivery_start":
                device.enter("download", event["payload_bytes"])
            case "download_progress" | "compute_progress" | "upload_progress":
                device.done = event["done"]
            case "download_end" | "delivery_end":
                device.down_bytes += event["payload_bytes"]
                device.enter("waits for a core")
            case "compute_start":
                devices = len(self._devices) - 1
                device.enter("compute", self._steps * (devices if event["process"] == TRAINER else 1))
            case "encode_end":
                device.enter("upload", event["payload_bytes"])
            case "upload_received" | "delivered":
                device.up_bytes += event["payload_bytes"]
                device.enter("done")
            case "client_lost" | "client_late" | "refused" | "client_exit" | "client_failed":
                device.enter("ended" if event.get("status") == 0 else kind.removeprefix("client_"))

    def _line(self, text: str) -> None:
        """A plain line; on a terminal it scrolls above the table."""
        stamp = f"[{time.monotonic() - self._started:6.1f} s]"
        print_to = self._live.console.print if self._live.is_started else self._plain
        print_to(f"{stamp} {text}", markup=False, highlight=False)

    @staticmethod
    def _plain(text: str, **_: object) -> None:
        print(text, file=sys.stderr, flush=True)

    def _table(self) -> Table:
        now = time.monotonic()
        running = now / self._dilation - self._round_started if self._stage == "running" else 0.0
        title = (
            f"{self._name}: {self._stage or 'starting'}, round {self._round}/{self._rounds}, "
            f"{self._emulated + running:.1f} s emulated, {now - self._started:.1f} s wall"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("device")
        table.add_column("phase", min_width=16)
        table.add_column("progress", justify="right", min_width=20)
        table.add_column("payload down", justify="right")
        table.add_column("payload up", justify="right")
        for name, device in self._devices.items():
            table.add_row(
                name,
                device.phase,
                _fraction(device),
                f"{device.down_bytes / 1e6:.2f} MB",
                f"{device.up_bytes / 1e6:.2f} MB",
            )
        return table


def _fraction(device: _DeviceState) -> str:
    if not device.total:
        return ""
    if device.phase == "compute":
        return f"{device.done}/{device.total} steps"
    return f"{device.done / 1e6:.2f}/{device.total / 1e6:.2f} MB"
