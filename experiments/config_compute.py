"""The `compute` section: how long training takes on each device, measured here or as a named device would."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from client.device_profiles import PROFILES, Accelerator, DeviceProfile, Processor
from experiments.config_hosts import Bytes
from experiments.config_section import Section
from experiments.units import Duration, Fraction, Frequency, Watts

_ACCELERATOR = {"flops_per_s", "utilisation", "power"}
_PROCESSOR = {"cycles_per_sample", "frequency", "kappa"}


class Profile(Section):
    """A device of one's own, by its arithmetic or its clock's cycles; see client/device_profiles.py."""

    flops_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    utilisation: Fraction | None = Field(None, gt=0)
    """Share of `flops_per_s` that training sustains."""
    power: Watts | None = Field(None, gt=0)
    cycles_per_sample: float | None = Field(None, gt=0, allow_inf_nan=False)
    frequency: Frequency | None = Field(None, gt=0)
    kappa: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Effective switched capacitance: the processor draws kappa f^3."""
    memory: Bytes | None = None
    """What training may take of it; None: it is not asked whether it fits."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = {key for key in _ACCELERATOR | _PROCESSOR if getattr(self, key) is not None}
        if given not in (_ACCELERATOR, _PROCESSOR):
            raise ValueError(
                "a profile has flops_per_s, utilisation and power, or cycles_per_sample, frequency and kappa"
            )
        return self

    def build(self, name: str) -> DeviceProfile:
        """What the client's own profiles are."""
        if self.flops_per_s is not None:
            assert self.utilisation is not None and self.power is not None
            return Accelerator(name, self.flops_per_s, self.utilisation, self.power, self.memory)
        assert self.cycles_per_sample is not None and self.frequency is not None and self.kappa is not None
        return Processor(name, self.cycles_per_sample, self.frequency, self.kappa, self.memory)


def _of_its_own_name(profiles: dict[str, Profile]) -> dict[str, Profile]:
    for name in profiles:
        if name in PROFILES:
            raise ValueError(f"{name} is there already and would mean two things; call yours otherwise")
    return profiles


class Compute(Section):
    """Measured on this machine, unless `seconds_per_step` or `profile` says how long a device takes."""

    seconds_per_step: Duration | None = None
    profile: str | None = None
    """A device of client/device_profiles.py, or one of `profiles`."""
    server_seconds_per_step: Duration | None = None
    """Of the server, where it trains; None: measured, unless `server_profile` says."""
    server_profile: str | None = None
    profiles: Annotated[dict[str, Profile], AfterValidator(_of_its_own_name)] = Field({})

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.seconds_per_step is not None and self.profile is not None:
            raise ValueError("profile: seconds_per_step says the same otherwise; leave one out")
        if self.server_seconds_per_step is not None and self.server_profile is not None:
            raise ValueError("server_profile: server_seconds_per_step says the same otherwise; leave one out")
        for key, name in (("profile", self.profile), ("server_profile", self.server_profile)):
            if name is not None:
                self.find(key, name)
        return self

    def find(self, key: str, name: str) -> DeviceProfile:
        """A profile by its name. Raises ValueError naming the key that asked for it."""
        if name in self.profiles:
            return self.profiles[name].build(name)
        if name not in PROFILES:
            known = ", ".join([*PROFILES, *self.profiles])
            raise ValueError(
                f"{key}: unknown profile '{name}': one of {known}, or define it in compute.profiles"
            )
        return PROFILES[name]
