"""From the event logs of all processes to what each device did in each round, and when.

All times are emulated seconds: CLOCK_MONOTONIC divided by the run's dilation. The phases of one round and
client, each from an event of one process to an event of another:

    download   server pushes the first byte .. client has decoded the last
    gate       .. a core is free to train on (0 on a device of its own)
    compute    local training, and the hold of a compute profile
    encode     the codec, until there is something to send; the rest is encoded while it is sent
    upload     first byte handed over .. last byte at the server
    wait       .. the round closes
    aggregate  what did not become whole is taken back .. new global adapter ready
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]

PHASES = ("download", "gate", "compute", "encode", "upload", "wait", "aggregate")

# phase -> the marks it runs between
_BOUNDS = {
    "download": ("download_start", "download_end"),
    "gate": ("download_end", "compute_start"),
    "compute": ("compute_start", "compute_end"),
    "encode": ("compute_end", "encode_end"),
    "upload": ("upload_start", "upload_received"),
    "wait": ("upload_received", "aggregate_start"),
    "aggregate": ("aggregate_start", "round_end"),
    # Of central training's last round, in whose table it is a download.
    "delivery": ("delivery_start", "delivery_end"),
}

# What an event holds in seconds of the clock; seconds of processor time stay as they are.
_TIMES = ("t", "overrun_s", "took_s")

# A retried upload starts once: its first byte is what counts. Everything else ends with its last event.
_FIRST_COUNTS = ("download_start", "upload_start", "delivery_start")


@dataclass
class ClientRound:
    """One device in one round: its marks (event -> the event) and how it ended."""

    round: int
    client: str
    marks: dict[str, Event] = field(default_factory=dict)
    outcome: str = "unfinished"
    before: Event | None = None
    """The device's last reading of its wire counters before the first of this round."""
    exit: Event | None = None
    """How its process ended, when it ended within this round."""

    def time(self, mark: str) -> float | None:
        event = self.marks.get(mark)
        return None if event is None else float(event["t"])

    def phase_s(self, phase: str) -> float | None:
        """Seconds of a phase; None where it did not end."""
        return self.between_s(*_BOUNDS[phase])

    def between_s(self, first: str, last: str) -> float | None:
        """Seconds from one mark to another; None where one is missing."""
        start, end = self.time(first), self.time(last)
        return None if start is None or end is None else end - start

    def value(self, mark: str, key: str) -> Any:
        """A field of one of its events; None where there is none."""
        return self.marks.get(mark, {}).get(key)


@dataclass
class Round:
    """One round."""

    number: int
    start: float
    end: float | None = None
    scheme: str = "federated"
    """As training.scheme."""
    discordance: float | None = None
    """|mean(BA) - mean(B) mean(A)| / |mean(BA)| of its local models."""
    clients: dict[str, ClientRound] = field(default_factory=dict)

    @property
    def latency_s(self) -> float | None:
        """Start .. new global adapter ready."""
        return None if self.end is None else self.end - self.start


def emulated(event: Event, dilation: float) -> Event:
    """An event as logged, in real seconds, with its times in emulated ones."""
    return event | {key: event[key] / dilation for key in _TIMES if event.get(key) is not None}


def read_events(folder: Path, dilation: float = 1.0) -> list[Event]:
    """All processes' events in order of time; a last line cut off by a kill is left out."""
    events: list[Event] = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                events.append(emulated(json.loads(line), dilation))
            except json.JSONDecodeError:
                continue
    return sorted(events, key=lambda event: event["t"])


def build(events: Iterable[Event]) -> list[Round]:
    """Rounds in order, from events in order of time."""
    rounds: dict[int, Round] = {}
    last_counters: dict[str, Event] = {}
    open_round: Round | None = None
    for event in events:
        kind = event["event"]
        if kind == "round_start":
            open_round = Round(event["round"], event["t"], scheme=event.get("scheme", "federated"))
            rounds[open_round.number] = open_round
            for name in event["cohort"]:
                open_round.clients[name] = ClientRound(open_round.number, name)
        client = event.get("client") or event["process"]
        current = rounds.get(event.get("round") or -1)
        if kind in ("aggregate_start", "round_end") and current:
            for client_round in current.clients.values():
                client_round.marks[kind] = event
        elif current and client in current.clients:
            marks = current.clients[client].marks
            if not (kind in _FIRST_COUNTS and kind in marks):
                marks[kind] = event
        if kind == "round_end" and current:
            current.end = event["t"]
            for name, outcome in event["outcomes"].items():
                current.clients[name].outcome = outcome
            open_round = None
        if kind == "discordance" and current:
            current.discordance = event["value"]
        if kind == "client_exit" and open_round and client in open_round.clients:
            open_round.clients[client].exit = event
        if kind == "client_drained" and current and client in current.clients:
            ended = current.clients[client]
            ended.exit = ended.exit and event | {"status": ended.exit["status"]}
        if "tx_bytes" in event:
            # In the device's own order: the reply to its last upload may come after the next round began.
            reads = current or (open_round if kind in ("client_exit", "connected") else None)
            if reads and client in reads.clients and reads.clients[client].before is None:
                reads.clients[client].before = last_counters.get(client)
            last_counters[client] = event
    return [rounds[number] for number in sorted(rounds)]
