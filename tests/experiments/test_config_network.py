"""The `network` section: each shape becomes its graph, or one line says which key is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulation.background import Flow
from emulation.link import Air
from emulation.topologies.graph import SERVER
from experiments import config
from experiments.config import ConfigError, Experiment
from tests.conftest import CONFIGS

CELL, MULTICELL, MESH = (CONFIGS / f"{name}.yaml" for name in ("cell", "multicell", "mesh"))
DUMBBELL = ["network.topology=experiments/topologies/dumbbell.py:dumbbell,2", "network.devices=[{count: 2}]"]


def test_a_multicell_s_devices_are_behind_their_edge_node_s_backhaul() -> None:
    experiment = config.load(MULTICELL)
    graph = experiment.network.graph
    assert [graph.switch_of(f"dev{n}") for n in range(4)] == ["edge0", "edge0", "edge1", "edge1"]
    assert [link.device for link in graph.links] == ["dev0", "dev1", "dev2", "dev3", "edge0", "edge1"]
    # What a bound is made of: the slowest rate on the way, and all delays.
    access = experiment.links()[3]
    assert (access.device, access.up.rate_bps, access.up.delay_s) == ("dev3", 10e6, pytest.approx(0.025))
    slower = config.load(MULTICELL, ["network.edges.1.backhaul.up.rate=4mbit"]).links()
    assert [link.up.rate_bps for link in slower] == [10e6, 10e6, 4e6, 4e6]


def test_a_mesh_s_ways_are_by_delay_or_by_hops() -> None:
    ways = {
        routing: config.load(MESH, [f"network.routing={routing}"]).network.graph.describe()["ways"]["dev2"]
        for routing in ("delay", "hops")
    }
    assert ways["delay"]["up"] == ["dev2", "ap3", "ap2", "ap1", "ap0", SERVER]
    assert ways["hops"]["up"] == ["dev2", "ap3", "ap0", SERVER]


def test_devices_share_the_air_of_their_own_place_only() -> None:
    graph = config.load(MULTICELL, ["network.sharing=round_robin"]).network.graph
    airs = {link.device: link.air and link.air.name for link in graph.links}
    assert airs == {
        "dev0": "edge0", "dev1": "edge0", "dev2": "edge1", "dev3": "edge1", "edge0": None, "edge1": None
    }  # fmt: skip


def test_devices_of_a_channel_begin_in_the_air_of_the_cell_that_serves_them() -> None:
    wireless, sharing = CONFIGS / "wireless.yaml", ["network.sharing=proportional_fair"]
    network = config.load(wireless, sharing).network
    airs = (Air("cell 0", "proportional_fair"), Air("cell 1", "proportional_fair"))
    assert network.channel is not None and network.airs == airs
    names = [name for name, _ in network.expanded_devices]
    serving = network.channel.build(names).state(0.0).cell
    assert [link.air for link in network.graph.links] == [airs[cell] for cell in serving]
    assert len(set(serving)) == 2 and all(link.roams == airs for link in network.graph.links)
    one = config.load(wireless, [*sharing, "network.channel.cells=[{x: 300m, y: 300m}]"]).network
    assert {(link.air, link.roams) for link in one.graph.links} == {(Air("cell", "proportional_fair"), ())}
    with pytest.raises(ConfigError, match=r"sharing: fixed is 1/n for good"):
        config.load(wireless, ["network.sharing=fixed"])


def test_a_user_s_file_is_a_topology() -> None:
    experiment = config.load(CONFIGS / "smoke.yaml", [*DUMBBELL, "network.devices.0.count=2"])
    assert experiment.network.topology_file == Path("experiments/topologies/dumbbell.py")
    assert [link.up.rate_bps for link in experiment.links()] == [20e6, 20e6]


def test_tcp_is_per_host_and_defaults_to_what_every_run_has() -> None:
    plain = config.load(CELL).network.tcp_of_hosts()
    assert {tcp.congestion_control for tcp in plain.values()} == {"cubic"}
    assert not plain[SERVER].slow_start_after_idle and plain[SERVER].no_metrics_save
    own = ["network.congestion_control=bbr", "network.devices.1.congestion_control=reno"]
    tcp = config.load(CELL, [*own, "network.tcp={buffer: 1MiB, ecn: request}"]).network.tcp_of_hosts()
    names = [tcp[host].congestion_control for host in (SERVER, "dev0", "dev1", "dev2")]
    assert names == ["bbr", "bbr", "reno", "bbr"]
    assert tcp["dev1"].buffer_bytes == 1 << 20 and tcp["dev1"].ecn == "request"


def test_background_flows_are_slowed_by_the_dilation() -> None:
    flow = "{from: dev0, to: server, protocol: udp, rate: 2mbit, active: 1s, idle: 3s, start: 5s}"
    (section,) = config.load(CELL, [f"network.background=[{flow}]"]).network.background
    assert section.build(4.0) == Flow("dev0", SERVER, "udp", 0.5e6, 4.0, 12.0, 20.0)


@pytest.mark.parametrize(
    ("file", "overrides"),
    [
        (MULTICELL, []),
        (MESH, ["network.sharing=fixed", "network.capture=all", "network.snaplen=1kB"]),
        (CONFIGS / "smoke.yaml", DUMBBELL),
        (
            CELL,
            [
                "network.background=[{from: dev0, to: server, protocol: udp, rate: 1mbit}]",
                "network.tcp={buffer: 1MB, rto_min: 50ms}",
                "network.capture=[dev0-eth0]",
            ],
        ),
    ],
)
def test_the_manifest_s_configuration_is_the_same_experiment(file: Path, overrides: list[str]) -> None:
    experiment = config.load(file, overrides)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("file", "overrides", "says"),
    [
        (CELL, ["network.topology=star"], "topology: 'star' is none of cell, multicell, mesh, nor path/to"),
        (
            CELL,
            ["network.topology=nowhere.py:mine", "network.devices=[{}]"],
            "nowhere.py: there is no such f",
        ),
        (CELL, ["network.topology=nowhere.py:mine"], "devices.0.up: topology .* says that itself, leave it"),
        (CELL, ["network.devices.0.at=edge0"], "devices.0.at: topology cell says that itself, leave it out"),
        (CELL, ["network.devices=[{up: {rate: 1mbit}}]"], "devices.0.down: topology cell needs it"),
        (CELL, ["network.mesh={gateway: a, links: []}"], "network.mesh.links"),
        (CELL, ["network.routing=magic"], "network.routing"),
        (MULTICELL, ["network.edges=[]"], "edges: topology multicell needs it, and no other has it"),
        (MULTICELL, ["network.topology=cell"], "edges: topology multicell needs it, and no other has it"),
        (MULTICELL, ["network.devices.1.at=edge7"], "dev2 is at edge7, which is none of edge0, edge1"),
        (MULTICELL, ["network.devices.1.at=null"], "devices.1.at: topology multicell needs it"),
        (
            MULTICELL,
            ["network.edges.1.name=edge0", "network.devices.1.at=edge0"],
            "edge0 and core are linked twice",
        ),
        (
            MULTICELL,
            ["network.edges.1.name=my edge", "network.devices.1.at=edge0"],
            "'my edge' cannot name a switch",
        ),
        (MULTICELL, ["network.edges.0.backhaul.up.rate=0bit"], r"edges.0.backhaul.up: rate: a link needs"),
        (MULTICELL, ["network.edges.0.backhaul.hop=1"], r"hop: unknown key; one of down, up"),
        (
            MESH,
            ["network.mesh.gateway=ap9"],
            "gateway ap9: no radio link ends there; access points: ap1, ap0",
        ),
        (MESH, ["network.mesh.links.3.ends=[ap3, ap3]"], "ap3 is linked to itself"),
        (MESH, ["network.mesh.links.3.ends=[ap3]"], "network.mesh.links.3.ends"),
        (MESH, ["network.mesh.links.0.ends=[ap1, ap2]"], "ap2 and ap1 are linked twice"),
        (MESH, ["network.devices.0.at=ap8"], "dev0 is at ap8, which is none of"),
        (CELL, ["network.background=[{from: dev9, to: server}]"], "background.0.from: there is no host dev9"),
        (CELL, ["network.background=[{from: dev0, to: dev0}]"], "dev0 does not send to itself"),
        (CELL, ["network.background=[{from: dev0, to: server, protocol: udp}]"], "rate: udp sends as fast"),
        (CELL, ["network.background=[{from: dev0, to: server, active: 1s}]"], "active, idle: give both"),
        (CELL, ["network.background=[{form: dev0, to: server}]"], "form: unknown key; did you mean 'from'"),
        (CELL, ["network.capture=3"], "network.capture: Input should be a valid list"),
        (CELL, ["network.snaplen=5B"], "network.snaplen"),
        (CELL, ["network.tcp.buffer=4"], "network.tcp.buffer: '4' has no unit; write for example 64kB"),
        (CELL, ["network.tcp.ecn=off"], "network.tcp.ecn"),
    ],
)
def test_what_is_wrong_is_one_line(file: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(file, overrides)
    assert "\n" not in str(caught.value)
