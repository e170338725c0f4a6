"""The `privacy` section: differential privacy at the devices, and secure aggregation of what they send."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from experiments.config_section import Section


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

    @model_validator(mode="after")
    def _clip_and_noise_go_together(self) -> Self:
        if (self.clip_norm is None) != (self.noise_multiplier is None):
            raise ValueError("clip_norm and noise_multiplier go together: clipping bounds what noise hides")
        return self

    @model_validator(mode="after")
    def _secure_aggregation_is_there(self) -> Self:
        if self.secure_aggregation:
            raise ValueError("secure_aggregation: is not there yet")
        return self

    @property
    def differential(self) -> bool:
        """Whether devices clip their updates and add noise."""
        return self.clip_norm is not None
