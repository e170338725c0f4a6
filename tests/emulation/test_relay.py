"""Links as the relay process is told of them, and what it is refused; how its counts are read."""

from __future__ import annotations

import dataclasses
import json
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation import _relay, relay_parameters
from emulation.backend import LinkEnds
from emulation.link import AccessLink, Air, LinkChange, LinkError, LinkSpec, Outages, Scheduler, Trace
from emulation.relay import _COUNTS, _quantile_ns, _unpack, create, lateness_limit_s

GOOD = LinkSpec(10e6, 0.01)
TRACE = Trace("t.trace", (1, 2, 2, 5))
OTHER: dict[str, Any] = {
    "rate_bps": 1e6,
    "delay_s": 0.5,
    "jitter_s": 0.5,
    "loss": 0.5,
    "queue_bytes": 5000,
    "loss_burst": 5.0,
    "duplicate": 0.5,
    "corrupt": 0.5,
    "queue_frames": 5,
    "aqm": "codel",
    "jitter_table": (-1.0, 1.0),
    "outages": Outages(5, 5),
    "trace": TRACE,
}


def servers(*links: AccessLink, seed: int = 0) -> tuple[relay_parameters.Servers, list[tuple[str, str]]]:
    ends = [LinkEnds(link, "a", "b", 1, (2 * i, 2 * i + 1)) for i, link in enumerate(links)]
    document, directions, _ = relay_parameters.describe(ends, seed)
    return relay_parameters.unpack(document), directions


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(LinkSpec)])
def test_everything_a_link_is_asked_for_reaches_the_relay(field: str) -> None:
    plain, other = (servers(AccessLink("dev0", spec, GOOD))[0][0][1][0] for spec in (GOOD, _with(field)))
    assert plain != other
    _relay.Clockwork([("round_robin", [other])])  # It takes what it is told.


def _with(field: str) -> LinkSpec:
    return dataclasses.replace(GOOD, **{field: OTHER[field]})


def test_links_of_one_air_share_a_server_in_each_direction() -> None:
    air = Air("cell")
    found, directions = servers(
        *(AccessLink(f"dev{i}", GOOD, GOOD, air) for i in range(3)), AccessLink("dev3", GOOD, GOOD)
    )
    assert [(scheduler, len(paths)) for scheduler, paths in found] == [
        ("round_robin", 3),
        ("round_robin", 3),
        ("round_robin", 1),
        ("round_robin", 1),
    ]
    assert directions == [(f"dev{i}", way) for way in ("up", "down") for i in range(3)] + [
        ("dev3", "up"),
        ("dev3", "down"),
    ]
    assert [(path["in"], path["out"]) for path in found[1][1]] == [(1, 0), (3, 2), (5, 4)]
    fair, _ = servers(*(AccessLink(f"dev{i}", GOOD, GOOD, Air("a", "proportional_fair")) for i in range(2)))
    assert [scheduler for scheduler, _ in fair] == ["proportional_fair"] * 2


def test_a_fixed_share_is_a_link_of_ones_own_with_that_share_of_its_rate() -> None:
    found, directions = servers(*(AccessLink(f"dev{i}", GOOD, GOOD, Air("a", "fixed")) for i in range(4)))
    assert [[path["rate_bps"] for path in paths] for _, paths in found] == [[2.5e6]] * 8
    assert directions[:2] == [("dev0", "up"), ("dev0", "down")]
    message = relay_parameters.order(3, LinkChange(rate_bps=8e6, up=False), share=4)
    kind, path, server, rate, delay, loss, up = struct.unpack("=III4x4d", message)
    assert (kind, path, server, rate, up) == (1, 3, 2**32 - 1, 2e6, 0.0)
    assert delay != delay and loss != loss  # NaN: as it is.


def test_airs_that_links_only_roam_to_have_servers_without_a_path() -> None:
    airs = tuple(Air(f"cell {number}") for number in range(3))
    links = [AccessLink(f"dev{i}", GOOD, GOOD, airs[begin], airs) for i, begin in enumerate((2, 0, 2))]
    ends = [LinkEnds(link, "a", "b", 1, (2 * i, 2 * i + 1)) for i, link in enumerate(links)]
    document, directions, cells = relay_parameters.describe(ends, 0)
    found = relay_parameters.unpack(document)
    assert set(cells) == {(air, way) for air in airs for way in ("up", "down")}
    assert sorted(cells.values()) == list(range(6))
    begin = [[path["in"] for path in found[cells[air, way]][1]] for air in airs for way in ("up", "down")]
    assert begin == [[2], [3], [], [], [0, 4], [1, 5]]
    tap = {("dev0", "up"): 0, ("dev0", "down"): 1, ("dev1", "up"): 2} | {
        ("dev1", "down"): 3,
        ("dev2", "up"): 4,
        ("dev2", "down"): 5,
    }
    assert [path["in"] for _, paths in found for path in paths] == [tap[way] for way in directions]
    _relay.Clockwork(found)
    order = relay_parameters.order(4, LinkChange(air=airs[1]), server=cells[airs[1], "up"])
    assert struct.unpack("=III", order[:12]) == (1, 4, cells[airs[1], "up"])


@pytest.mark.parametrize(
    ("air", "roams", "words"),
    [
        (None, ("round_robin",), "roams, and has no air"),
        ("fixed", ("fixed",), "roams, and has no air or a fixed share"),
        ("round_robin", ("fixed",), "roams, and has no air or a fixed share"),
        ("round_robin", ("round_robin", "proportional_fair"), "another scheduler than round_robin"),
    ],
)
def test_links_roam_between_airs_of_one_scheduler(
    air: Scheduler | None, roams: tuple[Scheduler, ...], words: str
) -> None:
    link = AccessLink("dev0", GOOD, GOOD, air and Air("a", air), tuple(Air("b", other) for other in roams))
    with pytest.raises(LinkError, match=f"^dev0: .*{words}"):
        create().refuse(link)


def test_traces_and_tables_are_sent_once_and_come_back_as_they_were() -> None:
    spec = LinkSpec(1e6, jitter_s=0.1, jitter_table=(-1.5, 0.25, 2.0), trace=TRACE)
    ends = [LinkEnds(AccessLink(f"dev{i}", spec, spec), "a", "b", 1, (i, i)) for i in range(50)]
    document, _, _ = relay_parameters.describe(ends, 0)
    assert len(json.loads(document)["tables"]) == 2
    for _, (path,) in relay_parameters.unpack(document):
        assert path["jitter_table"] == array("d", (-1.5, 0.25, 2.0)).tobytes()
        assert path["trace_ns"] == array("q", (1_000_000, 2_000_000, 2_000_000, 5_000_000)).tobytes()


def test_every_direction_has_a_stream_of_its_own_and_the_same_in_every_run_of_a_seed() -> None:
    links = [AccessLink(f"dev{i}", GOOD, GOOD) for i in range(2)]
    seeds = [path["seed"] for run in (0, 1) for _, (path,) in servers(*links, seed=run)[0]]
    assert len(set(seeds)) == 8
    assert seeds[:4] == [path["seed"] for _, (path,) in servers(*links, seed=0)[0]]


@pytest.mark.parametrize(
    ("spec", "air", "words"),
    [
        (LinkSpec(2e9), None, "2e"),
        (LinkSpec(0.5), None, "0.5 bit/s"),
        (LinkSpec(1e6, outages=Outages(1, 1e-4)), None, "outages every 1 s of 0.0001 s"),
        (LinkSpec(1e6, jitter_table=(1.0,)), None, "a table of jitter"),
        (LinkSpec(1e6, jitter_table=(1.0, float("nan"))), None, "a table of jitter"),
        (LinkSpec(1e6, trace=TRACE), "round_robin", "trace t.trace says when"),
        (LinkSpec(1e6, trace=TRACE), "fixed", "trace t.trace says when"),
        (LinkSpec(1e6, trace=Trace("t", ())), None, "trace t does not ascend"),
        (LinkSpec(1e6, trace=Trace("t", (0, 0))), None, "trace t does not ascend"),
        (LinkSpec(1e6, trace=Trace("t", (5, 4))), None, "trace t does not ascend"),
    ],
)
def test_what_the_relay_cannot_do_it_refuses_by_name(
    spec: LinkSpec, air: Scheduler | None, words: str
) -> None:
    with pytest.raises(LinkError, match=f"^dev0 down: {words}") as refused:
        create().refuse(AccessLink("dev0", GOOD, spec, None if air is None else Air("a", air)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "change", "words"),
    [
        (GOOD, LinkChange(rate_bps=0), "a rate of 0 bit/s"),
        (GOOD, LinkChange(rate_bps=float("nan")), "a rate of nan"),
        (GOOD, LinkChange(rate_bps=2e9), "a rate of 2e"),
        (GOOD, LinkChange(delay_s=-1), "a delay of -1 s"),
        (GOOD, LinkChange(loss=1.0), "a loss of 1"),
        (LinkSpec(1e6, loss_burst=1.5), LinkChange(loss=0.7), "a loss of 0.7 in bursts of 1.5"),
        (LinkSpec(1e6, trace=TRACE), LinkChange(rate_bps=1e6), "its rate is what trace t.trace says"),
        (GOOD, LinkChange(air=Air("c")), "does not roam to the air of 'c'"),
    ],
)
def test_impossible_changes_are_refused_by_name(spec: LinkSpec, change: LinkChange, words: str) -> None:
    with pytest.raises(LinkError, match=f"^dev0 up: {words}"):
        relay_parameters.refuse_change(AccessLink("dev0", spec, GOOD, Air("a"), (Air("b"),)), "up", change)


def test_a_relay_that_does_not_run_changes_nothing() -> None:
    with pytest.raises(LinkError, match="there is no link dev0 up"):
        create().change(("dev0", "up"), LinkChange(up=False))


@given(st.integers(0, 2**35))
def test_a_lateness_quantile_is_never_understated_and_at_most_a_sixteenth_too_much(ns: int) -> None:
    sub = _relay.LATENESS_SUB_BITS
    exponent = max(0, ns.bit_length() - 1 - sub)
    bins = [0] * _relay.LATENESS_BINS
    bins[ns if ns < 1 << sub else (exponent << sub) + (ns >> exponent)] = 1
    assert ns < _quantile_ns(bins, 0.99) <= ns + max(1, ns / 16) + 1


def test_the_limit_on_lateness_follows_the_frame_time() -> None:
    assert lateness_limit_s(100e6) == 100e-6
    assert lateness_limit_s(1e6) == pytest.approx(0.05 * 12.112e-3)


def test_jitter_in_order_lets_frames_go_in_bursts_whose_last_may_be_later() -> None:
    assert lateness_limit_s(100e6, 0.0005) == 100e-6
    assert lateness_limit_s(100e6, 0.01) == pytest.approx(500e-6)


def test_lateness_is_told_of_frames_since_the_watch_began() -> None:
    def answer(late: int, punctual: int) -> bytes:
        bins = [0] * _relay.LATENESS_BINS
        bins[100], bins[5] = late, punctual
        delivered = late + punctual
        return _COUNTS.pack(0, 0, delivered, 0, *[0] * 7, 10_000) + struct.pack(f"={len(bins)}Q", *bins)

    whole, since = _unpack(answer(50, 200)), _unpack(answer(50, 200), since=answer(50, 0))
    assert whole.lateness_max_s == 10e-6 and whole.lateness_p99_s > 600e-9
    assert 0 < since.lateness_max_s == since.lateness_p99_s < 10e-9
    assert since.delivered_frames == whole.delivered_frames == 250
    assert _unpack(answer(50, 0), since=answer(50, 0)).lateness_max_s == 0
