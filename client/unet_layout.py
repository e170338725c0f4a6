"""A UNet's tensors by name and shape, and those of LoRA on it, without its weights and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from client.training import UnsupportedError
from proto.adapter import AdapterLayout, LayoutError

_WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"

Named = Iterable[tuple[str, tuple[int, ...]]]


def read_unet_layout(checkpoint: Path) -> AdapterLayout:
    """The UNet of a Stable Diffusion checkpoint's folder, named as diffusers saves it. Raises LayoutError."""
    path = checkpoint / _WEIGHTS
    try:
        with safe_open(path, framework="np") as file:
            return AdapterLayout.of({name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LayoutError(f"{path} holds no UNet: {error}") from error


def lora_layout(unet: Named, rank: int, target_modules: Sequence[str], model: str) -> AdapterLayout:
    """LoRA of `rank` on the modules whose name ends with one of `target_modules`, named as peft saves it.

    Raises UnsupportedError for a target that is no linear layer or convolution of the UNet of `model`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    unmatched = set(target_modules)
    for name, shape in unet:
        module, _, kind = name.rpartition(".")
        matched = {t for t in target_modules if f".{module}".endswith(f".{t}")}
        if kind != "weight" or len(shape) < 2 or not matched:
            continue
        unmatched -= matched
        outputs, *inputs = shape
        shapes[f"unet.{module}.lora_A.weight"] = (rank, *inputs)
        # A convolution's B is one of 1x1.
        shapes[f"unet.{module}.lora_B.weight"] = (outputs, rank, *([1] * (len(inputs) - 1)))
    if unmatched:
        missing = ", ".join(sorted(unmatched))
        raise UnsupportedError(f"{model}'s UNet has no module {missing} to adapt")
    return AdapterLayout.of(shapes)
