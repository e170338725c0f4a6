"""The event log: one append-only JSON Lines file a process, stamped with CLOCK_MONOTONIC.

All processes of a machine share that clock, so their events merge into one timeline.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


class EventLog:
    """Appends events of one process; each is one write(2), so a kill leaves whole lines."""

    def __init__(self, path: Path | None, process: str) -> None:
        self._process = process
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(path, flags, 0o644) if path else None

    def write(self, event: str, **fields: object) -> float:
        """Append `event` with its fields; returns the time stamped on it (s, CLOCK_MONOTONIC)."""
        now = time.monotonic()
        if self._file is not None:
            # JSON has no NaN: a value that does not exist is null.
            known = {key: None if value != value else value for key, value in fields.items()}
            record = {"t": now, "process": self._process, "event": event, **known}
            line = json.dumps(record, allow_nan=False)
            os.write(self._file, line.encode() + b"\n")
        return now

    def close(self) -> None:
        """No more events."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
