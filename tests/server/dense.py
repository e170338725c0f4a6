"""Rounds small enough to work out with dense matrices: what every method is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proto.adapter import AdapterLayout, Vector
from proto.lora import LoraLayout
from server.aggregation.factors import Matrix
from server.aggregation.local import LocalModel

SHAPES = {
    "unet.attention.lora_A.weight": (1, 5),
    "unet.attention.lora_B.weight": (7, 1),
    "unet.conv.lora_A.weight": (1, 2, 3, 3),
    "unet.conv.lora_B.weight": (4, 1, 1, 1),
}
MODULES = (0, 1)


def lora_of(rank: int) -> LoraLayout:
    return LoraLayout(LoraLayout(AdapterLayout.of(SHAPES)).with_rank(rank))


def random_vector(rng: np.random.Generator, lora: LoraLayout) -> Vector:
    return rng.standard_normal(lora.layout.size, np.float32)


def make_round(
    seed: int, ranks: Sequence[int], examples: Sequence[int], *, common: bool
) -> tuple[list[LocalModel], Vector]:
    """Local models of these ranks; and what they start from, truncated (`common`), of the largest rank."""
    rng = np.random.default_rng(seed)
    largest = lora_of(max(ranks))
    origin = random_vector(rng, largest)
    models = []
    for number, (rank, count) in enumerate(zip(ranks, examples, strict=True)):
        lora = lora_of(rank)
        start = largest.resize(origin, rank) if common else random_vector(rng, lora)
        change = 0.3 * random_vector(rng, lora)
        models.append(local(f"dev{number}", count, lora, start, change))
    return models, origin


def local(name: str, examples: int, lora: LoraLayout, start: Vector, change: Vector) -> LocalModel:
    def start_of(index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return lora.factors(start, lora.modules[index])

    return LocalModel(name, examples, lora, change, start_of)


def dense_mean(models: Sequence[LocalModel], index: int) -> Matrix:
    """sum_k p_k B_k A_k, by its definition."""
    total = sum(model.examples for model in models)
    products = [(model.examples / total) * (b @ a) for model in models for a, b in [model.factors(index)]]
    return np.sum(products, axis=0)
