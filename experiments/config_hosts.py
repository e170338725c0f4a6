"""What happens on hosts during a run: TCP's settings, and traffic beside the federation's.

YAML reads a bare `on`, `off` or `no` as a truth value, so no key and no value here is one.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from emulation.background import Flow as EmulatedFlow
from emulation.tcp import Tcp
from experiments.config_section import Section
from experiments.units import Duration, Rate, size

Bytes = Annotated[
    int,
    BeforeValidator(lambda text: round(size(text))),
    PlainSerializer(lambda value: f"{value}B", when_used="json"),
]


class TcpSettings(Section):
    """TCP on every host, its congestion control aside; see emulation/tcp.py for what each means."""

    slow_start_after_idle: bool = False
    no_metrics_save: bool = True
    buffer: Bytes | None = Field(None, ge=4096)
    """None: four times what the longest way between a device and the server holds."""
    ecn: Literal["never", "accept", "request"] = "accept"
    sack: bool = True
    initial_window: int | None = Field(None, ge=1, le=1000)
    rto_min: Duration | None = Field(None, ge=1e-3, le=100)

    def build(self, congestion_control: str) -> Tcp:
        """What the emulation is asked for."""
        return Tcp(
            congestion_control=congestion_control,
            slow_start_after_idle=self.slow_start_after_idle,
            no_metrics_save=self.no_metrics_save,
            buffer_bytes=self.buffer,
            ecn=self.ecn,
            sack=self.sack,
            initial_window=self.initial_window,
            rto_min_s=self.rto_min,
        )


class Flow(Section):
    """Traffic from one host to another for as long as the rounds last: all the time, or by the clock."""

    model_config = ConfigDict(serialize_by_alias=True)

    source: str = Field(alias="from")
    destination: str = Field(alias="to")
    protocol: Literal["tcp", "udp"] = "tcp"
    rate: Rate | None = Field(None, gt=0)
    """Of payload; tcp without one takes what it gets."""
    active: Duration | None = Field(None, ge=0.1)
    idle: Duration | None = Field(None, ge=0.1)
    start: Duration = 0.0

    @model_validator(mode="after")
    def _is_a_flow(self) -> Self:
        if self.source == self.destination:
            raise ValueError(f"to: {self.source} does not send to itself over any link")
        if self.protocol == "udp" and self.rate is None:
            raise ValueError("rate: udp sends as fast as it is told to; write for example rate: 2mbit")
        if (self.active is None) != (self.idle is None):
            raise ValueError("active, idle: give both, or neither for a flow without pauses")
        return self

    def build(self, dilation: float) -> EmulatedFlow:
        """What the emulation is asked for, in real time."""
        return EmulatedFlow(
            source=self.source,
            destination=self.destination,
            protocol=self.protocol,
            rate_bps=None if self.rate is None else self.rate / dilation,
            active_s=None if self.active is None else self.active * dilation,
            idle_s=None if self.idle is None else self.idle * dilation,
            start_s=self.start * dilation,
        )
