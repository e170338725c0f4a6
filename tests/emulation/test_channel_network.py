"""A real network follows a channel: rates in force, links down and up again."""

from __future__ import annotations

import pytest

from tests.emulation.sandboxed import report

CODE = """
import threading
from emulation.channel_driver import ChannelDriver
from emulation.mobility import Way
from tests.emulation.channels import small_channel

# dev0 stands still; dev1 is at the cell, out of everybody's range for a while, and back.
away = Way([(0, 100, 200), (1.0, 100, 200), (1.1, 4900, 200), (5.0, 4900, 200), (5.1, 100, 200)])
ways = [Way([(0, 200, 200)]), away]
calm = {"fading": None, "shadowing_db": 0.0, "line_of_sight": False, "cells_m": [(100.0, 200.0)]}
channel = small_channel(ways=ways, **calm)
states, reached = [], {0.0: threading.Event(), 2.0: threading.Event(), 6.0: threading.Event()}

def record(command):
    states.append(command.state)
    for time_s, event in reached.items():
        if command.state.time_s >= time_s - 1e-9:
            event.set()

def answers(network, device):
    ip = network.ip("server")
    ping = ["mnexec", "-a", str(network.pid(device)), "ping", "-c", "1", "-W", "1", ip]
    return subprocess.run(ping, capture_output=True).returncode == 0

spec = LinkSpec(1e6, 0.005)
links = [AccessLink(device, up=spec, down=spec) for device in ("dev0", "dev1")]
seen = {}
with Network(links) as network, ChannelDriver(channel, network, ["dev0", "dev1"], record) as driver:
    for time_s, event in reached.items():
        assert event.wait(20)
        seen[time_s] = [answers(network, device) for device in ("dev0", "dev1")]
    in_force = network.in_force()
print(json.dumps({
    "answers": list(seen.values()),
    "up": [state.up.all(axis=1).tolist() for state in states],
    "in_force": [in_force["dev0", way].rate_bps for way in ("down", "up")],
    "rate": states[-1].rate_bps[0].tolist(),
    "failures": [line for line in driver.violations() if "stood still" in line],
}))
"""


def test_links_go_down_and_come_back_with_their_rates() -> None:
    found = report(CODE)
    assert found["failures"] == []
    assert found["answers"] == [[True, True], [True, False], [True, True]]
    assert found["in_force"] == found["rate"]
    assert [True, False] in found["up"] and found["up"][0] == found["up"][-1] == [True, True]


SHARED = """
import threading
from emulation.agents import Agents
from emulation.channel_driver import ChannelDriver
from emulation.link import Air
from emulation.mobility import Way
from tests.emulation.channels import CELLS, small_channel

# Each at its cell; after a second and a half dev1 goes over to dev0's, within a tenth of one.
moves = Way([(0, *CELLS[1]), (1.5, *CELLS[1]), (1.6, *CELLS[0]), (9.0, *CELLS[0])])
calm = {"fading": None, "shadowing_db": 0.0, "line_of_sight": True}
channel = small_channel(ways=[Way([(0, *CELLS[0])]), moves], **calm)
begun, over, done = (threading.Event() for _ in range(3))
cells, commands = [], []

def record(command):
    cells.append(command.state.cell.tolist())
    commands.append(command)
    if command.state.time_s > 0.2: begun.set()
    if command.state.cell[1] == 0 and command.state.up.all(): over.set()

airs = (Air("cell 0"), Air("cell 1"))
spec = LinkSpec(2e6, 0.005, queue_bytes=256 * 1514)
links = [AccessLink(f"dev{n}", spec, spec, airs[n], airs) for n in range(2)]
devices = ["dev0", "dev1"]

def carried(network, seconds):
    # Bit/s up of both, of their backlog.
    before, start = network.counters(), time.monotonic()
    time.sleep(seconds)
    after, took = network.counters(), time.monotonic() - start
    return [8 * (after[d, "up"].delivered_bytes - before[d, "up"].delivered_bytes) / took for d in devices]

with (
    Network(links, backend="relay") as network,
    Agents() as agents,
    ChannelDriver(channel, network, devices, record, airs=airs),
):
    assert begun.wait(20)
    flows = []
    for device in devices:
        ends = [(host, network.pid(host), network.ip(host)) for host in (device, "server")]
        sender, receiver = (agents.start(*end) for end in ends)
        port = receiver.ask("listen")["port"]
        bps = network.in_force()[device, "up"].rate_bps
        receiver.begin("collect", quiet_s=0.6)
        sender.begin("saturate", host=receiver.ip, port=port, frame_bytes=1514, rate_bps=1.2 * bps,
                     link_bps=bps, queue_bytes=spec.queue_bytes, preload=250, duration_s=4.0)
        flows.append((sender, receiver))
    time.sleep(0.2)
    assert not over.is_set()
    apart = carried(network, 0.5)
    assert over.wait(20)
    time.sleep(0.3)
    together = carried(network, 1.0)
    rates = [network.in_force()[device, "up"].rate_bps for device in devices]
    for sender, receiver in flows:
        sender.end()
        receiver.hurry()
        receiver.end()
print(json.dumps({"cells": [list(pair) for pair in sorted(set(map(tuple, cells)))], "rates": rates,
                  "apart": apart, "together": together}))
"""


def test_a_device_handed_over_shares_the_airtime_of_its_new_cell() -> None:
    found = report(SHARED)
    assert found["cells"] == [[0, 0], [0, 1]]
    assert found["apart"] == [pytest.approx(rate, rel=0.1) for rate in found["rates"]]
    assert found["together"] == [pytest.approx(rate / 2, rel=0.1) for rate in found["rates"]]
