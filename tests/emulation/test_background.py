"""Background flows: sent when they should be, recorded, and named when they are not what was asked for."""

from __future__ import annotations

from tests.emulation.sandboxed import report

_SETUP = """
    import tempfile
    from pathlib import Path
    from emulation.background import Background, Flow
    folder = Path(tempfile.mkdtemp(prefix="background-"))
    links = [AccessLink(f"dev{i}", LinkSpec(8e6, 0.005), LinkSpec(8e6, 0.005)) for i in range(2)]
"""


def test_flows_are_on_and_off_by_the_clock_and_recorded() -> None:
    found = report(
        _SETUP
        + """
    flows = [
        Flow("dev0", "server", "udp", rate_bps=2e6, active_s=1.0, idle_s=1.0),
        Flow("server", "dev1"),
        Flow("dev0", "dev1", "tcp", rate_bps=0.5e6, start_s=0.5),
    ]
    with Network(links, backend="relay") as network:
        with Background(network, flows, folder) as background:
            quiet = network.counters()[("dev0", "up")].offered_frames
            background.start()
            zero, samples = time.monotonic(), []
            while time.monotonic() < zero + 3:
                time.sleep(0.1)
                carried = network.counters()[("dev0", "up")].offered_bytes
                samples.append((time.monotonic() - zero, carried))
        left = [e for e in os.listdir("/proc") if e.isdigit()
                and b"iperf3" in open(f"/proc/{e}/comm", "rb").read()]
    print(json.dumps([quiet, samples, background.violations(), background.summary(), background.summary(2.0),
                      sorted(os.listdir(folder)), left]))
    """
    )
    quiet, samples, violations, (udp, tcp, limited), (dilated, *_), files, left = found
    assert quiet == 0 and left == []
    assert all("this machine is too slow" in violation for violation in violations)

    def rate_bps(begin_s: float, end_s: float) -> float:
        """Of what dev0 sent."""
        window = [sample for sample in samples if begin_s <= sample[0] <= end_s]
        (first_s, before), (last_s, after) = window[0], window[-1]
        return float(8 * (after - before) / (last_s - first_s))

    # dev0 to dev1 adds 0.5 Mbit/s all the time.
    assert rate_bps(0.3, 0.95) > 1.4e6 and rate_bps(2.3, 2.95) > 1.4e6
    assert rate_bps(1.2, 1.95) < 1.1e6
    assert udp["bursts"] == 2 and 1.2 <= udp["seconds"] <= 2.3
    assert 0.8 * 2e6 <= udp["offered_bps"] <= 1.2 * 2e6
    assert udp["received_bytes"] == udp["sent_bytes"] > 0
    assert tcp["bursts"] == 1 and 4e6 <= tcp["achieved_bps"] <= 8e6 * 1448 / 1514
    assert limited["start_s"] == 0.5 and 0.3e6 <= limited["achieved_bps"] <= 0.7e6
    assert dilated["rate_bps"] == 4e6 and dilated["active_s"] == 0.5
    assert dilated["offered_bps"] == 2 * udp["offered_bps"]
    assert {f"0-dev0-server-{n}-{end}.json" for n in (0, 1) for end in ("client", "server")} <= {*files}


def test_a_flow_that_dies_never_starts_or_never_arrives_is_named() -> None:
    found = report(
        _SETUP
        + """
    from emulation.link import LinkChange
    flows = [Flow("dev0", "server", "udp", 1e6), Flow("server", "dev1", start_s=60), Flow("dev1", "server")]
    with Network(links, backend="relay") as network:
        with Background(network, flows, folder) as background:
            background.start()
            time.sleep(1.0)
            (client,) = [int(e) for e in os.listdir("/proc") if e.isdigit()
                and b"iperf3\\0-4\\0-J\\0-p\\00020000\\0-c" in open(f"/proc/{e}/cmdline", "rb").read()]
            os.kill(client, signal.SIGKILL)
            time.sleep(0.5)
        print(json.dumps(background.violations()))
    """
    )
    assert found == [
        "background udp dev0 -> server: died early: it left no report",
        "background tcp server -> dev1: never sent: the rounds ended before its start at 60 s",
    ]


def test_iperf3_s_own_error_is_passed_on() -> None:
    found = report(
        _SETUP
        + """
    with Network(links, backend="relay") as network:
        with Background(network, [Flow("dev0", "server")], folder) as background:
            inside(network, "dev0", "ip", "link", "set", "dev0-eth0", "down")
            background.start()
            time.sleep(1.0)
        print(json.dumps(background.violations()))
    """
    )
    assert len(found) == 1
    assert found[0].startswith("background tcp dev0 -> server: died early: unable to connect")
