"""Calibration: right links pass, wrong ones do not, and what was not tested says so."""

from __future__ import annotations

from typing import Any

import pytest

from emulation.calibration import _judge_delay
from tests.emulation.sandboxed import report


def by_metric(checks: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(check["link"], check["direction"], check["metric"]): check for check in checks}


def test_the_delay_gate_is_design_md_s_and_widens_with_jitter_only() -> None:
    median, gate, passed = _judge_delay(0.04, [0.0402] * 20, 0.0)
    assert (median, gate, passed) == (0.0402, "-0.1/+0.5 ms", True)
    assert not _judge_delay(0.04, [0.0398] * 20, 0.0)[2]
    assert not _judge_delay(0.04, [0.0406] * 20, 0.0)[2]
    assert _judge_delay(0.04, [0.0406] * 20, 0.001)[2]
    assert not _judge_delay(0.04, [0.0413] * 20, 0.001)[2]


def test_right_links_pass_the_quick_checks() -> None:
    found = report(
        """
        links = [
            AccessLink("dev0", LinkSpec(5e6, 0.02), LinkSpec(20e6, 0.02)),
            AccessLink("dev1", LinkSpec(10e6, 0.01, loss=0.02), LinkSpec(50e6, 0.01, loss=0.0001)),
        ]
        with Network(links, backend="relay", seed=5) as network:
            start = time.monotonic()
            checks = calibrate(network, quick=True)
            took = time.monotonic() - start
            counters = [dataclasses.asdict(c) for c in network.counters().values()]
        print(json.dumps([took, [dataclasses.asdict(check) for check in checks], counters]))
        """
    )
    took, checks, counters = found[0], by_metric(found[1]), found[2]
    assert took < 20
    assert [key for key, check in checks.items() if check["passed"] is False] == []
    expected = {("both", "rtt")} | {
        (way, metric) for way in ("up", "down") for metric in ("delay", "rate", "loss")
    }
    for device in ("dev0", "dev1"):
        assert {(way, metric) for name, way, metric in checks if name == device} == expected
    assert checks["dev0", "down", "rate"]["measured"] == pytest.approx(20e6, rel=0.01)
    assert checks["dev0", "both", "rtt"]["measured"] == pytest.approx(0.0402, abs=0.0006)
    assert checks["dev1", "up", "loss"]["passed"] is True
    untested = checks["dev1", "down", "loss"]
    assert untested["passed"] is None
    assert untested["gate"].startswith("not tested in quick mode: 1000000 frames")
    for count in counters:
        dropped = count["drops_queue"] + count["drops_loss"] + count["drops_device"]
        assert count["offered_frames"] == count["delivered_frames"] + dropped
        assert count["drops_device"] == 0


def test_links_that_are_not_as_configured_fail_by_name() -> None:
    found = report(
        """
        class Claim:
            "A network that says of itself what is not so."
            def __init__(self, network, links):
                self.links, self.pid, self.ip = links, network.pid, network.ip

        true = [
            AccessLink("dev0", LinkSpec(10e6, 0.02), LinkSpec(10e6, 0.02)),
            AccessLink("dev1", LinkSpec(5e6, 0.012, loss=0.04), LinkSpec(10e6, 0.01)),
        ]
        claimed = [
            AccessLink("dev0", LinkSpec(12e6, 0.02), LinkSpec(8e6, 0.02)),
            AccessLink("dev1", LinkSpec(5e6, 0.01, loss=0.02), LinkSpec(10e6, 0.012)),
        ]
        with Network(true, backend="relay", seed=5) as network:
            checks = calibrate(Claim(network, claimed), quick=True)
        print(json.dumps([dataclasses.asdict(check) for check in checks]))
        """
    )
    failed = {key for key, check in by_metric(found).items() if check["passed"] is False}
    assert failed == {
        ("dev0", "up", "rate"),
        ("dev0", "down", "rate"),
        ("dev1", "up", "delay"),
        ("dev1", "down", "delay"),
        ("dev1", "up", "loss"),
    }


def test_full_checks_add_queue_jitter_and_goodput() -> None:
    found = report(
        """
        links = [
            AccessLink("dev0", LinkSpec(20e6, 0.005), LinkSpec(40e6, 0.005)),
            AccessLink("dev1", LinkSpec(20e6, 0.02, 0.002), LinkSpec(20e6, 0.02)),
        ]
        with Network(links, backend="relay", seed=5) as network:
            checks = calibrate(network, quick=False)
        print(json.dumps([dataclasses.asdict(check) for check in checks]))
        """
    )
    checks = by_metric(found)
    assert [key for key, check in checks.items() if check["passed"] is False] == []
    for way, rate_bps in (("up", 20e6), ("down", 40e6)):
        goodput, queue = checks["dev0", way, "goodput"], checks["dev0", way, "queue"]
        assert goodput["passed"] and goodput["configured"] == pytest.approx(rate_bps * 1448 / 1514)
        assert queue["passed"] and queue["configured"] == pytest.approx(8 * 64 * 1514 / rate_bps)
    assert checks["dev1", "up", "jitter"]["passed"] is True
    assert checks["dev1", "up", "goodput"]["passed"] is None
