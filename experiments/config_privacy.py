"""The `privacy` section: differential privacy at the devices, and secure aggregation of what they send."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from experiments.config_section import Section
from experiments.units import Duration, Fraction
from proto.codecs import Codec
from server.aggregation.options import AggregationOptions
from server.secure_options import SecureOptions


class Privacy(Section):
    """Nothing of it is on by default."""

    # Differential privacy: a device clips its update and adds noise to it (client/differential_privacy.py).

    clip_norm: float | None = Field(None, gt=0, allow_inf_nan=False)
    """L2 norm to which a device clips its update, over all trained factors as one vector; None: no privacy."""
    noise_multiplier: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Standard deviation of the noise in the cohort's sum, in units of clip_norm: each of n devices adds
    noise_multiplier * clip_norm / sqrt(n). Goes with clip_norm; 0 only clips, and then epsilon is infinite."""
    delta: float = Field(1e-5, gt=0, lt=1)
    """Of (epsilon, delta): the probability with which epsilon may not hold; well below 1 / devices."""

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

    def check_secure(self, uplink: Codec, aggregation: AggregationOptions, **run: Any) -> None:
        """Whether secure aggregation, if it was asked for, goes together with the rest of the experiment."""
        if self.secure_aggregation:
            SecureOptions.check(uplink, aggregation, **run)

    @property
    def differential(self) -> bool:
        """Whether devices clip their updates and add noise."""
        return self.clip_norm is not None
