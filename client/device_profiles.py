"""Named devices: what they compute in a second while they train, what they draw, and what they can hold.

A device trains at `flops_per_s` times `utilisation`: a rate from its maker or a measurement, and the share of
it that training sustains. Work in FLOPs is client/unet_work.py's; time is work over rate, energy power times
time. What is assumed here can be said otherwise in a configuration (`compute.profiles`).

The share. A full step of Stable Diffusion at 512x512 is 2.41 TFLOP a sample. MosaicML's training of Stable
Diffusion 2 base (the same UNet but for its text width) takes 290 samples/s on eight A100s with latents and
texts encoded before (github.com/mosaicml/diffusion, README): 87 of the 312 TFLOP/s that NVIDIA's A100 data
sheet has for bf16, 28 %. The other NVIDIA devices are assumed to reach the same share of their 16-bit tensor
peak with fp32 accumulation, without sparsity, and the share to be the same for any batch: small models and
small batches sustain less.

- `phone`: Samsung Galaxy S23 Ultra, Adreno 740. Google ran Stable Diffusion 1.4 on it in fp16, 20 steps of
  two samples (with and without text, for guidance) in 11.5 s (Chen et al., arXiv 2304.11267): 32.1 TFLOP, 2.8
  TFLOP/s. Training at half of that, 5 W meanwhile, and half of its 8 GB for one application are assumptions.
- `jetson_orin`: NVIDIA Jetson AGX Orin 64 GB: 170 TOPS of sparse int8 on its GPU's tensor cores (Jetson AGX
  Orin Series technical brief), a quarter of it in dense fp16: 42.5 TFLOP/s; 60 W, its highest power mode.
- `laptop_gpu`: NVIDIA GeForce RTX 4060 Laptop, 8 GB, at its most, 115 W and 2.37 GHz: 3,072 cores of two
  FLOPs a cycle make 14.6 TFLOP/s in fp32; Ada's tensor cores have twice that in fp16.
- `desktop_gpu`: NVIDIA GeForce RTX 4090, 24 GB: 165.2 TFLOP/s in fp16 with fp32 accumulation (NVIDIA Ada GPU
  Architecture white paper, appendix A); 450 W.
- `server_gpu`: NVIDIA A100 80 GB SXM: 312 TFLOP/s in bf16; 400 W (its data sheet).

That GPUs draw the power they are limited to while they train is an assumption on the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from client.unet_work import TrainingWork

_TRAINING_SHARE = 0.28
"""290 samples/s / 8 GPUs * 2.41 TFLOP / 312 TFLOP/s."""


class DeviceProfile(Protocol):
    """A device that training is timed by."""

    @property
    def name(self) -> str: ...

    @property
    def power_w(self) -> float:
        """Drawn while it trains."""
        ...

    @property
    def memory_bytes(self) -> float | None:
        """What training may take of its memory; None: not said."""
        ...

    def seconds_per_step(self, work: TrainingWork, batch_size: int) -> float:
        """One training step of a batch."""
        ...


@dataclass(frozen=True)
class Accelerator:
    """A device by its rate of arithmetic."""

    name: str
    flops_per_s: float
    utilisation: float
    power_w: float
    memory_bytes: float | None = None

    def seconds_per_step(self, work: TrainingWork, batch_size: int) -> float:
        """FLOPs of the batch over the rate that is sustained."""
        return batch_size * work.flops / (self.flops_per_s * self.utilisation)


@dataclass(frozen=True)
class Processor:
    """A device as the literature on wireless federated learning has it: T = C D / f, E = kappa C D f^2.

    `cycles_per_sample` is C, for one training step of one sample whatever the model; D are the samples,
    `frequency_hz` is f, and `kappa` the effective switched capacitance. Its power is kappa f^3.
    """

    name: str
    cycles_per_sample: float
    frequency_hz: float
    kappa: float
    memory_bytes: float | None = None

    @property
    def power_w(self) -> float:
        return self.kappa * self.frequency_hz**3

    def seconds_per_step(self, work: TrainingWork, batch_size: int) -> float:
        """Cycles of the batch over the clock's rate."""
        return batch_size * self.cycles_per_sample / self.frequency_hz


PROFILES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        Accelerator("phone", flops_per_s=2.8e12, utilisation=0.5, power_w=5.0, memory_bytes=4e9),
        Accelerator("jetson_orin", 42.5e12, _TRAINING_SHARE, power_w=60.0, memory_bytes=64e9),
        Accelerator("laptop_gpu", 29.1e12, _TRAINING_SHARE, power_w=115.0, memory_bytes=8e9),
        Accelerator("desktop_gpu", 165.2e12, _TRAINING_SHARE, power_w=450.0, memory_bytes=24e9),
        Accelerator("server_gpu", 312e12, _TRAINING_SHARE, power_w=400.0, memory_bytes=80e9),
    )
}


def fits(profile: DeviceProfile, work: TrainingWork) -> bool | None:
    """Whether a device can hold what training takes at least; None where its memory is not known."""
    return None if profile.memory_bytes is None else work.least_memory_bytes <= profile.memory_bytes
