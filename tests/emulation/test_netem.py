"""netem: the commands, and what a real kernel read back for them.

The JSON below was captured from `tc -s -j qdisc show` (iproute2 6.1) in Debian's user-mode-linux kernel
6.1.176 after exactly these commands and some traffic. That they do what they are for: test_netem_live.py.
"""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.backend import LinkCounters
from emulation.link import FRAME_BYTES, AccessLink, Air, LinkChange, LinkError, LinkSpec, Outages, Trace
from emulation.netem import create
from emulation.netem_outages import switches
from emulation.netem_stages import (
    LEAD_S,
    Way,
    air_frames,
    chain,
    changing,
    count,
    differences,
    distribution,
    gate,
    interfaces,
    lead_bytes,
    queue_limit,
    redirections,
    shaping,
)

UP, DOWN = Way("up", "cell-eth2", 0), Way("down", "cell-eth2", 0)
CLEAN = LinkSpec(20e6, 0.03)
ROUGH = LinkSpec(50e6, 0.02, 0.002, loss=0.05, loss_burst=4.0, duplicate=0.03, corrupt=0.02)
CODEL = LinkSpec(2e6, 0.01, queue_frames=100, queue_bytes=151400, aqm="codel")
PACKETS = LinkSpec(2e6, 0.01, queue_frames=10, queue_bytes=15140)

IN_CLEAN = """
{"up0-queue":[{"kind":"htb","handle":"1:","root":true,"options":{"r2q":10,"default":"0x1",
"direct_packets_stat":0,"direct_qlen":1000},"bytes":129710,"packets":91,"drops":415,"backlog":0,
"qlen":0},{"kind":"plug","handle":"2:","parent":"1:1","options":{},"bytes":129710,"packets":91,
"drops":415,"backlog":0,"qlen":0}],"up0-wire":[{"kind":"netem","handle":"1:","root":true,
"options":{"limit":410,"rate":{"rate":2500000,"packetoverhead":0,"cellsize":0,"celloverhead":0},
"ecn":false,"gap":0},"bytes":129710,"packets":91,"drops":0,"backlog":0,"qlen":0}],
"up0-air":[{"kind":"netem","handle":"1:","root":true,"options":{"limit":4572,"delay":{"delay":0.03,
"jitter":0,"correlation":0},"rate":{"rate":12500000000,"packetoverhead":0,"cellsize":0,
"celloverhead":0},"ecn":false,"gap":0},"bytes":129710,"packets":91,"drops":0,"backlog":0,"qlen":0}]}
"""
IN_ROUGH = """
{"down0-queue":[{"kind":"htb","handle":"1:","root":true,"options":{"r2q":10,"default":"0x1",
"direct_packets_stat":0,"direct_qlen":1000},"bytes":286972,"packets":2002,"drops":0,"backlog":0,
"qlen":0},{"kind":"plug","handle":"2:","parent":"1:1","options":{},"bytes":286972,"packets":2002,
"drops":0,"backlog":0,"qlen":0}],"down0-wire":[{"kind":"netem","handle":"1:","root":true,
"options":{"limit":767,"rate":{"rate":6250000,"packetoverhead":0,"cellsize":0,"celloverhead":0},
"ecn":false,"gap":0},"bytes":286972,"packets":2002,"drops":0,"backlog":0,"qlen":0}],
"cell-eth2":[{"kind":"netem","handle":"1:","root":true,"options":{"limit":9334,
"delay":{"delay":0.02,"jitter":0.002,"correlation":0},"loss-gemodel":{"p":0.0131579,"r":0.25,
"1-h":1,"1-k":0},"duplicate":{"duplicate":0.03,"correlation":0},"corrupt":{"corrupt":0.02,
"correlation":0},"rate":{"rate":12500000000,"packetoverhead":0,"cellsize":0,"celloverhead":0},
"ecn":false,"gap":0},"bytes":282144,"packets":1968,"drops":95,"backlog":0,"qlen":0}]}
"""
IN_CODEL = """
{"up1-queue":[{"kind":"htb","handle":"1:","root":true,"options":{"r2q":10,"default":"0x1",
"direct_packets_stat":0,"direct_qlen":1000},"bytes":366900,"packets":246,"drops":53,"backlog":0,
"qlen":0},{"kind":"codel","handle":"2:","parent":"1:1","options":{"limit":100,"target":4999,
"interval":99999},"bytes":366900,"packets":246,"drops":53,"backlog":0,"qlen":0,"count":53,
"lastcount":1,"ldelay":1,"drop_next":0,"maxpacket":1514,"ecn_mark":0,"drop_overlimit":0}],
"up1-wire":[{"kind":"netem","handle":"1:","root":true,"options":{"limit":195,"rate":{"rate":250000,
"packetoverhead":0,"cellsize":0,"celloverhead":0},"ecn":false,"gap":0},"bytes":366900,"packets":246,
"drops":0,"backlog":0,"qlen":0}],"up1-air":[{"kind":"netem","handle":"1:","root":true,
"options":{"limit":1120,"delay":{"delay":0.01,"jitter":0,"correlation":0},
"rate":{"rate":12500000000,"packetoverhead":0,"cellsize":0,"celloverhead":0},"ecn":false,"gap":0},
"bytes":366900,"packets":246,"drops":0,"backlog":0,"qlen":0}]}
"""
IN_PACKETS = """
{"down1-queue":[{"kind":"htb","handle":"1:","root":true,"options":{"r2q":10,"default":"0x1",
"direct_packets_stat":0,"direct_qlen":1000},"bytes":22298,"packets":19,"drops":18,"backlog":0,
"qlen":0},{"kind":"pfifo","handle":"2:","parent":"1:1","options":{"limit":10},"bytes":22298,
"packets":19,"drops":18,"backlog":0,"qlen":0}],"down1-wire":[{"kind":"netem","handle":"1:",
"root":true,"options":{"limit":195,"rate":{"rate":250000,"packetoverhead":0,"cellsize":0,
"celloverhead":0},"ecn":false,"gap":0},"bytes":22298,"packets":19,"drops":0,"backlog":0,"qlen":0}],
"cell-eth3":[{"kind":"netem","handle":"1:","root":true,"options":{"limit":1120,
"delay":{"delay":0.01,"jitter":0,"correlation":0},"rate":{"rate":12500000000,"packetoverhead":0,
"cellsize":0,"celloverhead":0},"ecn":false,"gap":0},"bytes":22298,"packets":19,"drops":0,
"backlog":0,"qlen":0}]}
"""
CLASS = "class htb 1:1 root leaf 2: prio 0 rate {0} ceil {0} burst {1}b cburst {1}b "
CAPTURED = {
    "clean": (UP, CLEAN, IN_CLEAN, CLASS.format("20Mbit", 5000)),
    "rough": (DOWN, ROUGH, IN_ROUGH, CLASS.format("50Mbit", 12500)),
    "codel": (Way("up", "cell-eth3", 1), CODEL, IN_CODEL, CLASS.format("2Mbit", 500)),
    "packets": (Way("down", "cell-eth3", 1), PACKETS, IN_PACKETS, CLASS.format("2Mbit", 500)),
}


def test_the_commands_that_were_tried_on_a_real_kernel() -> None:
    assert interfaces(UP) == [
        "link add up0-queue type veth peer name up0-wire",
        "link set up0-queue up",
        "link set up0-wire up",
        "link add up0-air type veth peer name up0-out",
        "link set up0-air up",
        "link set up0-out up",
    ]
    assert shaping(UP, CLEAN) == [
        "qdisc add dev up0-queue root handle 1: htb default 1",
        "class add dev up0-queue parent 1: classid 1:1"
        " htb rate 20000000bit ceil 20000000bit burst 5000 cburst 5000 quantum 1514",
        "qdisc add dev up0-queue parent 1:1 handle 2: plug limit 91896",
        "qdisc change dev up0-queue parent 1:1 handle 2: plug release_indefinite",
        "qdisc add dev up0-wire root handle 1: netem limit 410 rate 20000000bit",
        "qdisc replace dev up0-air root handle 1: netem limit 4572 delay 30000.000us loss random 0.0000000%"
        " duplicate 0.0000000% corrupt 0.0000000% rate 100000000000bit",
    ]
    assert shaping(DOWN, ROUGH)[-1] == (
        "qdisc replace dev cell-eth2 root handle 1: netem limit 9334 delay 20000.000us 2000.000us"
        " distribution normal loss gemodel 1.3157895% 25.0000000% 100% 0%"
        " duplicate 3.0000000% corrupt 2.0000000% rate 100000000000bit"
    )
    assert redirections(UP) == [
        "qdisc add dev up0-wire clsact",
        "filter add dev up0-wire ingress protocol all u32 match u32 0 0 action"
        " mirred egress redirect dev up0-wire",
        "qdisc add dev up0-queue clsact",
        "filter add dev up0-queue ingress protocol all u32 match u32 0 0 action"
        " mirred egress redirect dev up0-air",
        "qdisc add dev up0-out clsact",
        "filter add dev up0-out ingress protocol all u32 match u32 0 0 action"
        " mirred ingress redirect dev cell-eth2",
        "filter add dev cell-eth2 ingress pref 1 protocol all handle 1 fw action pass",
        "filter add dev cell-eth2 ingress pref 2 protocol all u32 match u32 0 0 action"
        " skbedit mark 1 pipe action mirred egress redirect dev up0-queue",
    ]
    assert redirections(DOWN)[-2:] == [
        "filter add dev cell-eth2 egress pref 1 protocol all handle 2 fw action pass",
        "filter add dev cell-eth2 egress pref 2 protocol all u32 match u32 0 0 action"
        " skbedit mark 2 pipe action mirred egress redirect dev down0-queue",
    ]


def test_no_two_directions_share_an_interface_or_a_mark() -> None:
    ways = [Way(d, f"port{n}", n) for n in range(1000) for d in ("up", "down")]  # type: ignore[arg-type]
    names = [name for way in ways for name in (way.queue, way.wire, way.air, way.out) if name]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 15
    assert len({way.mark for way in ways} - {0}) == len(ways)


@given(st.floats(1e3, 1e10), st.integers(FRAME_BYTES, 10**7))
def test_what_may_wait_is_split_between_queue_and_lead(rate_bps: float, queue_bytes: int) -> None:
    spec = LinkSpec(rate_bps, queue_bytes=queue_bytes)
    assert lead_bytes(spec) <= max(1.0, rate_bps * LEAD_S / 8 + 1, queue_bytes / 4)
    waiting = queue_limit(spec) + lead_bytes(spec)
    assert queue_bytes <= waiting <= max(queue_bytes, FRAME_BYTES + lead_bytes(spec))


@pytest.mark.parametrize("rate_bps", [64e3, 1e6, 50e6, 100e6, 1e9])
def test_the_delay_line_holds_what_is_under_way(rate_bps: float) -> None:
    assert air_frames(LinkSpec(rate_bps, 0.05, 0.01)) >= 1.5 * rate_bps * (0.05 + 4 * 0.01) / (8 * 66)


@given(st.floats(0.0001, 0.5), st.floats(1.01, 50))
def test_the_loss_chain_has_the_mean_and_the_burst_asked_for(loss: float, burst: float) -> None:
    bad, good = chain(LinkSpec(1e6, loss=loss, loss_burst=burst))
    assert bad / (bad + good) == pytest.approx(loss)
    assert 1 / good == pytest.approx(burst)


def test_distributions_are_in_iproute2s_unit() -> None:
    normal = [int(line) for line in distribution(CLEAN).split()]
    assert normal == sorted(normal)
    assert sum(value**2 for value in normal) / len(normal) / 8192**2 == pytest.approx(1, abs=2e-3)
    assert distribution(LinkSpec(1e6, 0.1, 0.01, jitter_table=(-1.0, 0.5))) == "-8192\n4096\n"


@pytest.mark.parametrize("name", CAPTURED)
def test_what_the_kernel_took_as_asked_is_no_difference(name: str) -> None:
    way, spec, captured, shown = CAPTURED[name]
    assert differences(way, spec, json.loads(captured), shown) == []


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "clean",
            {"rate_bps": 20.1e6},
            {
                "rate of the queue",
                "ceil of the queue",
                "rate of the wire",
                "limit of the wire",
                "limit of the air",
            },
        ),
        ("clean", {"delay_s": 0.031}, {"delay (s)", "limit of the air"}),
        ("clean", {"loss": 0.01}, {"loss reads"}),
        ("clean", {"queue_bytes": 8 * FRAME_BYTES}, {"burst (byte)", "cburst (byte)", "limit of the wire"}),
        ("clean", {"queue_frames": 10}, {"no pfifo at 1:1 of up0-queue"}),
        ("rough", {"jitter_s": 0.003}, {"jitter (s)", "limit of the air"}),
        ("rough", {"loss": 0.04}, {"loss burst: p"}),
        ("rough", {"loss_burst": 5.0}, {"loss burst: p", "loss burst: r"}),
        ("rough", {"loss_burst": 1.0}, {"loss reads", "loss burst: p", "loss burst: r", "loss burst: 1-h"}),
        ("rough", {"duplicate": 0.0}, {"duplicate reads"}),
        ("rough", {"corrupt": 0.03}, {"corrupt reads"}),
        ("codel", {"queue_frames": 99}, {"queue (frames)"}),
        ("codel", {"aqm": "tail"}, {"no pfifo at 1:1 of up1-queue"}),
        ("packets", {"queue_frames": 9}, {"queue (frames)"}),
        ("packets", {"aqm": "codel"}, {"no codel at 1:1 of down1-queue"}),
    ],
)
def test_any_other_number_is_named(name: str, change: dict[str, Any], words: set[str]) -> None:
    way, spec, captured, shown = CAPTURED[name]
    found = differences(way, replace(spec, **change), json.loads(captured), shown)
    assert {word for word in words if any(word in line for line in found)} == words
    assert len(found) == len(words), found


def test_missing_and_misplaced_stages_are_named() -> None:
    way, spec, captured, shown = CAPTURED["clean"]
    qdiscs: dict[str, list[dict[str, Any]]] = json.loads(captured)
    assert differences(way, spec, {}, "") == ["no plug at 1:1 of up0-queue"]
    assert differences(way, spec, qdiscs, "") == ["no htb class 1:1"]
    for interface in ("up0-wire", "up0-air"):
        fewer = {name: found for name, found in qdiscs.items() if name != interface}
        assert differences(way, spec, fewer, shown) == [f"no netem at the root of {interface}"]
    unordered = copy.deepcopy(qdiscs)
    del unordered["up0-air"][0]["options"]["rate"]
    assert differences(way, spec, unordered, shown) == ["order kept by a rate (byte/s) reads 0, not 1.25e+10"]
    overfull = copy.deepcopy(qdiscs)
    overfull["up0-queue"][1]["backlog"] = spec.queue_bytes + 100
    assert differences(way, spec, overfull, shown) == ["waiting (byte) reads 100, not 0"]


def test_frames_are_counted_by_what_became_of_them() -> None:
    assert count(*CAPTURED["clean"][:2], json.loads(IN_CLEAN)) == LinkCounters(
        offered_frames=91 + 415,
        offered_bytes=129710,
        delivered_frames=91,
        delivered_bytes=129710,
        drops_queue=415,
    )
    assert count(*CAPTURED["rough"][:2], json.loads(IN_ROUGH)) == LinkCounters(
        offered_frames=2002,
        offered_bytes=286972,
        delivered_frames=1968,
        delivered_bytes=282144,
        drops_loss=95,
        duplicated=1968 + 95 - 2002,
    )
    assert count(*CAPTURED["codel"][:2], json.loads(IN_CODEL)).drops_aqm == 53
    assert count(*CAPTURED["codel"][:2], json.loads(IN_CODEL)).drops_queue == 0
    assert count(*CAPTURED["packets"][:2], json.loads(IN_PACKETS)).drops_queue == 18


def test_a_change_touches_only_what_it_changes_and_replaces_nothing() -> None:
    slower = changing(UP, CLEAN, replace(CLEAN, rate_bps=5e6))
    assert [line.split(" parent")[0] for line in slower[:3]] == [
        "class change dev up0-queue",
        "qdisc change dev up0-queue",
        "qdisc change dev up0-wire root handle 1: netem limit 231 rate 5000000bit",
    ]
    assert [line.split()[3] for line in changing(UP, CLEAN, replace(CLEAN, delay_s=0.1))] == ["up0-air"]
    assert [line.split()[3] for line in changing(UP, CLEAN, replace(CLEAN, loss=0.1))] == ["up0-air"]
    assert changing(UP, CLEAN, CLEAN) == []
    assert gate(UP, CLEAN, up=False).endswith("handle 2: plug block")
    assert gate(UP, CLEAN, up=True).endswith("handle 2: plug release_indefinite")
    with pytest.raises(LinkError, match="only a queue in bytes"):
        gate(UP, CODEL, up=False)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (LinkSpec(1e12), "rate 1e"),
        (LinkSpec(100), "rate 100 bit/s"),
        (LinkSpec(1e6, trace=Trace("t", (1, 2))), "trace"),
        (LinkSpec(1e6, aqm="codel"), "aqm codel counts its queue in frames"),
        (
            LinkSpec(1e6, queue_bytes=20 * FRAME_BYTES, queue_frames=100),
            "queue of 30280 bytes and 100 frames",
        ),
        (replace(PACKETS, outages=Outages(1, 1)), "outage"),
        (replace(CODEL, outages=Outages(1, 1)), "outage"),
        (LinkSpec(1e6, 0.1, 0.01, jitter_table=(-4.5, 1.0)), "jitter table beyond"),
        (LinkSpec(1e6, 0.1, 0.01, jitter_table=(0.0,) * 20000), "jitter table of more"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused_by_name(spec: LinkSpec, why: str) -> None:
    backend = create()
    with pytest.raises(LinkError, match=f"^dev3 down: {why}.*emulation.backend=relay"):
        backend.refuse(AccessLink("dev3", LinkSpec(1e6), spec))
    backend.refuse(AccessLink("dev3", CLEAN, ROUGH))
    backend.refuse(AccessLink("dev3", replace(CLEAN, outages=Outages(1, 1)), PACKETS))


def test_of_shared_air_only_a_fixed_share_is_a_rate() -> None:
    for scheduler in ("round_robin", "proportional_fair"):
        with pytest.raises(LinkError, match=f"dev3: sharing {scheduler}"):
            create().refuse(AccessLink("dev3", CLEAN, CLEAN, Air("cell", scheduler)))  # type: ignore[arg-type]
    create().refuse(AccessLink("dev3", CLEAN, CLEAN, Air("cell", "fixed")))
    with pytest.raises(LinkError, match=r"^dev3: roams from air to air.*emulation\.backend=relay"):
        create().refuse(AccessLink("dev3", CLEAN, CLEAN, Air("cell"), (Air("cell"), Air("other"))))


def test_nothing_changes_before_the_links_are_in_force() -> None:
    with pytest.raises(LinkError, match="dev0 up"):
        create().change(("dev0", "up"), LinkChange(rate_bps=1e6))


def test_outages_have_the_means_asked_for_and_a_schedule_of_their_own() -> None:
    asked = Outages(2.0, 0.5)
    drawn = list(itertools.islice(switches(asked, 7, ("dev0", "up")), 20000))
    assert [up for _, up in drawn[:4]] == [False, True, False, True]
    assert sum(wait for wait, up in drawn if not up) / 10000 == pytest.approx(2.0, rel=0.05)
    assert sum(wait for wait, up in drawn if up) / 10000 == pytest.approx(0.5, rel=0.05)
    assert drawn == list(itertools.islice(switches(asked, 7, ("dev0", "up")), 20000))
    assert next(switches(asked, 7, ("dev0", "down"))) != drawn[0] != next(switches(asked, 8, ("dev0", "up")))
