"""Error feedback: what the uplink's codec left out of a device's updates goes up with its next one.

    sent = decode(encode(update + e));    e <- update + e - sent    once the server has taken it

(Seide et al., 1-bit SGD, Interspeech 2014; Karimireddy et al., arXiv 1901.09847.) `sent` is what the server
decoded, to the bit: a segment gives the same bytes whenever it is encoded again.

An update that is not taken (refused, late, lost) leaves e as it was: the global adapter did not move by any
of it, and the next update is the difference to the adapter that comes down then, with nothing of this one in
it. A late update that counts in a later round is taken.

Memory: one vector more than a device needs without it, three times its update in all. It lives as long as
the process; a restarted device owes nothing, and says so in its events.
"""

from __future__ import annotations

import math
import time

from client.norm import l2_norm, square
from proto.adapter import Vector
from proto.events import EventLog
from proto.segments import SegmentEncoder


class Feedback:
    """The residual e of one device."""

    def __init__(self, events: EventLog, round_number: int) -> None:
        self._events = events
        self._residual: Vector | None = None
        self._update_norm = 0.0
        events.write("feedback_start", round=round_number, residual_norm=0.0)

    @property
    def residual(self) -> Vector | None:
        """e, shape (size,); None while nothing is owed."""
        return self._residual

    def add_to(self, update: Vector) -> None:
        """Add what is owed to a round's `update`, shape (size,), in place."""
        self._update_norm = l2_norm(update)
        if self._residual is not None:
            update += self._residual

    def settle(self, vector: Vector, encoder: SegmentEncoder, round_number: int) -> None:
        """The server has taken what `encoder` made of `vector`: what is left of that becomes e, in place."""
        self._residual = None
        began = time.thread_time()
        total = 0.0
        for _, start, sent in encoder.echo():
            rest = vector[start : start + sent.size]
            rest -= sent  # Encoded already: no piece that is still to come is made of it.
            total += square(rest)
        self._residual = vector
        self._events.write(
            "error_feedback",
            round=round_number,
            update_norm=self._update_norm,
            residual_norm=math.sqrt(total),
            cpu_s=time.thread_time() - began,
        )
