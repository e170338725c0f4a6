"""Rounds of whole transfers from rounds of their first part, against a model that sends them whole."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulation.link import AccessLink, Air, LinkSpec
from experiments import record, timeline
from experiments.extrapolation.part import EmulatedPart
from experiments.extrapolation.rounds import Extrapolation, extrapolate
from experiments.figures import bytes as bytes_figure
from experiments.figures import latency, style, sweep
from experiments.timeline import Event, Round
from tests.experiments.test_record import counters, event

PART, WHOLE = 4_000_000, 16_000_000
STEP_S = 0.01


@dataclass(frozen=True)
class Device:
    """What it does in a round; rates in bit/s of payload when it is alone."""

    down_bps: float = 8e6
    up_bps: float = 4e6
    slow_start_s: float = 0.4
    compute_s: float = 5.0


def link(name: str, device: Device, air: Air | None = None) -> AccessLink:
    up, down = (LinkSpec(1.05 * rate, 0.01) for rate in (device.up_bps, device.down_bps))
    return AccessLink(name, up=up, down=down, air=air)


def events(devices: dict[str, Device], size: int, *, shared: bool = False) -> list[Event]:
    """One round in steps of 10 ms, in each of which everyone who has something to send gets his share."""
    found = [event(0.0, name, "connected", **counters(0, 0)) for name in devices]
    found.append(event(10.0, "server", "round_start", round=1, cohort=list(devices)))
    state = dict.fromkeys(devices, ("down", 0.0))
    ends: dict[str, float] = {}
    for name in devices:
        found.append(event(10.1, "server", "download_start", round=1, client=name, payload_bytes=size))
    t = 10.1
    while len(ends) < len(devices):
        for way in ("down", "up"):
            sending = [name for name, (phase, _) in state.items() if phase == way]
            for name in sending:
                had = state[name][1] + STEP_S / (len(sending) if shared else 1)
                state[name] = (way, had)
                rate = devices[name].down_bps if way == "down" else devices[name].up_bps
                done = min(size, max(0.0, (had - devices[name].slow_start_s) * rate / 8))
                found += _sent(name, way, t, done, size)
                if done >= size and way == "down":
                    state[name] = ("computes", t + devices[name].compute_s)
                    found += _downloaded(name, t, size, devices[name].compute_s)
                elif done >= size:
                    state[name] = ("done", 0.0)
                    ends[name] = t
                    found += _uploaded(name, t, size)
        for name, (phase, until) in state.items():
            if phase == "computes" and t >= until:
                state[name] = ("up", 0.0)
                found.append(event(t, name, "upload_start", round=1, attempt=1, offset=0))
        t += STEP_S
    closes = max(ends.values()) + 0.02
    outcomes = dict.fromkeys(devices, "finished")
    found.append(event(closes, "server", "aggregate_start", round=1))
    found.append(event(closes + size * 1e-8, "server", "round_end", round=1, outcomes=outcomes, weight=1))
    return sorted(found, key=lambda one: one["t"])


def _sent(name: str, way: str, t: float, done: float, size: int) -> list[Event]:
    if not 0 < done < size or size == WHOLE:
        return []
    if way == "down":
        return [event(t, name, "download_progress", round=1, done=done)]
    # Ten segments in slow start, and one for each 400 kB.
    again = {"retransmitted_segments": 10 + int(done / 400_000)}
    return [
        event(t, "server", "upload_arriving", round=1, client=name, done=done),
        event(t - 0.1, name, "upload_progress", round=1, done=done, **again),
    ]


def _downloaded(name: str, t: float, size: int, compute_s: float) -> list[Event]:
    wire = counters(round(size * 0.023), round(size * 1.046))
    return [
        event(
            t, name, "download_end", round=1, payload_bytes=size, message_bytes=size + size // 1000, **wire
        ),
        event(t, name, "compute_start", round=1),
        event(t + compute_s - 0.02, name, "compute_end", round=1, steps=1, loss=None, cpu_s=size * 1e-9),
        event(t + compute_s - 0.01, name, "encode_end", round=1, payload_bytes=size, **wire),
    ]


def _uploaded(name: str, t: float, size: int) -> list[Event]:
    again = 10 + int(size / 400_000)
    wire = counters(round(size * 1.069) + again * 1514, round(size * 1.069), again)
    whole = {"payload_bytes": size, "message_bytes": size + size // 1000}
    return [
        event(t, "server", "upload_received", round=1, client=name, loss=None, steps=1, **whole),
        event(
            t + 0.03, name, "upload_end", round=1, status="STATUS_OK", attempts=1, encode_cpu_s=0.1, **wire
        ),
    ]


def extrapolated(
    devices: dict[str, Device], *, air: Air | None = None, deadline_s: float = 1e6, size: int = PART
) -> Extrapolation:
    shared = air is not None and air.scheduler != "fixed"
    rounds = timeline.build(events(devices, size, shared=shared))
    part = EmulatedPart(size // 4, WHOLE // 4, whole_down_bytes=WHOLE, whole_up_bytes=WHOLE)
    return extrapolate(
        rounds, part, links_of(devices, air), profiled=frozenset(devices), deadline_s=deadline_s
    )


def links_of(devices: dict[str, Device], air: Air | None = None) -> dict[str, AccessLink]:
    return {name: link(name, device, air) for name, device in devices.items()}


def table(rounds: list[Round], devices: dict[str, Device]) -> pd.DataFrame:
    return record.clients_table(rounds, links_of(devices))


devices = st.lists(
    st.builds(Device, st.floats(4e6, 1e7), st.floats(4e6, 1e7), st.floats(0, 0.5), st.floats(0.1, 9)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=12)
@given(devices, st.sampled_from([None, Air("cell"), Air("cell", "fixed")]))
def test_the_whole_is_as_if_all_of_it_had_been_sent(some: list[Device], air: Air | None) -> None:
    """Every phase, the round's latency, and bytes; on links of their own and in a shared cell."""
    named = {f"dev{index}": device for index, device in enumerate(some)}
    found = extrapolated(named, air=air)
    shared = air is not None and air.scheduler != "fixed"
    (truth,) = timeline.build(events(named, WHOLE, shared=shared))
    (whole,) = found.rounds
    assert whole.latency_s == pytest.approx(truth.latency_s, rel=5e-3)
    ours, theirs = table([whole], named), table([truth], named)
    assert ours["extrapolated"].all() and not theirs["extrapolated"].any()
    for column in ("download_s", "compute_s", "upload_s", "payload_up_bytes", "payload_down_bytes"):
        assert ours[column].to_numpy() == pytest.approx(theirs[column].to_numpy(), rel=5e-3), column
    assert ours["aggregate_s"].to_numpy() == pytest.approx(theirs["aggregate_s"].to_numpy(), rel=1e-3)
    for column in ("message_up_bytes", "message_down_bytes", "wire_down_bytes", "wire_up_bytes", "cpu_s"):
        assert ours[column].to_numpy() == pytest.approx(theirs[column].to_numpy(), rel=5e-3), column
    assert ours["wait_s"].to_numpy() == pytest.approx(theirs["wait_s"].to_numpy(), abs=0.5)
    again = [ours["retransmitted_segments"].iloc[0], theirs["retransmitted_segments"].iloc[0]]
    assert again[0] == pytest.approx(again[1], rel=0.2)
    if not any("acknowledgements" in reason for reason in found.reasons):
        assert found.reasons == []
    assert record.contradictions(ours, links_of(named)) == []


def test_what_was_really_sent_is_on_record() -> None:
    found = extrapolated({"dev0": Device()})
    down, up = found.rows
    assert (down["direction"], down["emulated_bytes"], down["payload_bytes"]) == ("down", PART, WHOLE)
    assert down["emulated_s"] == pytest.approx(4.4, abs=0.05)
    assert down["payload_s"] == pytest.approx(16.4, abs=0.1)
    assert up["steady"] and up["steady_rate_bps"] == pytest.approx(4e6, rel=1e-3)


def test_later_rounds_begin_later() -> None:
    first = events({"dev0": Device()}, PART)
    more = [
        e | {"t": e["t"] + 100 * (number - 1), "round": number}
        for number in (2, 3)
        for e in first
        if e["event"] != "connected"
    ]
    part = EmulatedPart(PART // 4, WHOLE // 4, WHOLE, WHOLE)
    links = links_of({"dev0": Device()})
    found = extrapolate(
        timeline.build([*first, *more]), part, links, profiled=frozenset(["dev0"]), deadline_s=1e6
    )
    one, two, three = found.rounds
    longer_s = 12 + 24 + 0.12  # 12 MB more at 8 and at 4 Mbit/s, and to average
    assert [one.start, two.start, three.start] == pytest.approx(
        [10, 110 + longer_s, 210 + 2 * longer_s], abs=0.1
    )
    assert one.latency_s == pytest.approx(two.latency_s)


def test_work_without_a_profile_grows_with_the_vector() -> None:
    named = {"dev0": Device(compute_s=0.5)}
    part = EmulatedPart(PART // 4, WHOLE // 4, WHOLE, WHOLE)
    rounds = timeline.build(events(named, PART))
    found = extrapolate(rounds, part, links_of(named), profiled=frozenset(), deadline_s=1e6)
    assert table(found.rounds, named)["compute_s"].item() == pytest.approx(0.48 * 4)


def test_a_payload_of_varying_length_grows_with_the_values() -> None:
    named = {"dev0": Device()}
    part = EmulatedPart(PART // 4, WHOLE // 4, WHOLE, None)
    found = extrapolate(
        timeline.build(events(named, PART)), part, links_of(named), profiled=frozenset(), deadline_s=1e6
    )
    assert table(found.rounds, named)["payload_up_bytes"].item() == 4 * PART


def test_a_rate_that_is_not_steady_is_named() -> None:
    """An upload of 16 ms has two marks."""
    found = extrapolated({"dev0": Device(), "dev1": Device(up_bps=2e8)}, size=400_000)
    assert found.reasons and all("not steady after 0.4 MB" in reason for reason in found.reasons)
    assert any(
        "round 1, dev1: upload not steady" in reason and "too few" in reason for reason in found.reasons
    )


def test_a_device_that_did_not_finish_leaves_the_round_as_it_was() -> None:
    named = {"dev0": Device(), "dev1": Device()}
    rounds = timeline.build(events(named, PART))
    rounds[0].clients["dev1"].outcome = "lost"
    part = EmulatedPart(PART // 4, WHOLE // 4, WHOLE, WHOLE)
    found = extrapolate(rounds, part, links_of(named), profiled=frozenset(named), deadline_s=1e6)
    assert found.reasons == ["round 1 cannot be extrapolated: it ended without dev1"]
    assert found.rounds[0].latency_s == rounds[0].latency_s
    assert not found.rounds[0].clients["dev0"].extrapolated


def test_a_round_that_its_deadline_would_have_closed_is_named() -> None:
    (reason,) = extrapolated({"dev0": Device()}, deadline_s=40).reasons
    assert "round 1 would last 54 s, and federation.round_deadline=40s" in reason


def test_uploads_beside_downloads_in_a_shared_cell_are_not_extrapolated() -> None:
    """dev0 uploads while dev1 downloads, whose acknowledgements at 1 Mbit/s take 7 % of the air up."""
    quick, slow = Device(2e7, 2e7, 0, 0.1), Device(4e6, 1e6, 0, 0.1)
    found = extrapolated({"dev0": quick, "dev1": slow}, air=Air("cell"))
    assert any("whose acknowledgements may take" in reason for reason in found.reasons)
    assert extrapolated({"dev0": quick, "dev1": slow}).reasons == []


def test_more_airtime_than_a_cell_has_is_named() -> None:
    """Events of links of their own, said to be of a shared cell: each seems twice as fast as its link."""
    named = {"dev0": Device(), "dev1": Device()}
    part = EmulatedPart(PART // 4, WHOLE // 4, WHOLE, WHOLE)
    rounds, links = timeline.build(events(named, PART)), links_of(named, Air("cell"))
    found = extrapolate(rounds, part, links, profiled=frozenset(named), deadline_s=1e6)
    assert len(found.reasons) == 4
    assert found.reasons[0] == (
        "round 1, dev0: download seems to have had 2.2 s of airtime, and its link takes 3.8 s"
    )


def test_a_rate_faster_than_the_link_stays_a_contradiction() -> None:
    """Extrapolated or not: 16 MB cannot cross in less than they keep the link busy."""
    named = {"dev0": Device()}
    clients = table(extrapolated(named).rounds, named)
    slower = {"dev0": AccessLink("dev0", up=LinkSpec(3.9e6), down=LinkSpec(7.5e6))}
    assert len(record.contradictions(clients, slower)) == 2


def test_figures_hatch_what_was_extrapolated() -> None:
    named = {"dev0": Device()}
    for draw in (latency.draw, bytes_figure.draw):
        for rounds, looks in (
            (extrapolated(named).rounds, {"////"}),
            (timeline.build(events(named, PART)), set()),
        ):
            figure = draw(table(rounds, named))
            hatched = {
                patch.get_hatch() for axes in figure.axes for patch in axes.patches if patch.get_hatch()
            }
            assert hatched == looks
            texts = [text.get_text() for text in figure.legends[0].get_texts()]
            assert (style.EXTRAPOLATED_NOTE in texts) == bool(looks)


def test_a_sweep_s_figure_rings_extrapolated_trials() -> None:
    results = pd.DataFrame({"rate": [1, 2], "latency_mean_s": [3.0, 2.0], "valid": True, "outcome": "valid"})
    metric = sweep.Metric("latency_mean_s", "latency (s)")
    for marked in ([True, False], [False, False]):
        figure = sweep.draw(results.assign(extrapolated=marked), ["rate"], [metric])
        rings = [line for line in figure.axes[0].lines if line.get_markersize() == 10]
        assert sum(len(line.get_xdata()) for line in rings) == sum(marked)  # type: ignore[arg-type]
        assert len(figure.legends) == any(marked)
