"""What a round asks of each device by the configuration alone: bytes down and up, and time to train.

Sizes are the codecs' own, lengths that depend on the data those of Gaussian values. Every device is taken to
have been in the round before: what one that was not has to catch up with is no part of it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from client.training import Rank
from experiments import model_shapes
from experiments.config_cell import DeviceNeeds
from proto import codecs
from proto.exchange import METHODS
from proto.lora import LoraLayout
from proto.segments import Segments
from server.selection.selector import cohort_size

if TYPE_CHECKING:
    from experiments.config import Experiment
    from experiments.config_network import Device

USUAL_ROUND = 2
"""The first in which devices hold something."""


def needs(experiment: Experiment, number: int) -> dict[str, DeviceNeeds] | None:
    """Of every device in round `number`; None where training is measured, and nobody knows before.

    Raises ShapeError for a model whose adapter is not known before it is loaded.
    """
    found: dict[str, DeviceNeeds] = {}
    for (name, device), rank in zip(experiment.expanded_devices(), experiment.ranks(), strict=True):
        if (compute_s := computing_s(experiment, device)) is None:
            return None
        local = experiment.training.scheme == "local"
        down, up = (0.0, 0.0) if local else payload_bytes(experiment, number, rank)
        found[name] = DeviceNeeds(down, up, compute_s)
    return found


def computing_s(experiment: Experiment, device: Device) -> float | None:
    """A round's training; None: it is measured, and not known before."""
    if (seconds := experiment.seconds_per_step(device)) is not None:
        return seconds * experiment.training.steps
    return 0.0 if experiment.training.trainer == "synthetic" else None


def payload_bytes(experiment: Experiment, number: int, rank: int) -> tuple[float, float]:
    """Down to and up from a device of that rank in round `number` (1, 2, ...). Raises ShapeError."""
    own: Rank = "full" if experiment.adapter.kind == "full" else rank
    lora = LoraLayout(model_shapes.adapter(experiment.base, own, experiment.adapter.target_modules))
    exchange = METHODS[experiment.aggregation.method].exchange(
        number,
        held=number - 1,
        seed=(experiment.seed,),
        seeded=True,
        merge_rank=_merged_rank(experiment, lora) if number > 1 else 0,
    )
    link = experiment.downlink
    down = link.full_codec if link.delta and number == 1 else link.codec
    return (
        _encoded_bytes(down, exchange.down_size(lora)),
        _encoded_bytes(experiment.uplink.codec, lora.only(exchange.trained).size),
    )


def adapter_bytes(experiment: Experiment) -> float:
    """All of the adapter, as the downlink encodes it."""
    own: Rank = "full" if experiment.adapter.kind == "full" else experiment.adapter.rank
    layout = model_shapes.adapter(experiment.base, own, experiment.adapter.target_modules)
    return _encoded_bytes(experiment.downlink.codec, layout.size)


def _merged_rank(experiment: Experiment, lora: LoraLayout) -> int:
    """Of what a round's cohort makes devices merge into their base; 0: nothing."""
    method, ranks = experiment.aggregation.method, experiment.ranks()
    if not METHODS[method].merges:
        return 0
    cohort = cohort_size(len(ranks), experiment.federation.cohort)
    stacked = cohort - 1 if method == "fedex" else cohort
    rank = round(stacked * sum(ranks) / len(ranks))
    return min(rank, experiment.aggregation.merge_rank or rank, lora.largest_rank)


@cache
def _encoded_bytes(name: str, size: int) -> float:
    codec = codecs.parse(name)
    if codec.fixed_length:
        return Segments(codec, size).payload_bytes
    return codec.bits_per_parameter * size / 8
