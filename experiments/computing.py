"""How long devices of an experiment train by their compute profiles, whether that fits their memory, and a
record of what was assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from client.device_profiles import DeviceProfile, fits
from client.training import Rank
from client.unet_work import TrainingWork
from experiments import model_shapes
from proto.exchange import TRAINER

if TYPE_CHECKING:
    from experiments.config import Experiment
    from experiments.config_network import Device


def profile_of(experiment: Experiment, device: Device) -> DeviceProfile | None:
    """What a device's training is timed by; None: it is measured, or told as seconds. Raises ValueError."""
    compute = experiment.compute
    if device.compute_profile is not None:
        return compute.find("network.devices[].compute_profile", device.compute_profile)
    if device.seconds_per_step is not None or compute.profile is None:
        return None
    return compute.find("compute.profile", compute.profile)


def seconds_per_step(experiment: Experiment, device: Device) -> float | None:
    """One local step of a device; None: measured. Raises ShapeError, a ValueError."""
    if (profile := profile_of(experiment, device)) is not None:
        return profile.seconds_per_step(work_of(experiment, device.rank), experiment.training.batch_size)
    if device.seconds_per_step is not None:
        return device.seconds_per_step
    return experiment.compute.seconds_per_step


def server_seconds_per_step(experiment: Experiment) -> float | None:
    """One step of central training on compute.server_profile; None: measured. Raises ShapeError."""
    if (name := experiment.compute.server_profile) is None:
        return experiment.compute.server_seconds_per_step
    profile = experiment.compute.find("compute.server_profile", name)
    return profile.seconds_per_step(work_of(experiment), experiment.training.batch_size)


def work_of(experiment: Experiment, rank: int | None = None) -> TrainingWork:
    """One step of the experiment's adapter, of `rank` where a device has its own. Raises ShapeError."""
    adapter = experiment.adapter
    trained: Rank = "full" if adapter.kind == "full" else rank or adapter.rank
    return model_shapes.training_work(experiment.base, trained, adapter.target_modules)


def check(experiment: Experiment) -> None:
    """Raises ValueError, naming the key, for profiles that are unknown, unused, or of an unknown model."""
    devices = [device for _, device in experiment.expanded_devices()]
    for number, device in enumerate(experiment.network.devices):
        if device.seconds_per_step is not None and device.compute_profile is not None:
            raise ValueError(
                f"network.devices.{number}.compute_profile: seconds_per_step says it otherwise; leave one out"
            )
    if experiment.compute.profile is not None and all(map(_has_its_own, devices)):
        raise ValueError("compute.profile: no device follows it, each has compute of its own; leave it out")
    try:
        for device in devices:
            seconds_per_step(experiment, device)
        server_seconds_per_step(experiment)
    except model_shapes.ShapeError as error:
        raise ValueError(f"compute: a profile needs to know how much work a step is: {error}") from error


def _has_its_own(device: Device) -> bool:
    return device.seconds_per_step is not None or device.compute_profile is not None


def _timed(experiment: Experiment) -> dict[str, tuple[DeviceProfile, TrainingWork]]:
    """Everybody who trains by a profile, and a step of theirs: devices, or centrally the server's trainer."""
    if experiment.training.scheme == "central":
        name = experiment.compute.server_profile
        server = None if name is None else experiment.compute.find("compute.server_profile", name)
        return {} if server is None else {TRAINER: (server, work_of(experiment))}
    return {
        name: (profile, work_of(experiment, device.rank))
        for name, device in experiment.expanded_devices()
        if (profile := profile_of(experiment, device)) is not None
    }


def powers_w(experiment: Experiment) -> dict[str, float]:
    """Of those who train by a profile, while they do."""
    return {name: profile.power_w for name, (profile, _) in _timed(experiment).items()}


def feasible(experiment: Experiment) -> dict[str, bool | None]:
    """Whether weights, gradients and moments fit those who train by a profile; None: not known."""
    return {name: fits(profile, work) for name, (profile, work) in _timed(experiment).items()}


def describe(experiment: Experiment) -> dict[str, Any]:
    """As JSON: what was assumed of everybody who trains by a profile."""
    batch_size = experiment.training.batch_size
    return {
        name: {
            "profile": vars(profile) | {"power_w": profile.power_w},
            "flops_per_sample": work.flops,
            "batch_size": batch_size,
            "seconds_per_step": profile.seconds_per_step(work, batch_size),
            "least_memory_bytes": work.least_memory_bytes,
            "feasible": fits(profile, work),
        }
        for name, (profile, work) in _timed(experiment).items()
    }


def warnings(experiment: Experiment) -> list[str]:
    """A line for each kind of device whose memory cannot hold what it is timed for."""
    lacking: dict[tuple[str, float, int], list[str]] = {}
    for name, assumed in describe(experiment).items():
        if assumed["feasible"] is False:
            profile = assumed["profile"]
            kind = profile["name"], profile["memory_bytes"], assumed["least_memory_bytes"]
            lacking.setdefault(kind, []).append(name)
    return [
        f"{', '.join(names)}: {profile} cannot train this: it has {memory / 1e9:.3g} GB for it, and weights, "
        f"gradients and Adam's moments alone take {least / 1e9:.3g} GB; its times are of one that could"
        for (profile, memory, least), names in lacking.items()
    ]
