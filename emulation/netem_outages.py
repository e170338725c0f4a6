"""Outages on the clock: who tells the kernel when a link goes down and when it comes up again.

Times up and down are exponential, seeded per direction and on an absolute schedule: a switch that comes late
does not shift the next. Lateness that would falsify them is a violation.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from emulation.backend import Direction
from emulation.link import LinkError, Outages

_LATE_SHARE = 0.05
"""A switch may be late by this share of the shorter of the two mean times."""


def switches(outages: Outages, seed: int, way: Direction) -> Iterator[tuple[float, bool]]:
    """Seconds since the last switch and whether the link is up from then on, for ever; first it is up."""
    draw = random.Random(f"{seed} {' '.join(way)}")
    while True:
        yield draw.expovariate(1 / outages.mean_up_s), False
        yield draw.expovariate(1 / outages.mean_down_s), True


class OutageClock:
    """Switches directions by `switch(direction, up)` from its start until `stop`."""

    def __init__(
        self, outages: Mapping[Direction, Outages], seed: int, switch: Callable[[Direction, bool], None]
    ) -> None:
        self._outages, self._switch = dict(outages), switch
        self._latest_s = dict.fromkeys(outages, 0.0)
        self._failed: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(seed,), name="outages", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No switch comes after this; links stay as they are."""
        self._stopped.set()
        self._thread.join()

    def violations(self) -> list[str]:
        """Directions whose outages were not what was asked for."""
        found = list(self._failed)
        for way, asked in self._outages.items():
            allowed_s = _LATE_SHARE * min(asked.mean_up_s, asked.mean_down_s)
            if self._latest_s[way] > allowed_s:
                late = f"{1e3 * self._latest_s[way]:.1f} ms late, {1e3 * allowed_s:.1f} ms would do"
                found.append(f"{' '.join(way)}: an outage was switched {late}")
        return found

    def _run(self, seed: int) -> None:
        started = time.monotonic()
        schedules = {way: switches(asked, seed, way) for way, asked in self._outages.items()}
        pending = {way: next(schedule) for way, schedule in schedules.items()}
        due = {way: started + wait_s for way, (wait_s, _) in pending.items()}
        while True:
            way = min(due, key=due.__getitem__)
            if self._stopped.wait(max(0.0, due[way] - time.monotonic())):
                return
            try:
                self._switch(way, pending[way][1])
            except LinkError as error:
                self._failed.append(f"an outage could not be switched: {error}")
                return
            self._latest_s[way] = max(self._latest_s[way], time.monotonic() - due[way])
            pending[way] = next(schedules[way])
            due[way] += pending[way][0]
