"""What `fedcell bench compression` compares, and how thoroughly."""

from __future__ import annotations

from dataclasses import dataclass

from client.diffusion.retrieval import SPLITS, Split

BASELINE = "fp32"
"""The setting that the others are compared with."""


@dataclass(frozen=True)
class Setting:
    """A way to compress: a short name for figures, and the configuration's keys that it changes."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Preset:
    """How thoroughly: what is compared, over which seeds, and what else all trials share.

    `lossy` names the settings that are also tried, with the first seed, at PACKET_LOSS both ways, for
    `lossy_rounds` rounds (None: all; fp32 takes minutes for a few).
    `per_style` held-out examples of each style for the loss; `queries` names of each of `splits` to draw, in
    every style, over all seeds together.
    """

    name: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    lossy: tuple[str, ...]
    per_style: int
    queries: int
    splits: tuple[Split, ...] = SPLITS
    lossy_rounds: int | None = None


def _codecs(name: str, up: str, down: str, *more: str) -> Setting:
    return Setting(name, (f"uplink.codec={up}", f"downlink.codec={down}", *more))


_FEW = (
    _codecs(BASELINE, "fp32", "fp32"),
    _codecs("int8", "int8", "int8"),
    _codecs("int4", "int4", "int8"),
    _codecs("eden(2)", "eden(2)", "int8"),
    _codecs("ecq(2)", "ecq(2)", "int8"),
    _codecs("topk(0.1)|int8", "topk(0.1)|int8", "int8"),
)
_DELTA = "downlink.delta=true"
_MANY = (
    *_FEW,
    _codecs("fp16", "fp16", "fp16"),
    _codecs("int2", "int2", "int8"),
    _codecs("nf4", "nf4", "int8"),
    _codecs("qsgd(4)", "qsgd(4)", "int8"),
    _codecs("eden(1)", "eden(1)", "int8"),
    _codecs("eden(4)", "eden(4)", "int8"),
    _codecs("ecq(1)", "ecq(1)", "int8"),
    _codecs("ecq(3)", "ecq(3)", "int8"),
    _codecs("sign", "sign", "int8"),
    _codecs("topk(0.01)|int8", "topk(0.01)|int8", "int8"),
    _codecs("ecq(2), no feedback", "ecq(2)", "int8", "uplink.error_feedback=off"),
    _codecs("ecq(2), delta int4", "ecq(2)", "int4", _DELTA),
    _codecs("ecq(2), delta ecq(2)", "ecq(2)", "ecq(2)", _DELTA),
    _codecs("rank 8, fp32", "fp32", "fp32", "adapter.rank=8"),
    _codecs("rank 8, ecq(2)", "ecq(2)", "int8", "adapter.rank=8"),
    _codecs("ffa, fp32", "fp32", "fp32", "aggregation.method=ffa"),
    _codecs("ffa, ecq(2)", "ecq(2)", "int8", "aggregation.method=ffa"),
    _codecs("rolora, ecq(2)", "ecq(2)", "int8", "aggregation.method=rolora"),
    _codecs("fedex, ecq(2)", "ecq(2)", "int8", "aggregation.method=fedex"),
)

PACKET_LOSS = 0.05

QUICK = Preset(
    name="quick",
    settings=_FEW,
    seeds=(1, 2, 3),
    overrides=(),
    lossy=(BASELINE, "ecq(2)"),
    per_style=24,
    queries=24,
    splits=("unseen",),
    lossy_rounds=2,
)
FULL = Preset(
    name="full",
    settings=_MANY,
    seeds=(1, 2, 3, 4, 5),
    overrides=("rounds=20",),
    lossy=tuple(setting.name for setting in _MANY),
    per_style=96,
    queries=100,
)
