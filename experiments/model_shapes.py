"""What a model's UNet and adapter are made of, and what training them takes, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from client.sd15 import sd15_unet_layout
from client.training import Rank
from client.unet_layout import lora_layout, read_unet_layout
from client.unet_work import SD15_SAMPLE, Sample, TrainingWork, full_step, lora_step, read_sample
from proto.adapter import AdapterLayout, LayoutError

SD15 = "sd15"


class ShapeError(ValueError):
    """A model whose shapes cannot be told without loading it; the message says what can."""


def adapter(base: str, rank: Rank, target_modules: Sequence[str]) -> AdapterLayout:
    """What of a model (`sd15`, or a checkpoint's folder) is trained. Raises ShapeError, ValueError."""
    return _adapter(base, rank, tuple(target_modules))


def training_work(base: str, rank: Rank, target_modules: Sequence[str]) -> TrainingWork:
    """Of one step. Raises ShapeError, ValueError."""
    return _training_work(base, rank, tuple(target_modules))


@cache
def _adapter(base: str, rank: Rank, targets: tuple[str, ...]) -> AdapterLayout:
    unet, _ = _unet(base)
    if rank == "full":
        return unet
    return lora_layout(((tensor.name, tensor.shape) for tensor in unet.tensors), rank, targets, base)


@cache
def _training_work(base: str, rank: Rank, targets: tuple[str, ...]) -> TrainingWork:
    unet, sample = _unet(base)
    try:
        if rank == "full":
            return full_step(unet, sample)
        return lora_step(unet, _adapter(base, rank, targets), sample)
    except LayoutError as error:
        raise ShapeError(f"{base}: {error}") from error


@cache
def _unet(base: str) -> tuple[AdapterLayout, Sample]:
    if base == SD15:
        return sd15_unet_layout(), SD15_SAMPLE
    if not Path(base).is_dir():
        raise ShapeError(
            f"the shapes of {base} are not known before it is loaded; give a checkpoint's folder"
        )
    try:
        return read_unet_layout(Path(base)), read_sample(Path(base))
    except LayoutError as error:
        raise ShapeError(str(error)) from error
