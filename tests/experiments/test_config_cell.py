"""`network.cell`: the division reaches links and channel, and what cannot be divided is refused."""

from __future__ import annotations

import math

import pytest

from experiments import analytic_run, config, round_needs
from experiments.config import ConfigError, Experiment
from tests.conftest import CONFIGS

DIVIDED, SMOKE = CONFIGS / "divided.yaml", CONFIGS / "smoke.yaml"
FIXED = ["network.sharing=fixed", "network.cell.allocation=equal"]


def done_s(experiment: Experiment) -> dict[str, float]:
    """By the analytic model, in a usual round."""
    needs = round_needs.needs(experiment, 2)
    assert needs is not None
    return analytic_run.done_s(experiment.links(), analytic_run.rates_bps(experiment), needs)


def test_a_device_s_link_has_the_rate_of_its_own_band_with_the_noise_of_that_band() -> None:
    experiment = config.load(DIVIDED, ["network.cell.allocation=equal"])
    network = experiment.network
    assert network.channel is not None
    for way in ("down", "up"):
        whole_hz, snr_hz = network.channel.spectrum(way, ["dev0", "dev1", "dev2"])
        assert whole_hz == 2e6
        for link, snr in zip(experiment.links(), snr_hz, strict=True):
            band = 2e6 / 3
            expected = band * math.log2(1 + float(snr) / band)
            assert getattr(link, way).rate_bps == pytest.approx(expected, rel=1e-9)
            # More than a third of what it has with all of the band, where the noise is three times as much.
            assert expected > 2e6 * math.log2(1 + float(snr) / 2e6) / 3
            assert link.air is None
    # 650 m - 500 m = 150 m: 128.1 + 37.6 log10 0.15 = 97.12 dB; 23 dBm + 174 - 5 dB.
    _, snr_hz = network.channel.spectrum("up", ["dev0", "dev1", "dev2"])
    assert snr_hz[2] == pytest.approx(10 ** ((23 - 97.12 + 174 - 5) / 10), rel=1e-3)


def test_links_with_a_rate_get_a_share_of_the_airtime_and_as_long_a_queue() -> None:
    alone = config.load(SMOKE).links()
    halves = config.load(SMOKE, FIXED).links()
    for one, half in zip(alone, halves, strict=True):
        assert (half.up.rate_bps, half.down.rate_bps) == (one.up.rate_bps / 2, one.down.rate_bps / 2)
        assert half.up.queue_bytes == one.up.queue_bytes / 2 and half.air is None  # 200 ms of either
    # The uplinks have 10 and 20 Mbit/s; min-max has both done at once.
    shares = config.load(SMOKE, ["network.sharing=fixed", "network.cell.allocation=minmax"]).network.division
    assert shares is not None and not shares.in_hz
    assert shares.ways["up"].finish_s[0] == pytest.approx(shares.ways["up"].finish_s[1], rel=1e-9)


def test_min_max_is_what_the_model_has_done_first_and_all_at_once() -> None:
    latest = {}
    for policy in ("equal", "proportional", "minmax"):
        experiment = config.load(DIVIDED, [f"network.cell.allocation={policy}"])
        done = done_s(experiment)
        latest[policy] = max(done.values())
        division = experiment.network.division
        assert division is not None
        assert list(done.values()) == pytest.approx(division.ways["up"].finish_s, rel=1e-9)
        assert sum(division.ways["up"].parts) == pytest.approx(2e6)
        described = division.describe()
        assert described["policy"] == policy and set(described["up"]["dev0"]) == {
            "bandwidth_hz", "rate_bps", "done_s"
        }  # fmt: skip
    assert latest["minmax"] < 0.9 * latest["equal"] and latest["minmax"] < latest["proportional"]
    assert list(done.values()) == pytest.approx([latest["minmax"]] * 3)


def test_the_manifest_s_configuration_is_the_same_experiment() -> None:
    for file, keys in ((DIVIDED, []), (SMOKE, FIXED)):
        experiment = config.load(file, keys)
        assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("file", "overrides", "says"),
    [
        (
            SMOKE,
            ["network.cell.allocation=equal"],
            "cell: says how sharing=fixed divides it, and sharing is none",
        ),
        (SMOKE, [*FIXED, "network.sharing=round_robin"], "cell: says how sharing=fixed divides it"),
        (SMOKE, [*FIXED, "network.cell.allocation=best"], "network.cell.allocation: "),
        (CONFIGS / "multicell.yaml", FIXED, "cell: goes with topology cell"),
        (CONFIGS / "cell.yaml", FIXED, "network.cell: how long devices train is measured; a division needs"),
        (
            DIVIDED,
            ["network.channel.rate=cqi"],
            r"cell: .* it needs channel.rate=capacity|channel.rate=capacity",
        ),
        (DIVIDED, ["network.channel.mobility={model: random_waypoint}"], "channel.mobility.model=static"),
        (
            DIVIDED,
            ["network.channel.up.power=-160dBm"],
            "network.cell: dev0: up, it is out of the cell's range",
        ),
        (
            DIVIDED,
            ["training.scheme=local", "uplink.codec=fp32", "downlink.codec=fp32"],
            "is divided for rou",
        ),
        (DIVIDED, ["network.power.transmit=1W"], "power.transmit: comes from network.channel.up.power"),
    ],
)
def test_what_cannot_be_is_one_line(file: object, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(file, overrides)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
