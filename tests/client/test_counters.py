"""The wire's own account: the kernel's counters, read where the device lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.counters import WireCounters, read_counters

# Captured on a device's host in a run: its one interface, the loopback, and an idle tunnel.
DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  980304    4021    0    0    0     0          0         0   980304    4021    0    0    0     0       0          0
dev0-eth0: 3413520    2380    0    0    0     0          0         0   222134    1633    0    0    0     0       0          0
  tun1:       7       1    0    0    0     0          0         0       11       1    0    0    0     0       0          0
"""  # noqa: E501
SNMP = """\
Ip: Forwarding DefaultTTL InReceives
Ip: 2 64 6035
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 5 2 0 0 1 6033 5651 17 0 3 0
Udp: InDatagrams NoPorts InErrors
Udp: 4 0 0
"""  # noqa: E501


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "dev").write_text(DEV)
    (tmp_path / "snmp").write_text(SNMP)
    return tmp_path


def test_interfaces_are_summed_without_the_loopback(proc: Path) -> None:
    """Receive is the first column, transmit the ninth."""
    assert read_counters(proc) == WireCounters(
        tx_bytes=222_134 + 11, rx_bytes=3_413_520 + 7, retransmitted_segments=17
    )


def test_a_column_that_a_newer_kernel_adds_moves_nothing(proc: Path) -> None:
    """Retransmissions are found by their title."""
    snmp = SNMP.replace("RtoAlgorithm", "NewThing RtoAlgorithm").replace("Tcp: 1 200", "Tcp: 999 1 200")
    (proc / "snmp").write_text(snmp)
    assert read_counters(proc).retransmitted_segments == 17


def test_a_number_that_touches_its_interfaces_name_is_read(proc: Path) -> None:
    """Old kernels print no space after the colon once a counter has grown to eight digits."""
    (proc / "dev").write_text(DEV.replace("dev0-eth0: 3413520", "dev0-eth0:93413520"))
    assert read_counters(proc).rx_bytes == 93_413_520 + 7


def test_a_machine_with_only_a_loopback_has_sent_nothing(proc: Path) -> None:
    (proc / "dev").write_text(
        "".join(line for line in DEV.splitlines(True) if "eth0" not in line and "tun" not in line)
    )
    assert read_counters(proc) == WireCounters(0, 0, 17)


def test_this_machines_own_counters_are_readable_and_never_run_backwards() -> None:
    first, second = read_counters(), read_counters()
    assert 0 <= first.tx_bytes <= second.tx_bytes
    assert 0 <= first.rx_bytes <= second.rx_bytes
    assert 0 <= first.retransmitted_segments <= second.retransmitted_segments
