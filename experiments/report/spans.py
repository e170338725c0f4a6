"""Who did what when, for the timeline: from a run's events, or where they were not kept from its tables.

Times are emulated seconds since the first round's start. Events tell exactly; tables tell how long phases
took, and leave out the milliseconds between one process's event and another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from experiments.timeline import PHASE_MARKS, PHASES, ClientRound, Round

SERVER = "server"
ROUND = "round"
"""What the server's lane shows while a round is open."""
AWAY = "away"
"""A remote device's round: from the first byte handed over to the last byte back, and nothing in between."""


@dataclass(frozen=True)
class Span:
    """One phase in one lane. One that did not end is drawn up to where something else began."""

    lane: str
    round: int
    phase: str
    start_s: float
    end_s: float
    ended: bool = True


def from_events(rounds: list[Round]) -> list[Span]:
    """All spans, the server's too."""
    if not rounds:
        return []
    until = max([time for one in rounds for time in _times(one)])
    spans = [span for one in rounds for span in _round_spans(one, until)]
    zero = rounds[0].start
    return [
        Span(s.lane, s.round, s.phase, s.start_s - zero, s.end_s - zero, s.ended)
        for s in spans
        if s.end_s >= s.start_s
    ]


def _times(one: Round) -> Iterator[float]:
    yield one.start if one.end is None else one.end
    for client in one.clients.values():
        yield from _marks(client)


def _marks(client: ClientRound) -> list[float]:
    """When phases of it began or ended, and when its process did."""
    names = {mark for marks in PHASE_MARKS.values() for mark in marks}
    times = [float(event["t"]) for name, event in client.marks.items() if name in names]
    return times + ([float(client.exit["t"])] if client.exit else [])


def _round_spans(one: Round, until: float) -> Iterator[Span]:
    yield Span(
        SERVER, one.number, ROUND, one.start, until if one.end is None else one.end, one.end is not None
    )
    starts = {client.time("aggregate_start") for client in one.clients.values()} - {None}
    for start in starts:
        assert start is not None
        yield Span(SERVER, one.number, "aggregate", start, one.end or until, one.end is not None)
    for client in one.clients.values():
        yield from _client_spans(client, until)


def _client_spans(client: ClientRound, until: float) -> Iterator[Span]:
    if (
        client.time("compute_start") is None
        and client.between_s("download_start", "upload_received") is not None
    ):
        # Only the server's events are here.
        yield _span(client, AWAY, "download_start", "upload_received", until)
        phases: tuple[str, ...] = ("wait", "aggregate")
    else:
        phases = PHASES
    for phase in phases:
        first, last = PHASE_MARKS[phase]
        if client.time(first) is not None:
            yield _span(client, phase, first, last, until)


def _span(client: ClientRound, phase: str, first: str, last: str, until: float) -> Span:
    start, end = client.time(first), client.time(last)
    assert start is not None
    if end is None:
        stop = min([time for time in _marks(client) if time > start], default=until)
        return Span(client.client, client.round, phase, start, stop, ended=False)
    return Span(client.client, client.round, phase, start, end)


def from_tables(rounds: pd.DataFrame, clients: pd.DataFrame) -> list[Span]:
    """The same from rounds.csv and clients.csv; what did not end is not in them."""
    spans = []
    for row in rounds.to_dict("records"):
        end_s = row["start_s"] + row["latency_s"]
        number = int(row["round"])
        cohort = clients[clients["round"] == number]
        if end_s == end_s:  # not NaN: the round ended
            spans.append(Span(SERVER, number, ROUND, row["start_s"], end_s))
            if (aggregate_s := cohort["aggregate_s"].max()) == aggregate_s:
                spans.append(Span(SERVER, number, "aggregate", end_s - aggregate_s, end_s))
        for client in cohort.to_dict("records"):
            spans += _row_spans(client, row["start_s"], end_s)
    return spans


def _row_spans(row: dict, start_s: float, end_s: float) -> Iterable[Span]:
    """A device's phases back to back: up to the round's end where it has all, else from its start on."""
    lane, number = str(row["client"]), int(row["round"])
    lengths = {phase: row.get(f"{phase}_s", float("nan")) for phase in PHASES}
    whole = sum(lengths.values())
    if row.get("remote") is True:
        turnaround_s = row.get("turnaround_s", float("nan"))
        if turnaround_s == turnaround_s:
            yield Span(lane, number, AWAY, start_s, start_s + turnaround_s)
        return
    at_s = end_s - whole if whole == whole else start_s
    for phase, length_s in lengths.items():
        if length_s != length_s:
            return
        yield Span(lane, number, phase, at_s, at_s + length_s)
        at_s += length_s
