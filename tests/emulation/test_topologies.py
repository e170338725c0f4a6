"""Graphs of networks: the ways that frames take, and one clear line for what cannot be built."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.link import AccessLink, LinkError, LinkSpec
from emulation.topologies import builtin, custom
from emulation.topologies.graph import SERVER, Edge, Graph, TopologyError

EXAMPLES = Path(__file__).parents[2] / "experiments" / "topologies"


def link(name: str, delay_s: float = 0.01, rate_bps: float = 10e6) -> AccessLink:
    return AccessLink(name, LinkSpec(rate_bps, delay_s), LinkSpec(rate_bps, delay_s))


def ring(*delays_s: float, routing: str = "delay") -> Graph:
    """Access points ap0, ap1, ... in a ring, each one's link to the next with its delay; a device at each."""
    count = len(delays_s)
    radios = []
    for i, delay_s in enumerate(delays_s):
        lower, upper = f"ap{i}", f"ap{(i + 1) % count}"
        radios.append((lower, upper, link(f"{lower}-{upper}", delay_s)))
    devices = [(f"ap{i}", link(f"dev{i}")) for i in range(count)]
    return builtin.mesh(radios, devices, gateway="ap0", routing=routing)  # type: ignore[arg-type]


def nodes_between(graph: Graph, source: str, destination: str) -> list[str]:
    nodes = [source]
    while nodes[-1] != destination:
        nodes.append(graph.next_edge(nodes[-1], destination).other(nodes[-1]))
        assert len(nodes) <= len(graph.nodes), "a loop"
    return nodes


def test_the_way_is_the_shortest_by_delay_or_by_hops() -> None:
    delays_s = (0.001, 0.001, 0.001, 0.05)  # ap3 to ap0 is one hop and slow
    by_delay, by_hops = ring(*delays_s), ring(*delays_s, routing="hops")
    assert nodes_between(by_delay, "dev3", SERVER) == ["dev3", "ap3", "ap2", "ap1", "ap0", SERVER]
    assert nodes_between(by_hops, "dev3", SERVER) == ["dev3", "ap3", "ap0", SERVER]
    assert by_delay.access("dev3").up.delay_s == pytest.approx(0.01 + 0.003)
    assert by_hops.access("dev3").down.delay_s == pytest.approx(0.01 + 0.05)


def test_each_direction_takes_its_own_shortest_way() -> None:
    lopsided = AccessLink("ap1-ap0", LinkSpec(1e7, 0.05), LinkSpec(1e7, 0.001))
    radios = [("ap1", "ap0", lopsided), ("ap1", "ap2", link("ap1-ap2")), ("ap2", "ap0", link("ap2-ap0"))]
    graph = builtin.mesh(radios, [("ap1", link("dev0"))], gateway="ap0")
    assert nodes_between(graph, "dev0", SERVER) == ["dev0", "ap1", "ap2", "ap0", SERVER]
    assert nodes_between(graph, SERVER, "dev0") == [SERVER, "ap0", "ap1", "dev0"]


def test_a_device_s_access_is_its_whole_way() -> None:
    backhaul = AccessLink("edge0", LinkSpec(3e6, 0.02, 0.003, 0.1), LinkSpec(5e7, 0.02))
    last = AccessLink("dev0", LinkSpec(1e7, 0.01, 0.004, 0.1), LinkSpec(2e7, 0.01))
    access = builtin.multicell([backhaul], [("edge0", last)]).access("dev0")
    assert (access.up.rate_bps, access.up.delay_s, access.up.loss) == (3e6, 0.03, pytest.approx(0.19))
    assert access.up.jitter_s == pytest.approx(0.005)
    assert (access.down.rate_bps, access.down.delay_s) == (2e7, 0.03)
    assert builtin.cell([last]).access("dev0") == last


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from([0.0, 0.001, 0.002, 0.1])),
        max_size=20,
    ),
    st.sampled_from(["delay", "hops"]),
)
def test_every_pair_has_a_way_without_loops_and_none_is_shorter(
    more: list[tuple[int, int, float]], routing: str
) -> None:
    """Against Floyd and Warshall, on random graphs that a chain of zero delay keeps connected."""
    pairs = {(i + 1, i): 0.0 for i in range(7)}
    for a, b, delay_s in more:
        if a != b and (a, b) not in pairs and (b, a) not in pairs:
            pairs[a, b] = delay_s
    radios = [(f"ap{a}", f"ap{b}", link(f"ap{a}-ap{b}", delay)) for (a, b), delay in pairs.items()]
    devices = [(f"ap{i}", link(f"dev{i}", 0.0)) for i in range(8)]
    graph = builtin.mesh(radios, devices, gateway="ap0", routing=routing)  # type: ignore[arg-type]
    cost = {(a, b): 0.0 if a == b else float("inf") for a in range(8) for b in range(8)}
    for (a, b), delay_s in pairs.items():
        cost[a, b] = cost[b, a] = delay_s if routing == "delay" else 1.0
    for k, a, b in itertools.product(range(8), repeat=3):
        cost[a, b] = min(cost[a, b], cost[a, k] + cost[k, b])
    for a, b in itertools.product(range(8), repeat=2):
        if a != b:
            nodes = nodes_between(graph, f"dev{a}", f"dev{b}")
            total = sum(s.delay_s for s in graph.path(f"dev{a}", f"dev{b}"))
            assert (total if routing == "delay" else len(nodes) - 3) == pytest.approx(cost[a, b])


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: builtin.multicell([link("edge0")], [("edge1", link("dev0"))]), "dev0 is at edge1, which is"),
        (lambda: builtin.multicell([link("edge0")] * 2, [("edge0", link("dev0"))]), "edge0.* linked twice"),
        (lambda: builtin.multicell([link("anedgenode")], []), "'anedgenode' cannot name a switch"),
        (lambda: builtin.multicell([link("dev0")], [("dev0", link("dev0"))]), "'dev0' cannot name a device"),
        (lambda: builtin.mesh([("a", "b", link("a-b"))], [], gateway="c"), "gateway c: no radio link ends"),
        (lambda: builtin.mesh([("a", "a", link("a-a"))], [], gateway="a"), "a is linked to itself"),
        (
            lambda: builtin.mesh([("a", "b", link("a-b")), ("c", "d", link("c-d"))], [], gateway="a"),
            "c is not connected to server",
        ),
        (
            lambda: builtin.mesh([("a", "b", link("a-b")), ("b", "c", link("a-b"))], [], gateway="a"),
            "two links are called a-b",
        ),
        (lambda: Graph(("dev0",), ("s1",), (Edge(SERVER, "s1"),)), "dev0 has 0 links"),
        (
            lambda: Graph(("dev0",), ("s1",), (Edge(SERVER, "s1"), Edge("dev0", "s1"))).access("dev0"),
            "dev0 reaches server over plain wires only",
        ),
        (lambda: Graph(("dev0",), (), (Edge("dev0", SERVER),)), "without a switch between"),
    ],
)
def test_what_cannot_be_built_is_one_line(build, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TopologyError, match=says) as refused:
        build()
    assert "\n" not in str(refused.value)


# A user's own file.


def write(folder: Path, body: str, name: str = "topos = {'mine': Mine}") -> Path:
    """A file whose Mine.build is `body`; s1, server and dev0 are there, and dev0's link is."""
    lines = "\n        ".join(body.splitlines())
    file = folder / "mine.py"
    file.write_text(
        f"""
from mininet.link import Link, TCLink
from mininet.topo import Topo
class Mine(Topo):
    def build(self, count=1):
        self.addSwitch('s1')
        self.addLink(self.addHost('server'), 's1')
        self.addHost('dev0')
        {lines}
{name}
"""
    )
    return file


def load(file: Path, devices: int = 1) -> Graph:
    return custom.load(f"{file}:mine", [f"dev{n}" for n in range(devices)])


FINE = "self.addLink('dev0', 's1', bw=10)"
S2 = "self.addSwitch('s2')\n"


def test_tclink_s_options_become_links(tmp_path: Path) -> None:
    graph = load(
        write(
            tmp_path,
            f"{S2}self.addLink('s1', 's2', cls=TCLink, bw=0.5, delay='20ms', jitter='2000us', loss=1.5)\n"
            "self.addLink('s2', 'dev0', bw=8, max_queue_size=40, params1={'delay': '0.5s'}, "
            "params2={'delay': '1ms'})",
        )
    )
    between, access = graph.links[1], graph.links[0]
    assert (between.device, access.device) == ("s2-s1", "dev0")
    assert between.up == between.down == LinkSpec(0.5e6, 0.02, 0.002, 0.015, 1000 * 1514, queue_frames=1000)
    # params1 is for what the first node, s2, sends: dev0's downlink.
    assert access.down == LinkSpec(8e6, 0.5, queue_bytes=40 * 1514, queue_frames=40)
    assert access.up == LinkSpec(8e6, 0.001, queue_bytes=40 * 1514, queue_frames=40)


def test_arguments_reach_the_user_s_topology_as_with_mn(tmp_path: Path) -> None:
    body = (
        "for n in range(1, count):\n    self.addLink(self.addHost(f'dev{n}'), 's1', bw=1)\n"
        "self.addLink('dev0', 's1', bw=1)"
    )
    file = write(tmp_path, body)
    for call in ("mine,3", "mine,count=3"):
        assert custom.load(f"{file}:{call}", ["dev0", "dev1", "dev2"]).devices == ("dev0", "dev1", "dev2")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("self.addLink('dev0', 's1', bw=10, delay=5)", "link dev0: delay=5 has no unit .* '5ms'"),
        ("self.addLink('dev0', 's1', bw=10, delay='5')", "link dev0: delay='5' has no unit"),
        ("self.addLink('dev0', 's1', bw=10, delay='5 parsec')", "delay='5 parsec' has no unit"),
        ("self.addLink('dev0', 's1', bw=10, delay='soon')", "delay='soon' is no time"),
        ("self.addLink('dev0', 's1', bw='10mbit')", "bw='10mbit' is no number .* 10 \\(Mbit/s\\)"),
        ("self.addLink('dev0', 's1', bw=0)", "bw=0 is not above 0"),
        ("self.addLink('dev0', 's1', bw=-3)", "bw=-3 is no number"),
        ("self.addLink('dev0', 's1', delay='5ms', loss=1)", "delay, loss without bw"),
        ("self.addLink('dev0', 's1', bw=10, jitter='1ms')", "jitter without a delay"),
        ("self.addLink('dev0', 's1', bw=10, loss=100)", "loss=100: at 100 %"),
        ("self.addLink('dev0', 's1', bw=10, loss='1%')", "loss='1%' is no number"),
        ("self.addLink('dev0', 's1', bw=10, max_queue_size=0)", "max_queue_size=0 is no number of packets"),
        ("self.addLink('dev0', 's1', bw=10, use_htb=True)", "use_htb=True is not understood; options: bw,"),
        ("self.addLink('dev0', 's1', bw=10, enable_ecn=True)", "enable_ecn=True is not understood"),
        ("self.addLink('dev0', 's1', cls=Mine, bw=10)", "cls=Mine is not understood"),
        ("self.addLink('dev0', 's1', params1={'bw': 10})", "shaped in one direction only; its down needs"),
        (f"{S2}self.addLink('dev0', 's1')\nself.addLink('s1', 's2', bw=1)", "dev0 reaches server over plain"),
        ("self.addHost('dev1')\nself.addLink('dev1', 's1')", "host dev1 is no device of the configuration"),
        ("self.addHost('h1')", "host h1 is no device of the configuration: dev0 to dev0"),
        ("self.addHost('h1', cpu=0.5)", "h1: its cpu cannot be put in force"),
        (f"{S2}self.addLink('dev0', 's1', bw=1)\nself.addLink('dev0', 's2', bw=1)", "dev0 has 2 links"),
        ("self.addLink('dev0', 's1', bw=10)\nself.addLink('dev0', 's1', bw=10)", "are linked twice"),
        ("raise RuntimeError('no\\nway')", "mine: RuntimeError: no way"),
        ("1 / 0", "mine: ZeroDivisionError"),
        ("raise SystemExit(3)", "mine: SystemExit: 3"),
    ],
)
def test_what_a_user_s_file_asks_for_in_vain_is_one_line(tmp_path: Path, body: str, says: str) -> None:
    file = write(tmp_path, body)
    with pytest.raises(TopologyError, match=says) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file}: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no such file"),
        ("topos = {", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = 1", "it has no topos = "),
        ("topos = {}", "it has no topos = "),
        ("topos = ['mine']", "it has no topos = "),
        ("topos = {'other': list}", "its topos have no 'mine', only 'other'"),
        ("topos = {'mine': dict}", "mine makes a dict, not a Mininet Topo"),
        (
            "from mininet.topo import SingleSwitchTopo as S; topos = {'mine': S}",
            "no host named server; hosts: h1",
        ),
    ],
)
def test_a_file_that_is_no_topology_is_one_line(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(TopologyError, match=says) as refused:
        load(file)
    assert str(refused.value).startswith(f"{file}: ") and "\n" not in str(refused.value)


def test_a_device_without_a_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="it has no host dev1, which the configuration asks for"):
        load(write(tmp_path, FINE), devices=2)


def test_what_a_file_prints_stays_off_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(write(tmp_path, f"print('building')\n{FINE}"))
    assert capsys.readouterr() == ("", "building\n")


def test_a_rate_above_mininet_s_limit_is_taken_or_refused_never_ignored(tmp_path: Path) -> None:
    from emulation.topology import Network

    graph = load(write(tmp_path, FINE.replace("bw=10", "bw=2000")))
    assert graph.links[0].up.rate_bps == 2e9
    with pytest.raises(LinkError, match=r"dev0 up: 2e\+09 bit/s; relay: .*at most 1e"):
        Network(graph, backend="relay")


@pytest.mark.parametrize(
    ("where", "devices"), [("dumbbell.py:dumbbell,5,bw=5", 5), ("two_sites.py:two_sites", 4)]
)
def test_the_examples_load(where: str, devices: int) -> None:
    graph = custom.load(str(EXAMPLES / where), [f"dev{n}" for n in range(devices)])
    assert len(graph.devices) == devices
