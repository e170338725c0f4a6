"""The cohort of each round: the devices that are there, as far as the policy wants them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from proto.events import EventLog
from server.devices import Device, Registry
from server.selection import Availability, Candidate, Selector

log = logging.getLogger("server")


class Cohorts:
    """Chooses cohorts, and keeps what policies know of devices up to date.

    The trace's time 0 is when round 1 is due; `scale` real seconds are one of its seconds. A device need
    only be there when it is chosen: an interval that ends within a round ends nothing.
    """

    def __init__(
        self,
        registry: Registry,
        selector: Selector,
        availability: Availability | None,
        *,
        scale: float = 1.0,
        events: EventLog,
    ) -> None:
        self._registry = registry
        self._selector = selector
        self._availability = availability
        self._scale = scale
        self._events = events
        self._began: float | None = None

    async def choose(self, number: int, patience_s: float) -> list[str]:
        """The cohort of round `number`, in the devices' order.

        Where nobody is there it waits for the first who is, `patience_s` at most; empty when nobody came.
        """
        there = await self._await_someone(number, patience_s)
        candidates = [_candidate(device) for name, device in self._registry.devices.items() if name in there]
        return self._selector.select(candidates, number) if candidates else []

    def learn(self, outcomes: Mapping[str, str]) -> None:
        """A round has closed: who is late or lost has shown what its link is worth."""
        for name, outcome in outcomes.items():
            if outcome in ("late", "lost"):
                self._registry.devices[name].uplink_bps = 0.0

    async def _await_someone(self, number: int, patience_s: float) -> set[str]:
        """Who is there, as soon as anyone is."""
        if self._availability is None:
            return set(self._registry.devices)
        patience_s /= self._scale
        waited_since_s = now_s = self._now_s()
        while not (there := self._availability.available(now_s)):
            next_in_s = self._availability.wait_s(now_s)
            self._events.write("nobody_available", round=number, trace_s=now_s, next_in_s=next_in_s)
            if next_in_s is None:
                log.warning("round %d: no device will be available again", number)
                return set()
            left_s = waited_since_s + patience_s - now_s
            log.warning("round %d: no device is available for %.1f s", number, next_in_s)
            await asyncio.sleep(min(next_in_s, left_s) * self._scale)
            if left_s < next_in_s:
                return set()
            now_s = self._now_s()
        self._events.write("available", round=number, trace_s=now_s, devices=sorted(there))
        return there

    def _now_s(self) -> float:
        """Where the trace stands, in its own seconds."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        return (now - self._began) / self._scale


def _candidate(device: Device) -> Candidate:
    return Candidate(device.name, device.examples, device.connected, device.loss, device.uplink_bps)
