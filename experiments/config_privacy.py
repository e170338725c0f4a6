"""The `privacy` section: differential privacy at the devices, and secure aggregation of what they send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from experiments.config_section import Section
from experiments.units import Duration, Fraction
from proto import codecs
from proto.privacy import ClientPrivacy
from server import selection
from server.aggregation.fedavg import LARGEST_VALUE
from server.aggregation.options import AggregationOptions
from server.secure_options import SecureAggregationError, SecureOptions
from server.selection.selector import cohort_size

if TYPE_CHECKING:
    from experiments.config import Experiment

_FURTHEST_NOISE = 8.0
"""Standard deviations: one value in 10^15 lies further out."""


class Privacy(Section):
    """Nothing of it is on by default."""

    # Differential privacy: a device clips its update and adds noise to it (proto/privacy.py).

    clip_norm: float | None = Field(None, gt=0, allow_inf_nan=False)
    """L2 norm to which a device clips its update, all trained factors being one vector; None: it does not."""
    noise_multiplier: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Standard deviation of the noise in a cohort's sum, in units of clip_norm: each of n devices adds
    noise_multiplier * clip_norm / sqrt(n) to every value. 0 only clips, and no epsilon holds."""
    delta: float = Field(1e-5, gt=0, lt=1)
    """Of (epsilon, delta): the probability with which epsilon may not hold."""

    # Secure aggregation: the server learns the sum of a round's updates and no update by itself.

    secure_aggregation: bool = False
    """Bonawitz et al. (client/secure_aggregation.py). uplink.codec=ring(BITS,RANGE) is what is masked."""
    threshold: Fraction = 2 / 3
    """The share of a cohort that must survive a round, above 50%; otherwise the round fails."""
    stage_timeout: Duration = 20.0
    """How long the server waits for the devices' answers in one stage of it."""

    @model_validator(mode="after")
    def _clip_and_noise_go_together(self) -> Self:
        if (self.clip_norm is None) != (self.noise_multiplier is None):
            raise ValueError("clip_norm and noise_multiplier go together: clipping bounds what noise hides")
        return self

    @model_validator(mode="after")
    def _secure_aggregation_protects(self) -> Self:
        SecureOptions(self.threshold, self.stage_timeout)
        return self

    @property
    def differential(self) -> bool:
        """Whether devices clip their updates and add noise."""
        return self.clip_norm is not None

    @property
    def updates_are_private(self) -> bool:
        """Whether nobody is to make more of single updates than their sum."""
        return self.differential or self.secure_aggregation

    def client(self, seed: int) -> ClientPrivacy | None:
        """What devices are asked for in a run of this seed; None: nothing."""
        if self.clip_norm is None or self.noise_multiplier is None:
            return None
        return ClientPrivacy(self.clip_norm, self.noise_multiplier, seed)


def check_privacy(experiment: Experiment, options: AggregationOptions) -> None:
    """Whether what `experiment` says of privacy holds with the rest of it.

    Raises ValueError naming the key, AggregationError where the key is of the `aggregation` section.
    """
    privacy, federation = experiment.privacy, experiment.federation
    asked = privacy.client(experiment.seed)
    if asked is None:
        return
    options.check_privacy()
    if experiment.uplink.error_feedback == "on":
        raise ValueError("uplink.error_feedback: what is left of earlier updates was never clipped: off")
    devices = len(experiment.expanded_devices())
    policy = selection.parse(federation.selection, devices=devices, fraction=federation.cohort, seed=0)
    if isinstance(policy, selection.PowerOfChoice):
        raise ValueError(
            "federation.selection: power_of_choice goes by losses, which private devices do not send"
        )
    if privacy.delta >= 1 / devices:
        raise ValueError(
            f"privacy.delta: {privacy.delta:g} would let one of {devices} devices be published whole: well "
            f"below {1 / devices:g}"
        )
    largest = asked.clip_norm + _FURTHEST_NOISE * asked.noise_std(cohorts(experiment)[1])
    if largest >= LARGEST_VALUE:
        raise ValueError(
            f"privacy.noise_multiplier: with the noise an update's values may reach {largest:.3g}, and sums "
            f"take {LARGEST_VALUE:g}: less noise, a smaller clip_norm or more devices a round"
        )


def cohorts(experiment: Experiment) -> tuple[int, int]:
    """How many devices a round asks at most, and at least: fewer where a trace has them away, and then each
    adds more noise."""
    most = cohort_size(len(experiment.expanded_devices()), experiment.federation.cohort)
    return most, 1 if experiment.federation.availability else most


def check_secure_aggregation(experiment: Experiment, options: AggregationOptions) -> None:
    """Whether secure aggregation, if it is asked for, can be had with the rest of it. Raises ValueError."""
    if not experiment.privacy.secure_aggregation:
        return
    try:
        SecureOptions.check(
            codecs.parse(experiment.uplink.codec),
            options,
            devices=cohort_size(len(experiment.expanded_devices()), experiment.federation.cohort),
            late=experiment.federation.late == "next_round",
            error_feedback=experiment.uplink.error_feedback == "on",
        )
    except SecureAggregationError as error:
        raise ValueError(f"privacy.{error}") from error
