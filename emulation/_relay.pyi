"""relay.c, as its users see it; see the docstrings there."""

DROPPED_QUEUE: int
DROPPED_LOSS: int
LATENESS_BINS: int
LATENESS_SUB_BITS: int

_Wire = tuple[int, int, float, float, float, float, int, int]

class Path:
    def __init__(
        self,
        rate_bps: float,
        delay_s: float = 0,
        jitter_s: float = 0,
        loss: float = 0,
        queue_bytes: int = ...,
        seed: int = 0,
    ) -> None: ...
    def offer(self, now_ns: int, length: int) -> int: ...
    def waiting(self, now_ns: int) -> int: ...

def run(wires: list[_Wire], control: int) -> None: ...
def lock_memory() -> bool: ...
