"""From rounds of which only the first part of every transfer took place to rounds as if all of it had.

What is said of the rest, and what that rests on:

- **Transfers.** Each goes on at the rate of its second half, if that was steady (steady.py); if not, the run
  is invalid. On links of their own (a cell divided for good among them) devices do not notice each other, so
  what one did in the part it does in the rest. In a cell shared by need the rest takes place beside other
  devices than the part did: slow ones are alone in the end, and uploads begin at other times. There rates
  count against airtime (airtime.py): each transfer needs so much, and who is active when follows from that.
  The model leaves out that acknowledgements take airtime where one device uploads while another downloads;
  if that may be more than 1 % the run is invalid.
- **Work.** A compute profile's time stays: it is the device's and not the vector's. What this machine really
  computes (synthetic training without a profile, the queue for a core, the average at the server, processor
  times) grows with the vector; a constant share of it, milliseconds, grows with it, so these are upper
  estimates. Encoding before the first byte is that of one segment, and stays. Encoding and decoding that keep
  up with the link are hidden behind it, and where they do not they are in the rate.
- **Bytes.** Payloads follow from the codec, or grow with the values where its lengths vary; messages grow as
  payloads do; the wire as Transfer.more_on_wire says.
- **Rounds** end when their slowest device does, and begin by as much later as those before got longer.

Bounds, energy, contradictions and tables are made of these rounds as of any others. Events stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emulation.link import AccessLink
from experiments.analytic import shared_air
from experiments.extrapolation.airtime import Span, acknowledgements, airtime, overlap_s
from experiments.extrapolation.marks import Work, whole_marks
from experiments.extrapolation.part import EmulatedPart
from experiments.extrapolation.transfer import Transfer
from experiments.timeline import Round

_BY_NEED = ("round_robin", "proportional_fair")
"""Schedulers under which a device gets what others leave."""
_MOST_STOLEN = 0.01

Transfers = Mapping[str, Transfer]
"""Of one direction, by device."""
Spans = dict[str, Span]


@dataclass
class Extrapolation:
    """`rounds` of whole transfers, a row of extrapolation.csv for each, and why the run is invalid."""

    rounds: list[Round] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def extrapolate(
    rounds: Iterable[Round],
    part: EmulatedPart,
    links: Mapping[str, AccessLink],
    *,
    profiled: frozenset[str],
    deadline_s: float,
) -> Extrapolation:
    """`links` by device; `profiled`: devices with a compute profile; `deadline_s`: of a round."""
    result, later_s = Extrapolation(), 0.0
    for one in rounds:
        missing = sorted(name for name, client in one.clients.items() if client.outcome != "finished")
        if one.latency_s is None or missing or not one.clients:
            who = ", ".join(missing) or "any device"
            result.reasons.append(f"round {one.number} cannot be extrapolated: it ended without {who}")
            result.rounds.append(_later(one, later_s))
            continue
        whole = _Unfolding(one, part, links, profiled, result).whole()
        assert whole.latency_s is not None
        if whole.latency_s > deadline_s:
            result.reasons.append(
                f"round {one.number} would last {whole.latency_s:.0f} s, and "
                f"federation.round_deadline={deadline_s:g}s would have closed it"
            )
        result.rounds.append(_later(whole, later_s))
        later_s += whole.latency_s - one.latency_s
    return result


def _later(one: Round, later_s: float) -> Round:
    clients = {}
    for name, client in one.clients.items():
        marks = {mark: event | {"t": event["t"] + later_s} for mark, event in client.marks.items()}
        clients[name] = replace(client, marks=marks)
    end = None if one.end is None else one.end + later_s
    return replace(one, start=one.start + later_s, end=end, clients=clients)


class _Unfolding:
    """One round that every device finished; what is found goes into `result`."""

    def __init__(
        self,
        one: Round,
        part: EmulatedPart,
        links: Mapping[str, AccessLink],
        profiled: frozenset[str],
        result: Extrapolation,
    ) -> None:
        self._round, self._part, self._links, self._result = one, part, links, result
        self._work = {
            name: Work.of(client, 1.0 if name in profiled else part.growth)
            for name, client in one.clients.items()
        }
        self._down = {
            name: Transfer(client, "down", part.whole_down_bytes) for name, client in one.clients.items()
        }
        self._up = {
            name: Transfer(client, "up", part.whole_up(int(client.value("upload_received", "payload_bytes"))))
            for name, client in one.clients.items()
        }

    def whole(self) -> Round:
        """The round as it would have been."""
        self._measure(self._down)
        self._measure(self._up)
        down = self._spans(self._down, {name: one.span[0] for name, one in self._down.items()})
        up = self._spans(self._up, {name: down[name][1] + work.total_s for name, work in self._work.items()})
        self._check_acknowledgements(down, up)
        for name in self._round.clients:
            self._result.rows += [self._down[name].row(down[name]), self._up[name].row(up[name])]
        assert self._round.end is not None
        last_s = max(one.span[1] for one in self._up.values())
        closing = next(iter(self._round.clients.values())).marks["aggregate_start"]
        closes_at = max(end for _, end in up.values()) + closing["t"] - last_s
        end = closes_at + (self._round.end - closing["t"]) * self._part.growth
        clients = {}
        for name, client in self._round.clients.items():
            marks = whole_marks(self._down[name], down[name], self._work[name], self._up[name], up[name])
            marks["aggregate_start"] = closing | {"t": closes_at}
            marks["round_end"] = client.marks["round_end"] | {"t": end}
            clients[name] = replace(client, marks=marks, extrapolated=True)
        return replace(self._round, end=end, clients=clients)

    def _sharing(self) -> list[list[str]]:
        """The devices, by the air that they share; each by itself on a link of its own."""
        together: dict[tuple[str, str], list[str]] = {}
        for name in self._round.clients:
            air = self._links[name].air
            shared = air is not None and air.scheduler in _BY_NEED
            together.setdefault(("air", air.name) if air and shared else ("link", name), []).append(name)
        return list(together.values())

    def _measure(self, transfers: Transfers) -> None:
        for names in self._sharing():
            clock = airtime([transfers[name].span for name in names])
            for name in names:
                one = transfers[name]
                where = f"round {self._round.number}, {name}: {one.way}load"
                link = self._links[name].up if one.way == "up" else self._links[name].down
                if (unsteady := one.measure(clock, link)) is not None:
                    self._result.reasons.append(
                        f"{where} not steady after {one.part_bytes / 1e6:.1f} MB: {unsteady}; "
                        "try a longer adapter.emulated_time"
                    )
                least_s = link.least_time_s(one.part_bytes)
                if one.took_s < least_s:  # Airtime is not shared as it is taken to be.
                    self._result.reasons.append(
                        f"{where} seems to have had {one.took_s:.1f} s of airtime, and its link takes "
                        f"{least_s:.1f} s"
                    )

    def _spans(self, transfers: Transfers, starts: Mapping[str, float]) -> Spans:
        """From when to when each lasts as a whole."""
        spans: Spans = {}
        for names in self._sharing():
            first = min(starts[name] for name in names)
            ends = shared_air(
                [starts[name] - first for name in names], [transfers[name].needs_s for name in names]
            )
            spans |= {name: (starts[name], first + end) for name, end in zip(names, ends, strict=True)}
        return spans

    def _check_acknowledgements(self, down: Spans, up: Spans) -> None:
        """Those of other devices in the same air, which the model leaves out."""
        stolen = max(
            self._stolen(names, name, *ways)
            for names in self._sharing()
            for name in names
            for ways in (("up", up, self._down, down), ("down", down, self._up, up))
        )
        if stolen > _MOST_STOLEN:
            self._result.reasons.append(
                f"round {self._round.number}: in the shared cell some devices upload while others download, "
                f"whose acknowledgements may take {stolen:.1%} of the airtime: that is not extrapolated"
            )

    def _stolen(
        self, names: Sequence[str], name: str, way: str, spans: Spans, others: Transfers, opposite: Spans
    ) -> float:
        """Share of the airtime in `way` that others' acknowledgements take while `name`'s transfer lasts."""
        taken_s = 0.0
        for other in names:
            if other != name:
                link = self._links[other]
                rate_bps = (link.up if way == "up" else link.down).rate_bps
                share = acknowledgements(others[other].whole_bytes, opposite[other], rate_bps)
                taken_s += share * overlap_s(spans[name], opposite[other])
        return taken_s / (spans[name][1] - spans[name][0])
