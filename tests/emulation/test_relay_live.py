"""Real frames through the relay: links that change under way, duplicates and damage, shared air, a trace."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from tests.emulation.sandboxed import report

_TOOLS = """
import threading
from concurrent.futures import ThreadPoolExecutor
from emulation.agents import Agents
from emulation.link import Air, LinkChange, Trace

agents = Agents().__enter__()  # They end with this process.

class Flow:
    \"\"\"Frames from a device to the server: [sequence, sent, received] each, times in ns.\"\"\"
    def __init__(self, network, device):
        self.sender, self.receiver = (
            agents.start(host, network.pid(host), network.ip(host)) for host in (device, "server")
        )
    def __call__(self, job, damaged=False, **request):
        port = self.receiver.ask("listen")["port"]
        self.receiver.begin("collect", quiet_s=0.6)
        self.sent = self.sender.ask(job, host=self.receiver.ip, port=port, **request)
        self.receiver.hurry()
        answer = self.receiver.end()
        assert damaged or answer["overruns"] == 0  # The kernel counts wrong checksums among them.
        return answer["frames"]

def flood(rate, seconds, queue):
    return dict(job="saturate", frame_bytes=1514, rate_bps=1.2 * rate, link_bps=rate, queue_bytes=queue,
                preload=queue // 1514 - 4, duration_s=seconds)

def rate(frames, since, until):
    times = sorted(received for _, _, received in frames if since <= received <= until)
    return 8e9 * 1514 * (len(times) - 1) / (times[-1] - times[0])

def conserves(count):
    return count["offered_frames"] + count["duplicated"] == sum(
        count[k] for k in ("delivered_frames", "drops_queue", "drops_aqm", "drops_loss", "drops_device"))
"""


def live(code: str) -> Any:
    return report(_TOOLS + textwrap.dedent(code))


def test_rate_and_outage_under_a_flood_keep_the_backlog() -> None:
    found = live(
        """
        spec = LinkSpec(10e6, 0.01, queue_bytes=60 * 1514)
        links, pool = [AccessLink("dev0", spec, spec)], ThreadPoolExecutor()
        with Network(links, backend="relay") as network, pool:
            up, change = ("dev0", "up"), network._backend.change
            flow, marks = Flow(network, "dev0"), []
            frames = pool.submit(lambda: flow(**flood(10e6, 2.6, spec.queue_bytes)))
            for pause, what in ((0.9, LinkChange(rate_bps=4e6)), (0.7, LinkChange(up=False)),
                                (0.4, LinkChange(up=True)), (0.3, LinkChange(rate_bps=10e6))):
                time.sleep(pause)
                change(up, what)
                marks.append(time.time_ns())
            frames, count = frames.result(), network.counters()[up]
            arrived = [(received, number) for number, _, received in frames]
            before = [n for t, n in arrived if t < marks[1] + 2e7]
            silent = [n for t, n in arrived if marks[1] + 2e7 <= t < marks[2]]
            after = [n for t, n in arrived if t >= marks[2]]
            print(json.dumps({
                "rates": [rate(frames, marks[0] - 3e8, marks[0]), rate(frames, marks[0] + 1e8, marks[1]),
                          rate(frames, marks[2] + 1e8, marks[3])],
                "silent": silent, "joint": [before[-1], after[0]], "sorted": arrived == sorted(arrived),
                "conserved": conserves(dataclasses.asdict(count)), "lost": count.drops_loss,
            }))
        """
    )
    assert found["rates"] == [pytest.approx(rate, rel=0.1) for rate in (10e6, 4e6, 4e6)]
    assert found["silent"] == [] and found["sorted"]
    # What was half sent, and what waited, when the outage began is what comes after it: of three frames
    # offered one gets into the full queue, and in 0.4 s without a queue some 400 would be missing.
    assert found["joint"][1] - found["joint"][0] <= 6
    assert found["conserved"] and found["lost"] == 0


def test_delay_and_loss_change_while_others_ask_for_counters() -> None:
    found = live(
        """
        spec = LinkSpec(10e6, 0.005, loss_burst=3.0)
        with Network([AccessLink("dev0", spec, spec)], backend="relay") as network:
            up, change, flow = ("dev0", "up"), network._backend.change, Flow(network, "dev0")
            found, asked = {}, []
            for name, what in (("first", LinkChange()), ("far", LinkChange(delay_s=0.05)),
                               ("lossy", LinkChange(loss=0.4)), ("clean", LinkChange(loss=0.0))):
                change(up, what)
                frames = flow("pace", at_once=1, frame_bytes=60, count=200, interval_s=0.002)
                delays = sorted(received - sent for _, sent, received in frames)
                found[name] = [len(frames), delays[len(delays) // 2] * 1e-9]
            def ask():
                while len(asked) < 200: asked.append(network.counters()[up].offered_frames)
            asking = threading.Thread(target=ask)
            asking.start()
            for i in range(2000): change(up, LinkChange(rate_bps=1e6 + i))
            asking.join()
            found["asked"] = [len(asked), asked == sorted(asked)]
            found["conserved"] = conserves(dataclasses.asdict(network.counters()[up]))
            found["loss"] = network.counters()[up].drops_loss
            print(json.dumps(found))
        """
    )
    assert found["first"][0] == found["far"][0] == found["clean"][0] == 200
    assert found["first"][1] == pytest.approx(0.005, abs=0.002)
    assert found["far"][1] == pytest.approx(0.05, abs=0.002)
    assert 60 <= found["lossy"][0] <= 170 and found["loss"] == 200 - found["lossy"][0]
    assert found["asked"][0] >= 200 and found["asked"][1] and found["conserved"]


def test_duplicates_and_damage_are_seen_by_the_receiver() -> None:
    found = live(
        """
        spec = LinkSpec(10e6, 0.005, duplicate=0.2, corrupt=0.2)
        with Network([AccessLink("dev0", spec, LinkSpec(10e6))], backend="relay", seed=3) as network:
            def udp():
                lines = inside(network, "server", "cat", "/proc/net/snmp").splitlines()
                names, values = [line.split()[1:] for line in lines if line.startswith("Udp:")]
                return int(dict(zip(names, values))["InCsumErrors"])
            flow, before = Flow(network, "dev0"), udp()
            frames = flow("pace", damaged=True, at_once=1, frame_bytes=200, count=1000, interval_s=0.001)
            count = dataclasses.asdict(network.counters()["dev0", "up"])
            print(json.dumps({
                "count": count, "conserved": conserves(count), "checksum": udp() - before,
                "received": len(frames), "distinct": len({number for number, *_ in frames}),
            }))
        """
    )
    count = found["count"]
    assert count["duplicated"] == pytest.approx(200, abs=45)
    assert count["corrupted"] == pytest.approx(240, abs=50)
    assert found["conserved"] and count["delivered_frames"] == 1000 + count["duplicated"]
    # Every flipped bit is caught, by the checksum of IP or of UDP, and nothing else is missing.
    assert found["received"] == count["delivered_frames"] - count["corrupted"]
    assert 100 < found["checksum"] <= count["corrupted"]
    assert found["distinct"] < min(found["received"], 1000)


def test_two_floods_share_the_air_and_the_last_has_it_all_while_a_trace_keeps_its_own() -> None:
    found = live(
        """
        spec, air = LinkSpec(8e6, 0.005, queue_bytes=48 * 1514), Air("cell")
        traced = LinkSpec(6.056e6, 0.005, queue_bytes=48 * 1514, trace=Trace("two", (2,)))
        links = [AccessLink("dev0", spec, spec, air), AccessLink("dev1", spec, spec, air),
                 AccessLink("dev2", traced, spec)]
        with Network(links, backend="relay") as network, ThreadPoolExecutor() as pool:
            flows = [Flow(network, f"dev{i}") for i in range(3)]
            for _ in range(3):  # A sender that was held up left its link idle: it measures the machine.
                frames = list(pool.map(lambda flow, job: flow(**job), flows,
                    [flood(8e6, 2.4, spec.queue_bytes), flood(8e6, 1.2, spec.queue_bytes),
                     flood(6.056e6, 1.2, spec.queue_bytes)]))
                if max(flow.sent["idle_s"] for flow in flows) < 0.02: break
            first = max(f[0][2] for f in frames)
            ends = [f[-1][2] for f in frames]
            print(json.dumps({
                "shared": [rate(f, first + 2e8, ends[1] - 1e8) for f in frames],
                "alone": rate(frames[0], ends[1] + 1e8, ends[0] - 1e8),
                "idle": [flow.sent["idle_s"] for flow in flows],
                "conserved": [conserves(dataclasses.asdict(count)) for count in network.counters().values()],
            }))
        """
    )
    assert found["shared"] == [pytest.approx(rate, rel=0.08) for rate in (4e6, 4e6, 6.056e6)]
    assert found["alone"] == pytest.approx(8e6, rel=0.08)
    assert all(found["conserved"])


def test_links_that_move_into_one_air_share_it_until_they_part_and_lose_nothing() -> None:
    found = live(
        """
        spec, airs = LinkSpec(8e6, 0.005, queue_bytes=48 * 1514), (Air("west"), Air("east"))
        links = [AccessLink(f"dev{i}", spec, spec, airs[i], airs) for i in range(2)]
        with Network(links, backend="relay") as network, ThreadPoolExecutor() as pool:
            flows = [Flow(network, f"dev{i}") for i in range(2)]
            for _ in range(3):  # A sender that was held up left its link idle: it measures the machine.
                sent = [pool.submit(flow, **flood(8e6, 3.0, spec.queue_bytes)) for flow in flows]
                marks = []
                for pause, air in ((0.9, airs[0]), (1.0, airs[1])):
                    time.sleep(pause)
                    network.change("dev1", "up", LinkChange(air=air))
                    marks.append(time.time_ns())
                frames = [future.result() for future in sent]
                if max(flow.sent["idle_s"] for flow in flows) < 0.02: break
            spans = [(marks[0] - 5e8, marks[0]), (marks[0] + 1e8, marks[1]), (marks[1] + 1e8, marks[1] + 6e8)]
            numbers = [[number for number, *_ in f] for f in frames]
            print(json.dumps({
                "rates": [[rate(f, *span) for f in frames] for span in spans],
                "sorted": [n == sorted(set(n)) for n in numbers],
                "conserved": [conserves(dataclasses.asdict(count)) for count in network.counters().values()],
                "lost": [count.drops_loss + count.drops_device for count in network.counters().values()],
            }))
        """
    )
    assert found["rates"] == [[pytest.approx(bps, rel=0.08)] * 2 for bps in (8e6, 4e6, 8e6)]
    assert all(found["sorted"]) and all(found["conserved"]) and not any(found["lost"])
