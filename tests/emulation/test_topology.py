"""Real networks, each in a sandbox of its own: what is built is what was asked for, or nothing is."""

from __future__ import annotations

import os

import pytest

from emulation import backend
from emulation.link import AccessLink, LinkError, LinkSpec
from emulation.topologies import builtin
from emulation.topology import GraphTopo, Network
from tests.emulation.sandboxed import report
from tests.nobody import as_nobody

GOOD = LinkSpec(10e6, 0.01)


def test_the_cell_is_a_star_of_named_hosts() -> None:
    topo = GraphTopo(builtin.cell([AccessLink(f"dev{i}", GOOD, GOOD) for i in range(3)]))
    assert topo.hosts() == ["dev0", "dev1", "dev2", "server"]
    assert topo.switches() == ["cell"]
    assert len(topo.links()) == 4
    assert topo.nodeInfo("server")["ip"] == "10.0.0.1/8"
    assert topo.nodeInfo("dev2")["ip"] == "10.0.0.4/8"


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (AccessLink("dev0", LinkSpec(0), GOOD), "dev0 up: rate"),
        (AccessLink("dev0", GOOD, LinkSpec(-1e6)), "dev0 down: rate"),
        (AccessLink("dev0", GOOD, LinkSpec(float("nan"))), "dev0 down: rate"),
        (AccessLink("dev0", GOOD, LinkSpec(1e6, -0.1)), "dev0 down: delay"),
        (AccessLink("dev0", GOOD, LinkSpec(1e6, 0.1, -1)), "dev0 down: jitter"),
        (AccessLink("dev0", LinkSpec(1e6, loss=1.0), GOOD), "dev0 up: loss"),
        (AccessLink("dev0", LinkSpec(1e6, loss=-0.1), GOOD), "dev0 up: loss"),
        (AccessLink("dev0", LinkSpec(1e6, queue_bytes=1000), GOOD), "dev0 up: a queue of 1000 bytes"),
        (AccessLink("dev0", LinkSpec(1e12), GOOD), "dev0 up: 1e"),
        (AccessLink("server", GOOD, GOOD), "'server' cannot name a device"),
        (AccessLink("Device 1", GOOD, GOOD), "'Device 1' cannot name a device"),
        (AccessLink("devicetoolong", GOOD, GOOD), "'devicetoolong' cannot name a device"),
    ],
)
def test_impossible_links_are_refused_by_name(link: AccessLink, words: str) -> None:
    with pytest.raises(LinkError, match=f"^{words}") as refused:
        Network([link], backend="relay")
    assert "\n" not in str(refused.value)


def test_two_devices_of_one_name_are_refused() -> None:
    with pytest.raises(LinkError, match="'dev0' cannot name a device"):
        Network([AccessLink("dev0", GOOD, GOOD)] * 2, backend="relay")


def test_outside_a_sandbox_nothing_is_built() -> None:
    with pytest.raises(LinkError, match=r"emulation\.sandbox"), Network([], backend="relay"):
        pass


def test_unknown_and_unusable_backends_are_one_line() -> None:
    with pytest.raises(LinkError, match="no backend is called 'tbf'"):
        backend.choose("tbf")
    found = backend.probe()
    assert list(found) == ["netem", "relay"]
    assert found["relay"] is None
    assert backend.choose("auto").name == ("relay" if found["netem"] else "netem")
    if found["netem"]:
        assert "\n" not in found["netem"]
        with pytest.raises(LinkError, match="netem: this kernel has no "):
            backend.choose("netem")


def test_hosts_are_pinned_and_reach_each_other_through_the_relay() -> None:
    found = report(
        """
        links = [AccessLink(f"dev{i}", LinkSpec(5e6, 0.01), LinkSpec(20e6, 0.01)) for i in range(2)]
        with Network(links, backend="relay") as network:
            time.sleep(0.3)
            before = {f"{d} {w}": c.offered_frames for (d, w), c in network.counters().items()}
            pings = inside(network, "server", "ping", "-c", "5", "-i", "0.05", network.ip("dev0"))
            after = {f"{d} {w}": dataclasses.asdict(c) for (d, w), c in network.counters().items()}
            used = "print(s.getsockopt(6, 13, 16).split(bytes(1))[0].decode(), flush=True)"
            listen = "import socket; l = socket.create_server(('', 7)); print(1, flush=True)"
            serve = f"{listen}; s, _ = l.accept(); {used}"
            call = f"import socket; s = socket.create_connection(('{network.ip('server')}', 7)); {used}"
            server = subprocess.Popen(
                ["mnexec", "-a", str(network.pid("server")), sys.executable, "-c", serve],
                stdout=subprocess.PIPE, text=True,
            )
            server.stdout.readline()
            client = inside(network, "dev1", sys.executable, "-c", call).strip()
            print(json.dumps({
                "backend": network.backend_name,
                "names": [network.mininet[h].name for h in ("server", "dev0", "dev1")],
                "interface": network.interface("dev1"),
                "settings": network.host_settings,
                "pings": pings, "before": before, "after": after,
                "neighbours": inside(network, "server", "ip", "neigh"),
                "ipv6": inside(network, "dev0", "ip", "-6", "addr"),
                "congestion": [client, server.communicate()[0].strip()],
                "features": inside(network, "dev0", "ethtool", "-k", "dev0-eth0"),
                "violations": network.violations(),
            }))
        """
    )
    assert found["backend"] == "relay"
    assert found["interface"] == "dev1-eth0"
    assert set(found["settings"]) == {"server", "dev0", "dev1"}
    for settings in found["settings"].values():
        assert settings["net.ipv4.tcp_congestion_control"] == "cubic"
        assert settings["net.ipv4.tcp_no_metrics_save"] == "1"
        assert settings["net.ipv4.tcp_slow_start_after_idle"] == "0"
        assert settings["net.ipv6.conf.all.disable_ipv6"] == "1"
        assert int(settings["net.ipv4.tcp_rmem"].split()[2]) >= 4 * 20e6 * 0.02 / 8
    assert found["congestion"] == ["cubic", "cubic"]
    assert found["pings"].count("bytes from") == 5
    assert found["neighbours"].count("PERMANENT") == 2
    assert found["ipv6"] == ""
    assert "tcp-segmentation-offload: off" in found["features"]
    assert "generic-segmentation-offload: off" in found["features"]
    # Five echoes each way on dev0's link and not one frame of them on dev1's: nothing is flooded.
    for way in ("dev0 up", "dev0 down"):
        assert found["after"][way]["delivered_frames"] - found["before"][way] == 5
        assert found["after"][way]["delivered_bytes"] >= 5 * 98
    for way in ("dev1 up", "dev1 down"):
        assert found["after"][way]["offered_frames"] == found["before"][way]
    assert found["violations"] == []


def test_rtts_add_up_over_the_hops_and_other_links_carry_nothing() -> None:
    """A ring of three access points, dev0 at ap1 and dev1 at ap2: by delay dev0's way is over ap2."""
    found = report(
        """
        from emulation.topologies.builtin import mesh
        def link(name, delay_s):
            return AccessLink(name, LinkSpec(20e6, delay_s), LinkSpec(20e6, delay_s))
        radios = [
            ("ap1", "ap0", link("ap1-ap0", 0.05)),
            ("ap2", "ap1", link("ap2-ap1", 0.004)),
            ("ap2", "ap0", link("ap2-ap0", 0.006)),
        ]
        graph = mesh(radios, [("ap1", link("dev0", 0.01)), ("ap2", link("dev1", 0.02))], gateway="ap0")
        def carried(network, before={}):
            now = {f"{d} {w}": c.delivered_frames for (d, w), c in network.counters().items()}
            return {way: count - before.get(way, 0) for way, count in now.items()}
        def ping(network, source, destination):
            before = carried(network)
            address = network.ip(destination)
            said = inside(network, source, "ping", "-c", "4", "-i", "0.1", address)
            return float(said.split("rtt ")[1].split("= ")[1].split("/")[0]), carried(network, before)
        with Network(graph, backend="relay") as network:
            answers = {
                f"{a} {b}": ping(network, a, b)
                for a, b in (("dev0", "server"), ("server", "dev0"), ("dev1", "server"), ("dev0", "dev1"))
            }
            probes = {}
            for name in ("ap1-ap0", "dev0", "ap2-ap0"):
                link = next(link for link in network.links if link.device == name)
                ends = network.ends(link)
                probes[name] = (ends, ping(network, *ends), network.ends(link) == ends)
            before = carried(network)
            # To everyone (who has 10.0.0.99?), and to a host that nobody has heard of.
            stranger = "ip neigh replace 10.0.0.98 lladdr 02:00:00:00:09:09 dev dev0-eth0; ping -c 1 -W 0.2 "
            for lost in ("ping -c 1 -W 0.2 10.0.0.99", f"{stranger} 10.0.0.98"):
                inside(network, "dev0", "sh", "-c", f"{lost}; true")
            strays = {way for way, count in carried(network, before).items() if count}
            print(json.dumps([answers, sorted(strays), probes, list(network.interfaces())]))
        """
    )
    answers, strays, probes, interfaces = found
    assert strays == ["dev0 up"]  # Nothing is flooded, or a ring would carry it round and round.
    expected_ms = {"dev0 server": 40, "server dev0": 40, "dev1 server": 52, "dev0 dev1": 68}
    over = {
        "dev0 server": {"dev0", "ap2-ap1", "ap2-ap0"},
        "server dev0": {"dev0", "ap2-ap1", "ap2-ap0"},
        "dev1 server": {"dev1", "ap2-ap0"},
        "dev0 dev1": {"dev0", "ap2-ap1", "dev1"},
    }
    for pair, (least_ms, carried) in answers.items():
        assert expected_ms[pair] - 0.2 <= least_ms <= expected_ms[pair] + 3, pair
        # Four echoes each way; between devices also a question for the other's address, on their own link.
        counts = {way: 4 if way.split()[0] in over[pair] else 0 for way in carried}
        asked = {"dev0 up", "dev0 down", "dev1 up", "dev1 down"} if pair == "dev0 dev1" else set()
        assert {way for way, count in carried.items() if count != counts[way]} <= asked, pair
        assert all(0 <= count - counts[way] <= 1 for way, count in carried.items()), pair
    # Calibration's view: the slow link is measured by itself though nobody's way is over it.
    (ends, (least_ms, carried), again) = probes["ap1-ap0"]
    assert not {*ends} & {"server", "dev0", "dev1"} and again
    assert 99.8 <= least_ms <= 103
    assert {way for way, count in carried.items() if count} == {"ap1-ap0 up", "ap1-ap0 down"}
    (ends, (least_ms, carried), _) = probes["dev0"]
    assert ends[0] == "dev0" and 19.8 <= least_ms <= 23
    assert {way for way, count in carried.items() if count} == {"dev0 up", "dev0 down"}
    assert 11.8 <= probes["ap2-ap0"][1][0] <= 15
    assert {"server-eth0", "ap0-eth1", "dev1-eth0"} <= {*interfaces}


def test_tcp_s_settings_are_pinned_per_host_and_read_back() -> None:
    found = report(
        """
        from emulation.tcp import Tcp
        links = [AccessLink(f"dev{i}", LinkSpec(5e6, 0.01), LinkSpec(5e6, 0.01)) for i in range(2)]
        own = Tcp("reno", slow_start_after_idle=True, buffer_bytes=65536, ecn="request", sack=False,
                  initial_window=4, rto_min_s=0.05)
        slow = Tcp(rto_min_s=1.8)  # From 1 s on, ip-route(8) shows seconds.
        with Network(links, backend="relay", tcp_of={"dev1": own, "server": slow}) as network:
            routes = {host: inside(network, host, "ip", "route") for host in ("dev0", "dev1")}
            print(json.dumps([network.host_settings, routes]))
        """
    )
    settings, routes = found
    assert settings["server"] == settings["dev0"] | {"route rto_min": "1.8s"}
    changed = {key: value for key, value in settings["dev1"].items() if settings["dev0"].get(key) != value}
    assert changed == {
        "net.ipv4.tcp_congestion_control": "reno",
        "net.ipv4.tcp_slow_start_after_idle": "1",
        "net.ipv4.tcp_ecn": "1",
        "net.ipv4.tcp_sack": "0",
        "net.ipv4.tcp_rmem": "4096 65536 65536",
        "net.ipv4.tcp_wmem": "4096 65536 65536",
        "route initcwnd": "4",
        "route initrwnd": "4",
        "route rto_min": "50ms",
    }
    assert "rto_min lock 50ms" in routes["dev1"] and "initcwnd 4" in routes["dev1"]
    assert "rto_min" not in routes["dev0"]


def test_a_dead_relay_is_a_violation_and_its_links_are_down() -> None:
    found = report(
        """
        with Network([AccessLink("dev0", LinkSpec(5e6), LinkSpec(5e6))], backend="relay") as network:
            healthy = network.violations()
            (relay,) = [int(e) for e in os.listdir("/proc") if e.isdigit()
                and b"emulation.relay\\0carry" in open(f"/proc/{e}/cmdline", "rb").read()]
            os.kill(relay, signal.SIGKILL)
            time.sleep(0.2)
            interfaces = inside(network, "dev0", "ip", "-o", "link")
            print(json.dumps([healthy, network.violations(), interfaces]))
        """
    )
    assert found[0] == []
    assert found[1] == ["the relay died with status -9"]
    assert "dev0-eth0" not in found[2]


def test_an_unknown_congestion_control_says_what_there_is() -> None:
    found = report(
        """
        from emulation.tcp import Tcp
        try:
            with Network([], backend="relay", tcp=Tcp(congestion_control="fax")):
                pass
        except LinkError as error:
            print(json.dumps(str(error)))
        """
    )
    assert found.startswith("congestion control 'fax' is not among ")
    assert "modprobe tcp_fax" in found


@pytest.mark.skipif(
    os.geteuid() != 0, reason="root is needed to play an ordinary user with another /dev/net/tun"
)
@pytest.mark.parametrize("mode", ["666", "600"])
def test_an_ordinary_user_gets_a_network_or_the_name_of_what_is_in_the_way(mode: str) -> None:
    code = """
        try:
            links = [AccessLink("dev0", LinkSpec(5e6, 0.01), LinkSpec(5e6, 0.01))]
            with Network(links, backend="relay") as n:
                ping = inside(n, "server", "ping", "-c", "3", "-i", "0.1", n.ip("dev0"))
                print(json.dumps([ping.count("bytes from"), n.host_settings["dev0"]]))
        except LinkError as error:
            print(json.dumps(str(error)))
        """
    found = report(code, prefix=as_nobody(mode))
    if mode == "600":
        assert found.startswith("relay: /dev/net/tun cannot be opened")
        assert "chmod 666 /dev/net/tun" in found
    else:
        assert found[0] == 3
        assert found[1]["net.ipv4.tcp_congestion_control"] == "cubic"
