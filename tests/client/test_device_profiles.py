"""Device profiles: seconds and watts from work and rate, and what a device cannot hold."""

from __future__ import annotations

import pytest

from client.device_profiles import PROFILES, Accelerator, Processor, fits
from client.sd15 import sd15_lora_layout, sd15_unet_layout
from client.unet_work import SD15_SAMPLE, TrainingWork, full_step, lora_step

FULL = full_step(sd15_unet_layout(), SD15_SAMPLE)
LORA = lora_step(sd15_unet_layout(), sd15_lora_layout(4), SD15_SAMPLE)


def test_a_step_takes_its_work_over_the_rate_that_is_sustained() -> None:
    device = Accelerator("mine", flops_per_s=4e12, utilisation=0.25, power_w=10.0)
    assert device.seconds_per_step(TrainingWork(flops=2e12, least_memory_bytes=1), batch_size=3) == 6.0
    assert fits(device, FULL) is None


def test_a_processor_is_the_literature_s() -> None:
    """C = 2e4 cycles a sample at 2 GHz: 10 us each; kappa f^3 = 1e-28 * 8e27 = 0.8 W."""
    device = Processor("cpu", cycles_per_sample=2e4, frequency_hz=2e9, kappa=1e-28)
    assert device.seconds_per_step(FULL, batch_size=100) == pytest.approx(1e-3)
    assert device.power_w == pytest.approx(0.8)


def test_seconds_per_step_of_stable_diffusion() -> None:
    """A sample a step. The server's share of its peak is the one that was measured on it."""
    seconds = {
        name: (p.seconds_per_step(LORA, 1), p.seconds_per_step(FULL, 1)) for name, p in PROFILES.items()
    }
    assert seconds["phone"] == pytest.approx((1.24, 1.72), abs=0.005)
    assert seconds["jetson_orin"] == pytest.approx((0.146, 0.203), abs=0.0005)
    assert seconds["server_gpu"][1] == pytest.approx(8 / 290, rel=0.01)
    names = ["phone", "laptop_gpu", "jetson_orin", "desktop_gpu", "server_gpu"]
    assert sorted(PROFILES, key=lambda name: -seconds[name][0]) == names


def test_what_a_device_cannot_hold_is_not_feasible() -> None:
    """13.75 GB for fp32 weights, gradients and Adam's moments; 1.73 GB for an fp16 base and an adapter."""
    assert {name for name, profile in PROFILES.items() if not fits(profile, FULL)} == {"phone", "laptop_gpu"}
    assert all(fits(profile, LORA) for profile in PROFILES.values())
