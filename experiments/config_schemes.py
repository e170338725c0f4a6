"""Training schemes: who trains on whose data, what crosses the network for it, and what has no meaning then.

`federated`: devices send how their adapters have changed, and the server aggregates. `central`: devices send
their training data once, and the server trains. `local`: each device trains by itself, and sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from experiments.config_aggregation import Aggregation
from experiments.config_hosts import Bytes
from experiments.config_section import Section

if TYPE_CHECKING:
    from experiments.config import Experiment

Scheme = Literal["federated", "central", "local"]


class Central(Section):
    """Of training.scheme=central; of no effect in the others."""

    images: int = Field(500, ge=1)
    """The synthetic trainer's: images that each device holds. An assumption: a personal photo collection, cut
    down to what one would fine-tune on."""
    image_bytes: Bytes = Field(2**16, ge=1)
    """The synthetic trainer's: bytes of each, incompressible as JPEG is. An assumption: 512x512 pixels, the
    size that Stable Diffusion v1.5 is trained at, at 2 bits a pixel, a good JPEG."""
    data_limit: Bytes = Field(2**34, ge=1)
    """The most that the server takes from one device."""
    deliver: bool = True
    """Whether the trained adapter goes down to every device, once, at the end of the last round."""


def refuse_what_means_nothing(experiment: Experiment) -> None:
    """Raises ValueError naming the first key that training.scheme has no use for."""
    scheme = experiment.training.scheme
    if scheme == "federated":
        return
    aggregation, federation = experiment.aggregation, experiment.federation
    devices = experiment.network.devices
    alone = "the server trains, and no device sends an update"
    alone = "every device trains by itself, and nobody sends an update" if scheme == "local" else alone
    asked = "every device is asked, " + ("in every round" if scheme == "local" else "once")
    for key, given, why in (
        ("network.devices[].remote", any(d.remote for d in devices), "goes with the emulated network only"),
        ("privacy", experiment.privacy.updates_are_private, alone),
        ("uplink.codec", experiment.uplink.codec != "fp32", f"{alone}: leave it out, or fp32"),
        ("uplink.error_feedback", experiment.uplink.error_feedback == "on", alone),
        ("downlink.delta", experiment.downlink.delta, "no later round builds on what came down"),
        *(
            (f"aggregation.{name}", getattr(aggregation, name) != getattr(Aggregation(), name), alone)
            for name in ("method", "mean", "optimizer", "merge_rank")
        ),
        ("training.proximal_mu", experiment.training.proximal_mu > 0, "no global adapter to stay near to"),
        ("federation.late", federation.late == "next_round", alone),
        ("federation.cohort", federation.cohort != 1, asked),
        ("federation.selection", federation.selection != "random", asked),
        ("federation.availability", federation.availability is not None, asked),
    ):
        if given:
            raise ValueError(f"{key}: training.scheme={scheme}: {why}")
    nothing_down = scheme == "local" or not experiment.central.deliver
    if nothing_down and experiment.downlink.codec != "fp32":
        raise ValueError(f"downlink.codec: training.scheme={scheme}: no adapter goes down; leave it out")
    if scheme == "central" and any(device.rank for device in devices):
        raise ValueError("network.devices[].rank: training.scheme=central: one adapter is trained")
