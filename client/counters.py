"""What this device's network interfaces have carried, by the kernel's own counters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WireCounters:
    """Cumulative, of this network namespace: layer-2 bytes both ways and TCP segments sent again."""

    tx_bytes: int
    rx_bytes: int
    retransmitted_segments: int


def read_counters(proc: Path = Path("/proc/self/net")) -> WireCounters:
    """Sum over all interfaces but the loopback. Bytes include Ethernet, IP and TCP headers and ACKs."""
    received = sent = 0
    for line in (proc / "dev").read_text().splitlines()[2:]:
        name, _, values = line.partition(":")
        if name.strip() != "lo":
            fields = values.split()
            received += int(fields[0])
            sent += int(fields[8])
    titles, counts = (
        line.split()[1:] for line in (proc / "snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    retransmitted = int(counts[titles.index("RetransSegs")])
    return WireCounters(sent, received, retransmitted)
