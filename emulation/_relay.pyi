"""relay.c and relay_virtual.h, as their users see them; see the docstrings there."""

from collections.abc import Sequence
from typing import Any

LATENESS_BINS: int
LATENESS_SUB_BITS: int

class Server:
    def __init__(
        self, paths: Sequence[dict[str, Any]], scheduler: str = "round_robin", start_ns: int = 0
    ) -> None: ...
    def offer(self, path: int, now_ns: int, length: int) -> int: ...
    def change(
        self,
        path: int,
        now_ns: int,
        rate_bps: float = ...,
        delay_s: float = ...,
        loss: float = ...,
        up: float = ...,
    ) -> None: ...
    def advance(self, now_ns: int) -> list[tuple[int, int, int, str, int]]: ...
    def waiting(self, path: int, now_ns: int) -> int: ...
    def next(self) -> int | None: ...

def run(servers: list[tuple[str, list[dict[str, Any]]]], control: int) -> None: ...
def lock_memory() -> bool: ...
