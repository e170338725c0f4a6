"""A real network follows a channel: rates in force, links down and up again."""

from __future__ import annotations

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
