"""netem: the commands, and what a real kernel read back for them.

The JSON below was captured from `tc -s -j qdisc show` (iproute2 6.1) in Debian's user-mode-linux kernel
6.1.176 after exactly these commands.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from emulation.backend import LinkCounters
from emulation.link import AccessLink, LinkError, LinkSpec
from emulation.netem import bucket_bytes, count, create, delay_line_frames, differences, redirection, shaping

CLEAN, LOSSY = LinkSpec(20e6, 0.03), LinkSpec(10e6, 0.025, 0.004, 0.0123456)

CAPTURED_CLEAN = """
[{"kind":"netem","handle":"1:","root":true,"refcnt":2,"options":{"limit":3273,"delay":{"delay":0.03,
"jitter":0,"correlation":0},"ecn":false,"gap":0},"bytes":32767606,"packets":24654,"drops":3768,
"overlimits":0,"requeues":0,"backlog":66,"qlen":1},{"kind":"tbf","handle":"2:","parent":"1:1","options":
{"rate":2500000,"burst":2137,"lat":38509},"bytes":32767606,"packets":24654,"drops":3768,
"overlimits":115557,"requeues":0,"backlog":0,"qlen":0},{"kind":"ingress","handle":"ffff:",
"parent":"ffff:fff1","options":{},"bytes":22796420,"packets":23456,"drops":0,"overlimits":0,"requeues":0,
"backlog":0,"qlen":0}]
"""
CAPTURED_LOSSY = """
[{"kind":"netem","handle":"1:","root":true,"refcnt":2,"options":{"limit":2733,"delay":{"delay":0.025,
"jitter":0.004,"correlation":0},"loss-random":{"loss":0.0123456,"correlation":0},"rate":
{"rate":12500000000,"packetoverhead":0,"cellsize":0,"celloverhead":0},"ecn":false,"gap":0},
"bytes":33062096,"packets":27661,"drops":3806,"overlimits":0,"requeues":0,"backlog":0,"qlen":0},
{"kind":"tbf","handle":"2:","parent":"1:1","options":{"rate":1250000,"burst":1826,"lat":77267},
"bytes":33062096,"packets":27661,"drops":3768,"overlimits":115557,"requeues":0,"backlog":0,"qlen":0}]
"""


def test_the_commands_that_were_tried_on_a_real_kernel() -> None:
    assert [" ".join(command) for command in shaping(CLEAN, "cell-eth1")] == [
        "tc qdisc replace dev cell-eth1 root handle 1: netem limit 3273 delay 30000.000us",
        "tc qdisc replace dev cell-eth1 parent 1:1 handle 2: tbf rate 20000000bit burst 2139 limit 98410",
    ]
    assert [" ".join(command) for command in shaping(LOSSY, "up-dev0")] == [
        "tc qdisc replace dev up-dev0 root handle 1: netem limit 2733 delay 25000.000us 4000.000us"
        " distribution normal rate 100000000000bit loss random 1.2345600%",
        "tc qdisc replace dev up-dev0 parent 1:1 handle 2: tbf rate 10000000bit burst 1827 limit 98410",
    ]
    assert [" ".join(command) for command in redirection("cell-eth1", "up-dev0")] == [
        "tc qdisc replace dev cell-eth1 ingress",
        "tc filter replace dev cell-eth1 ingress pref 1 protocol all handle 800::800"
        " u32 match u32 0 0 action mirred egress redirect dev up-dev0",
    ]


def test_every_command_replaces_so_that_repeating_them_changes_nothing() -> None:
    for command in (*shaping(LOSSY, "a"), *redirection("a", "b")):
        assert command[2] == "replace"


@pytest.mark.parametrize("rate_bps", [64e3, 1e6, 50e6, 100e6, 1e9])
def test_sizes_follow_the_bandwidth_delay_product(rate_bps: float) -> None:
    spec = LinkSpec(rate_bps, 0.05, 0.01)
    assert delay_line_frames(spec) >= 1.5 * rate_bps * (0.05 + 4 * 0.01) / (8 * 66)
    assert bucket_bytes(spec) >= 1600
    assert bucket_bytes(spec) <= 1514 + max(86, rate_bps * 250e-6 / 8 + 1)


@pytest.mark.parametrize(("spec", "captured"), [(CLEAN, CAPTURED_CLEAN), (LOSSY, CAPTURED_LOSSY)])
def test_what_the_kernel_took_as_asked_is_no_difference(spec: LinkSpec, captured: str) -> None:
    assert differences(spec, json.loads(captured)) == []


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (LinkSpec(20e6, 0.025, 0.004, 0.0123456), "rate"),
        (LinkSpec(10e6, 0.020, 0.004, 0.0123456), "delay"),
        (LinkSpec(10e6, 0.025, 0.000, 0.0123456), "jitter"),
        (LinkSpec(10e6, 0.025, 0.004, 0.0), "loss"),
        (LinkSpec(10e6, 0.025, 0.004, 0.0123456, 32 * 1514), "queue"),
    ],
)
def test_any_other_number_is_named(spec: LinkSpec, word: str) -> None:
    assert any(line.startswith(word) for line in differences(spec, json.loads(CAPTURED_LOSSY)))


def test_missing_or_misplaced_qdiscs_are_named() -> None:
    qdiscs: list[dict[str, Any]] = json.loads(CAPTURED_LOSSY)
    assert differences(LOSSY, []) == ["no netem qdisc", "no tbf qdisc"]
    assert differences(LOSSY, qdiscs[:1]) == ["no tbf qdisc"]
    orphan = copy.deepcopy(qdiscs)
    orphan[1]["parent"] = "5:1"
    assert differences(LOSSY, orphan) == ["parent reads False, not 1"]
    unordered = copy.deepcopy(qdiscs)
    del unordered[0]["options"]["rate"]
    assert differences(LOSSY, unordered) == ["order reads False, not 1"]


def test_drops_are_told_apart() -> None:
    assert count(json.loads(CAPTURED_LOSSY)) == LinkCounters(
        offered_frames=27661 + 3806,
        offered_bytes=33062096,
        delivered_frames=27661,
        delivered_bytes=33062096,
        drops_queue=3768,
        drops_loss=38,
    )
    assert count(json.loads(CAPTURED_CLEAN)).offered_frames == 24654 + 3768 + 1


def test_rates_beyond_what_it_can_do_are_refused_by_name() -> None:
    backend = create()
    with pytest.raises(LinkError, match="dev3 down: 1e"):
        backend.refuse(AccessLink("dev3", LinkSpec(1e6), LinkSpec(1e12)))
    backend.refuse(AccessLink("dev3", LinkSpec(1e6), LinkSpec(1e9)))
