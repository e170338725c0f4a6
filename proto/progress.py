"""How far something is, some times a second, in the event log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from proto.events import EventLog

_EVERY_S = 0.02
"""A transfer's rate is read off these marks, and one in fast motion may last but a second."""


class Progress:
    """Writes `event` with what is done so far and what `also` says then, unless it has just done so."""

    def __init__(
        self,
        events: EventLog,
        event: str,
        round_number: int,
        also: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._events, self._event, self._round, self._also = events, event, round_number, also
        self._last = 0.0

    def report(self, done: int) -> None:
        """`done` bytes or steps."""
        now = time.monotonic()
        if now - self._last >= _EVERY_S:
            self._last = now
            self._events.write(self._event, round=self._round, done=done, **self._also())
