"""One direction of a TCP connection, put together from captured segments in whatever order they came."""

from __future__ import annotations

from dataclasses import dataclass, field

_SEQUENCES = 1 << 32


@dataclass(frozen=True)
class Joined:
    """What a direction carried: `data` from its first byte to the first hole; `others` are bytes that were on
    the link and have no place there: behind a hole, or replaced by a later copy that says something else.
    `missing_bytes` were received but not captured."""

    data: bytes
    others: list[bytes]
    missing_bytes: int


@dataclass
class Stream:
    """Takes segments as they were captured.

    Of bytes that were captured more than once the last copy counts: a damaged one comes before the one that
    TCP sends again.
    """

    begins_late: bool = False
    """Whether its first segments were sent before the capture began."""
    _first: int | None = None
    _latest: int = 0
    _acknowledged: int = 0
    _end: int | None = None
    _pieces: list[tuple[int, bytes]] = field(default_factory=list)

    def begin(self, sequence: int) -> None:
        """The SYN carried `sequence`: the stream's first byte has the next number (RFC 9293, 3.4)."""
        self._first = (sequence + 1) % _SEQUENCES

    def begins_with(self, sequence: int) -> bool:
        """Whether its SYN carried this number: it is the same connection's, sent again."""
        return self._first == (sequence + 1) % _SEQUENCES

    def add(self, sequence: int, payload: bytes, *, fin: bool = False) -> None:
        """A segment: its payload from the byte numbered `sequence` on; `fin`: the stream ends with it."""
        if not payload and not fin:
            return
        if self._first is None:
            self._first, self.begins_late = sequence, True
        offset = self._offset(sequence)
        end = offset + len(payload)
        self._latest = max(self._latest, end)
        if fin:
            self._end = end
        if offset < 0:  # A keep-alive repeats the byte before the first.
            offset, payload = 0, payload[-offset:]
        if payload:
            self._pieces.append((offset, payload))

    def acknowledge(self, number: int) -> None:
        """The other side has every byte before the one of this number."""
        if self._first is not None:
            self._acknowledged = max(self._acknowledged, self._offset(number))

    def join(self) -> Joined:
        """The whole of it."""
        # A FIN is acknowledged like a byte.
        received = self._acknowledged if self._end is None else min(self._acknowledged, self._end)
        size = max(self._latest, received)
        data, there, others = bytearray(size), bytearray(size), []
        for offset, payload in self._pieces:
            end = offset + len(payload)
            if 1 in there[offset:end]:
                triples = zip(there[offset:end], data[offset:end], payload, strict=True)
                before = [(held, came) for known, held, came in triples if known]
                if any(held != came for held, came in before):
                    others.append(bytes(held for held, _ in before))
            data[offset:end] = payload
            there[offset:end] = b"\1" * len(payload)
        hole = there.find(0)
        if hole < 0:
            return Joined(bytes(data), others, 0)
        if behind := bytes(data[hole:]).strip(b"\0"):
            others.append(behind)
        return Joined(bytes(data[:hole]), others, there[:received].count(0))

    def _offset(self, sequence: int) -> int:
        """The place of a sequence number, which wraps around: the one nearest to the latest byte."""
        assert self._first is not None
        half = _SEQUENCES // 2
        return self._latest + (sequence - self._first - self._latest + half) % _SEQUENCES - half
