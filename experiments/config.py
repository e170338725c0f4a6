"""The configuration of one experiment: YAML, then `key=value` overrides, then checked models.

Whatever is wrong is one line that names the key.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from client.sd15 import sd15_lora_layout
from emulation.link import AccessLink
from experiments import computing, round_needs
from experiments.config_aggregation import Aggregation
from experiments.config_compute import Compute
from experiments.config_network import Device, Network
from experiments.config_privacy import Privacy, check_privacy, check_secure_aggregation
from experiments.config_schemes import Central, Scheme, refuse_what_means_nothing
from experiments.config_section import Section
from experiments.extrapolation.part import EmulatedPart, emulated_part
from experiments.units import Duration, Fraction
from proto import codecs
from server import selection
from server.aggregation.options import AggregationError, AggregationOptions
from server.downlink import parse_exact

BUNDLED_BASE = Path(__file__).parent.parent / "client" / "diffusion" / "sd-emoji"


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line naming file and key."""


class Adapter(Section):
    kind: Literal["lora", "full"] = "lora"
    """`lora`, or `full`: the whole UNet is trained and sent, and what else stands here is of no effect."""
    rank: int = Field(4, ge=1, le=1024)
    target_modules: list[str] = Field(["to_q", "to_k", "to_v", "to_out.0"], min_length=1)
    emulated_time: Duration | None = Field(None, gt=0)
    """How long every transfer lasts at least, at its link's rate, until the rest is extrapolated; None: all
    of it is sent. For the synthetic trainer; see experiments/extrapolation/part.py."""


class Training(Section):
    scheme: Scheme = "federated"
    """Who trains on whose data; see experiments/config_schemes.py."""
    trainer: Literal["diffusion", "synthetic"] = "diffusion"
    data: str = "emoji"
    """`emoji`, or a folder of images with metadata.jsonl."""
    partition: str = "style"
    """`style`, `iid` or `dirichlet(ALPHA)`."""
    steps: int = Field(20, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    min_snr_gamma: float | None = Field(None, gt=0)
    """Weights the loss by min(SNR, gamma) (arXiv 2303.09556), so that the noisiest steps, which decide what
    is drawn rather than how, count little; None: every step counts alike."""
    proximal_mu: float = Field(0.0, ge=0)
    """FedProx (arXiv 1812.06127): mu/2 |w - w_global|^2 is added to every device's objective."""


class Link(Section):
    """How updates travel in one direction."""

    codec: str = "fp32"
    """`topk(0.1)|int4|ans` and the like; see proto/codecs/grammar.py."""

    @model_validator(mode="after")
    def _codec_exists(self) -> Self:
        codecs.parse(self.codec)
        return self


class Uplink(Link):
    error_feedback: Literal["auto", "on", "off"] = "auto"
    """Whether what the codec left out of a device's update goes up with its next one; auto: if the codec
    wants it and the method sends the same factors in every round. It costs a device memory for one vector."""

    @field_validator("error_feedback", mode="before")
    @classmethod
    def _yaml_knows_on_and_off(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Downlink(Link):
    delta: bool = False
    """Whether devices that hold the version before get the difference to it, in `codec`, and only others all
    of it. Costs the server memory for one more vector."""
    full_codec: str = "fp32"
    """In which they get all of it: one that is exact to the bit."""

    @model_validator(mode="after")
    def _exact_and_needed(self) -> Self:
        if not self.delta and self.full_codec != "fp32":
            raise ValueError(
                "full_codec: goes with delta=true; without it the whole adapter goes down in codec"
            )
        try:
            parse_exact(self.full_codec)
        except codecs.CodecError as error:
            raise ValueError(f"full_codec: {error}") from error
        return self


class Federation(Section):
    cohort: Fraction = 1.0
    """How many of all devices a round asks; at least one."""
    selection: str = "random"
    """Which: `random`, `round_robin`, `fastest` or `power_of_choice(D)`; see server/selection/."""
    availability: Path | None = None
    """CSV of when each device is there to be asked, in emulated seconds: device,from_s,until_s."""
    availability_period: Duration | None = Field(None, gt=0)
    """The file begins anew after each period; None: never."""
    round_deadline: Duration = 3600.0
    """A round closes after this long with the updates that have come whole."""
    close_after: Fraction = 1.0
    """Or when this share of its cohort has finished, and `close_grace` has passed since."""
    close_grace: Duration = 0.0
    late: Literal["refuse", "next_round"] = "refuse"
    """What becomes of an update whose round has closed: nothing, or it counts in the round that is open when
    all of it is there, with a weight of examples * (1 + rounds it is late)^-staleness_exponent."""
    staleness_exponent: float = Field(0.5, ge=0, le=10)
    join_timeout: Duration = 300.0
    reconnect_grace: Duration = 5.0
    """How long a device whose connection broke may take to come back before its round is lost."""
    reconnect_timeout: Duration = 60.0
    """How long a device looks for a server that it cannot reach."""
    port: int = Field(50051, ge=1, le=65535)
    remote_listen: str | None = Field(None, pattern=r"^[^\s:]+:[0-9]{1,5}$")
    """HOST:PORT of this machine at which remote devices reach it; needed for them, and only for them."""

    @field_validator("close_after")
    @classmethod
    def _somebody_finishes(cls, share: float) -> float:
        if share == 0:
            raise ValueError("at 0% a round would close before it begins")
        return share


class Emulation(Section):
    backend: Literal["auto", "netem", "relay"] = "auto"


class Experiment(Section):
    """Everything one run needs."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(0, ge=0, lt=2**32)
    rounds: int = Field(3, ge=1)
    dilation: float = Field(1.0, ge=0.01, le=100)
    """Real seconds in an emulated one; everything in this file is in emulated seconds."""
    model: str = "bundled"
    """`bundled`, `sd15` (its layout only), or a Stable Diffusion checkpoint folder or hub name."""
    adapter: Adapter = Adapter()
    training: Training = Training()
    central: Central = Central()
    compute: Compute = Compute()
    uplink: Uplink = Uplink()
    downlink: Downlink = Downlink()
    aggregation: Aggregation = Aggregation()
    federation: Federation = Federation()
    privacy: Privacy = Privacy()
    network: Network
    emulation: Emulation = Emulation()
    output: Path = Path("runs")

    @model_validator(mode="before")
    @classmethod
    def _seed_the_channel(cls, values: Any) -> Any:
        """A channel without a seed of its own has the experiment's."""
        if not isinstance(values, dict) or not isinstance(network := values.get("network"), dict):
            return values
        if isinstance(channel := network.get("channel"), dict):
            seeded = {"seed": values.get("seed", 0)} | channel
            return {**values, "network": {**network, "channel": seeded}}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.training.trainer == "synthetic") != (self.model == "sd15"):
            raise ValueError(
                "model: model=sd15 (a layout without weights) and training.trainer=synthetic go together; "
                "training needs model=bundled or a checkpoint folder"
            )
        if self.model == "sd15":
            try:
                sd15_lora_layout(self.adapter.rank, self.adapter.target_modules)
            except ValueError as error:
                raise ValueError(f"adapter.target_modules: {error}") from error
        if self.adapter.kind == "full" and any(device.rank for device in self.network.devices):
            raise ValueError(
                "network.devices[].rank: adapter.kind=full trains the whole UNet, which has no rank"
            )
        remote = any(device.remote for device in self.network.devices)
        if remote != (self.federation.remote_listen is not None):
            raise ValueError(
                "federation.remote_listen: goes with network.devices[].remote, and remote devices with it: "
                "HOST:PORT of this machine, as they reach it"
            )
        if remote and self.dilation != 1:
            raise ValueError("dilation: remote devices, and what lies between, live in real time")
        return self

    @model_validator(mode="after")
    def _fits_the_scheme(self) -> Self:
        refuse_what_means_nothing(self)
        return self

    @model_validator(mode="after")
    def _can_select(self) -> Self:
        federation = self.federation
        try:
            selector = selection.parse(
                federation.selection,
                devices=len(self.expanded_devices()),
                fraction=federation.cohort,
                seed=self.seed,
            )
        except selection.SelectionError as error:
            raise ValueError(f"federation.selection: {error}") from error
        if isinstance(selector, selection.PowerOfChoice) and self.training.trainer == "synthetic":
            raise ValueError(
                "federation.selection: power_of_choice goes by losses, and the synthetic trainer has none"
            )
        if federation.availability_period is not None and federation.availability is None:
            raise ValueError("federation.availability_period: there is no federation.availability to repeat")
        return self

    @model_validator(mode="after")
    def _can_aggregate(self) -> Self:
        options = self.aggregation_options
        try:
            options.check_devices([] if self.adapter.kind == "full" else self.ranks())
            options.check_rounds(
                late=self.federation.late == "next_round",
                delta=self.downlink.delta,
                error_feedback=self.uplink.error_feedback == "on",
            )
            check_privacy(self, options)
            check_secure_aggregation(self, options)
        except AggregationError as error:
            raise ValueError(f"aggregation.{error}") from error
        return self

    @model_validator(mode="after")
    def _can_compute_and_divide(self) -> Self:
        computing.check(self)
        if self.network.cell is not None:
            self._divide_the_cell()
        return self

    def _divide_the_cell(self) -> None:
        """By what a usual round asks of its devices."""
        try:
            if self.training.scheme != "federated":
                raise ValueError(f"is divided for rounds of updates; training.scheme={self.training.scheme}")
            needs = round_needs.needs(self, round_needs.USUAL_ROUND)
            if needs is None:
                raise ValueError("how long devices train is measured; a division needs compute.profile")
            self.network.divide([needs[name] for name, _ in self.network.emulated_devices])
        except ValueError as error:
            raise ValueError(f"network.cell: {error}") from error

    @property
    def base(self) -> str:
        """The checkpoint that diffusers loads."""
        return str(BUNDLED_BASE) if self.model == "bundled" else self.model

    @property
    def aggregation_options(self) -> AggregationOptions:
        """What the server is asked for."""
        return self.aggregation.options(private=self.privacy.updates_are_private)

    def expanded_devices(self) -> list[tuple[str, Device]]:
        """dev0, dev1, ... with what each was asked to be."""
        return self.network.expanded_devices

    def links(self) -> list[AccessLink]:
        """Each emulated device's way to the server and back, over however many links, as if it were one."""
        return [self.network.graph.access(name) for name, _ in self.network.emulated_devices]

    def ranks(self) -> list[int]:
        """Every device's LoRA rank, dev0's first."""
        return [device.rank or self.adapter.rank for _, device in self.expanded_devices()]

    def seconds_per_step(self, device: Device) -> float | None:
        """How long a local step takes a device, by its own or everybody's profile; None: measured."""
        return computing.seconds_per_step(self, device)

    @model_validator(mode="after")
    def _can_extrapolate(self) -> Self:
        """Last, for it goes by the links as all other checks leave them."""
        _ = self.emulated_part
        return self

    @cached_property
    def emulated_part(self) -> EmulatedPart | None:
        """How much of every transfer is sent; None: all of it. Raises ValueError for what cannot be cut."""
        return emulated_part(self)


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a configuration file and apply `key=value` overrides. Raises ConfigError."""
    try:
        config = OmegaConf.create(yaml.safe_load(path.read_text()) or {})
        if not OmegaConf.is_dict(config):
            raise ConfigError(f"{path}: not a configuration (a YAML mapping)")
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals or not key:
                raise ConfigError(f"'{override}': write overrides as key=value")
            OmegaConf.update(config, key, yaml.safe_load(value), merge=True)
        values = OmegaConf.to_container(config, resolve=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not YAML: {_one_line(error)}") from error
    except (OmegaConfBaseException, AttributeError, IndexError, TypeError) as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from error
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    """The first thing wrong, as `key: what to do`; unknown keys first, for they explain the others."""
    problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = sorted(_keys_beside(first["loc"]))
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"one of {', '.join(known)}"
        message = f"unknown key; {hint}"
    elif first["type"] == "missing":
        message = "is missing"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {message}{more}" if where else message + more


def _keys_beside(location: tuple[int | str, ...]) -> set[str]:
    """The keys that are known where an unknown one stood."""
    model: type[BaseModel] = Experiment
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if part not in model.model_fields:
            continue  # A name in a mapping.
        annotation = model.model_fields[part].annotation
        inner = getattr(annotation, "__args__", (annotation,))
        model = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), model)
    return {field.alias or name for name, field in model.model_fields.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
