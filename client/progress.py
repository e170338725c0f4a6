"""How far something is, a few times a second, in the event log."""

from __future__ import annotations

import time

from proto.events import EventLog

_EVERY_S = 0.25


class Progress:
    """Writes `event` with what is done so far, unless it has just done so."""

    def __init__(self, events: EventLog, event: str, round_number: int) -> None:
        self._events, self._event, self._round = events, event, round_number
        self._last = 0.0

    def report(self, done: int) -> None:
        """`done` bytes or steps."""
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            self._events.write(self._event, round=self._round, done=done)
