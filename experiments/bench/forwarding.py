"""How many full frames a second a backend carries when it is offered more than it can."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing

from emulation.agents import Agents
from emulation.link import FRAME_BYTES, AccessLink, LinkSpec
from emulation.topology import Network

TARGET_FRAMES_PER_S = 150_000
_RATE_BPS, _LINKS = 1e9, 4  # A link of the fastest rate carries 82,563 full frames a second.
_SETTLE_S, _COUNTED_S = 1.0, 4.0


def frames_per_s(backend: str) -> float:
    """Frames that reach the server's interface each second from links flooded at 1 Gbit/s each."""
    spec = LinkSpec(_RATE_BPS, queue_bytes=1000 * FRAME_BYTES)
    links = [AccessLink(f"dev{number}", spec, spec) for number in range(_LINKS)]
    with Network(links, backend=backend) as network, ExitStack() as stack:
        lower, upper = zip(*(network.ends(link) for link in links), strict=True)
        agents = stack.enter_context(Agents())
        counter, *senders = (
            stack.enter_context(closing(agents.start(host, network.pid(host), network.ip(host))))
            for host in (upper[0], *lower)
        )
        target = {"host": network.ip(upper[0]), "port": counter.ask("listen")["port"]}
        request = {
            "frame_bytes": FRAME_BYTES,
            "rate_bps": _RATE_BPS,
            "duration_s": _SETTLE_S + _COUNTED_S + 1,
        }
        for sender in senders:
            sender.begin("flood", **target, **request)
        time.sleep(_SETTLE_S)
        before = counter.ask("count")
        time.sleep(_COUNTED_S)
        after = counter.ask("count")
        for sender in senders:
            sender.end()
    elapsed_s = (after["at_ns"] - before["at_ns"]) * 1e-9
    full = (after["bytes"] - before["bytes"]) / FRAME_BYTES
    return min(full, float(after["frames"] - before["frames"])) / elapsed_s
