"""How many trials a machine can run beside each other without one of them changing what another measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments import computing
from experiments.config import Experiment

_RELAY, _TRANSPORT, _REST = 1, 1, 1
"""Cores: for the relay, which is real-time and spins before each frame (netem's work in the kernel is no
less); for a server and its devices while they encode, send, decode and add; and for all else on the machine,
this sweep too."""


@dataclass(frozen=True)
class Fit:
    """How many trials at a time, and why no more."""

    jobs: int
    reason: str


def fitting(experiments: Sequence[Experiment], cores: int) -> Fit:
    """What `cores` carry of these experiments.

    Where compute is measured it is one: a neighbour takes cores, caches and memory bandwidth, and that time
    would be in the result. Elsewhere links are real-time and transport's work is in every latency, so each
    trial has cores to itself, and one is left for the rest; two cores run one. A run that was disturbed all
    the same says so: its relay was late, or its training outlasted the profile.
    """
    if any(map(measures_compute, experiments)):
        return Fit(1, "compute is measured, and a neighbour's work would lengthen it")
    wanted = max(map(cores_of, experiments), default=1)
    jobs = max(1, (cores - _REST) // wanted)
    return Fit(jobs, f"a trial wants {wanted} cores to itself, and this machine has {cores}")


def measures_compute(experiment: Experiment) -> bool:
    """Whether the time that training really takes here is part of the result."""
    if experiment.training.trainer == "synthetic":
        return False
    if experiment.training.scheme == "central":
        return computing.server_seconds_per_step(experiment) is None
    return any(experiment.seconds_per_step(device) is None for _, device in experiment.expanded_devices())


def cores_of(experiment: Experiment) -> int:
    """Cores a trial keeps busy when compute is not measured; devices that train take one each."""
    training = 1 if experiment.training.scheme == "central" else len(experiment.expanded_devices())
    if experiment.training.trainer == "synthetic":
        training = 0
    return _RELAY + max(_TRANSPORT, training)
