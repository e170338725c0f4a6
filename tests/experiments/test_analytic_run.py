"""The analytic latency of a run's rounds, and the energy of its devices, from configuration and tables."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from experiments import analytic_run, config, energy, round_needs
from experiments.config import Experiment
from experiments.timeline import ClientRound, Round
from tests.conftest import CONFIGS

SMOKE = CONFIGS / "smoke.yaml"
DOWN, UP = 797_184 * 2, 797_184 + 2 * 12_456
"""fp16, and int8 with a scale of 2 bytes for 64 values."""


def latency_s(experiment: Experiment, number: int = 2, **outcomes: str) -> float | None:
    one = Round(number, 0.0)
    for name, _ in experiment.expanded_devices():
        one.clients[name] = ClientRound(number, name, outcome=outcomes.get(name, "finished"))
    (found,) = analytic_run.latencies_s(experiment, [one])
    return found


def test_a_round_lasts_as_long_as_its_slowest_device() -> None:
    """dev0 has 20 Mbit/s down, 10 up and 10 ms each way; dev1 50, 20 and 5 ms."""
    slow, fast = 8 * DOWN / 20e6 + 8 * UP / 10e6 + 0.020, 8 * DOWN / 50e6 + 8 * UP / 20e6 + 0.010
    assert latency_s(config.load(SMOKE)) == pytest.approx(slow)
    assert latency_s(config.load(SMOKE), dev0="lost") == pytest.approx(fast)
    assert latency_s(config.load(SMOKE), dev0="lost", dev1="late") is None
    computing = config.load(SMOKE, ["compute.seconds_per_step=2s", "training.steps=3"])
    assert latency_s(computing) == pytest.approx(slow + 6)


def test_a_shared_air_is_shared() -> None:
    """Both receive at once: dev1 is done after twice its airtime, dev0 after the sum. They send apart."""
    slow, fast = 8 * DOWN / 20e6, 8 * DOWN / 50e6
    done0 = slow + fast + 0.010 + 8 * UP / 10e6 + 0.010
    done1 = 2 * fast + 0.005 + 8 * UP / 20e6 + 0.005
    experiment = config.load(SMOKE, ["network.sharing=round_robin"])
    assert latency_s(experiment) == pytest.approx(done0)
    assert latency_s(experiment, dev0="lost") == pytest.approx(done1)
    halves = config.load(SMOKE, ["network.sharing=fixed"])
    assert latency_s(halves) == pytest.approx(2 * slow + 2 * 8 * UP / 10e6 + 0.020)


def test_a_channel_s_rate_is_shannon_s_of_the_mean_gain_where_devices_begin() -> None:
    """128.1 + 37.6 log10 0.3 = 108.44 dB; 23 - 108.44 + 174 - 5 = 83.56 dB Hz, 10.55 dB in 20 MHz."""
    section = (
        "{path_loss: {model: macro}, frequency: 2GHz, shadowing: {deviation: 0dB}, mobility: {positions: "
    )
    section += "[{x: 550m, y: 250m}]}, map: {width: 600m, height: 500m}, cells: [{x: 250m, y: 250m}]}"
    keys = ["network.devices=[{up: {delay: 5ms}, down: {delay: 5ms}}]", f"network.channel={section}"]
    rates = analytic_run.rates_bps(config.load(SMOKE, keys))
    assert rates["up"]["dev0"] == pytest.approx(20e6 * math.log2(1 + 10**1.0555), rel=1e-3)


def test_what_the_configuration_does_not_tell_is_missing() -> None:
    assert latency_s(config.load(CONFIGS / "cell.yaml")) is None  # Training is measured.
    link = "{down: {rate: 1mbit}, up: {rate: 1mbit}}"
    remote = [f"network.devices=[{link}, {{remote: true}}]", "federation.remote_listen=127.0.0.1:50061"]
    assert latency_s(config.load(SMOKE, remote)) is None


@pytest.mark.parametrize(
    ("method", "number", "values"),
    [
        ("fedit", 1, (797_184, 797_184)),
        ("ffa", 1, (399_360, 399_360)),  # B alone, which begins at zero but is sent all the same
        ("rolora", 2, (399_360, 397_824)),  # down B, which was trained, and up A
        ("flora", 1, (0, 797_184)),
        ("flora", 2, (2 * 797_184, 797_184)),
        ("fedex", 2, (2 * 797_184, 797_184)),  # A and B, and a residual of rank (2 - 1) 4
    ],
)
def test_what_crosses_is_the_method_s(method: str, number: int, values: tuple[int, int]) -> None:
    exact = ["uplink.codec=fp32", "downlink.codec=fp32"]
    experiment = config.load(SMOKE, [f"aggregation.method={method}", *exact])
    sizes = round_needs.payload_bytes(experiment, number, 4)
    assert sizes == (4 * values[0], 4 * values[1])


def test_a_round_after_the_first_brings_differences() -> None:
    experiment = config.load(SMOKE, ["downlink={delta: true, codec: int8}"])
    assert [round_needs.payload_bytes(experiment, number, 4)[0] for number in (1, 2)] == [797_184 * 4, UP]
    varying = config.load(SMOKE, ["uplink.codec=int4|ans"])
    assert round_needs.payload_bytes(varying, 1, 4)[1] == pytest.approx(797_184 * 3.63 / 8, rel=0.01)


def test_central_training_sends_data_trains_and_brings_the_adapter() -> None:
    """10 images of 100 kB up; 2 devices' 3 steps of 0.5 s; the adapter down. dev0 is the slower."""
    keys = ["training={scheme: central, trainer: synthetic, steps: 3}", "uplink.codec=fp32", "rounds=3"]
    keys += ["central={images: 10, image_bytes: 100kB}", "compute.server_seconds_per_step=500ms"]
    experiment = config.load(SMOKE, keys)
    up, down = 8 * 1e6 / 10e6 + 0.010, 8 * DOWN / 20e6 + 0.010
    assert [latency_s(experiment, number) for number in (1, 2, 3)] == pytest.approx([up + 3, 3, 3 + down])
    assert latency_s(experiment, 1, dev1="lost") is None
    kept = config.load(SMOKE, [*keys, "central.deliver=false", "downlink.codec=fp32"])
    assert latency_s(kept, 3) == pytest.approx(3)


def test_local_training_sends_nothing() -> None:
    keys = ["training={scheme: local, trainer: synthetic, steps: 3}", "compute.seconds_per_step=2s"]
    experiment = config.load(SMOKE, [*keys, "uplink.codec=fp32", "downlink.codec=fp32"])
    assert latency_s(experiment) == pytest.approx(6 + 0.020)  # And the way there and back.


def test_energy_is_power_for_as_long_as_it_takes() -> None:
    """A phone computes at 5 W and sends at 23 dBm, 0.2 W; what receiving draws has to be said."""
    rows = [
        {"client": "dev0", "remote": False, "compute_s": 10.0, "upload_s": 4.0, "download_s": 2.0},
        {"client": "dev1", "remote": False, "compute_s": None, "upload_s": None, "download_s": 2.0},
    ]
    keys = ["compute.profile=phone", "training.batch_size=1"]
    found = energy.with_energy(pd.DataFrame(rows), config.load(SMOKE, keys))
    assert found["energy_compute_j"][0] == pytest.approx(50) and math.isnan(found["energy_compute_j"][1])
    assert found["energy_radio_j"][0] == pytest.approx(4 * 0.19953, rel=1e-4)
    assert math.isnan(found["energy_radio_j"][1]) and found["feasible"].tolist() == [True, True]
    power = ["network.power={transmit: 500mW, receive: 1W}"]
    found = energy.with_energy(pd.DataFrame(rows), config.load(SMOKE, power))
    assert found["energy_radio_j"][0] == pytest.approx(4 * 0.5 + 2 * 1.0)
    assert math.isnan(found["energy_compute_j"][0]) and pd.isna(found["feasible"][0])
    wireless = config.load(CONFIGS / "wireless.yaml", ["network.channel.up.power=20dBm"])
    found = energy.with_energy(pd.DataFrame(rows), wireless)
    assert found["energy_radio_j"][0] == pytest.approx(4 * 0.1)
