"""Who owns what: examples dealt to devices, disjointly, by style, at random, or Dirichlet-skewed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.diffusion.data import DEVICE_STYLES, DataError, Examples

Indices = NDArray[np.int64]

_DIRICHLET = re.compile(r"dirichlet\(\s*([0-9.eE+-]+)\s*\)")


@dataclass(frozen=True)
class Partition:
    """A way to deal examples; `alpha` is the Dirichlet concentration where there is one."""

    kind: str
    alpha: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Partition:
        """`style`, `iid` or `dirichlet(ALPHA)` with ALPHA > 0. Raises DataError for anything else."""
        if text in ("style", "iid"):
            return cls(text)
        if match := _DIRICHLET.fullmatch(text.strip()):
            try:
                alpha = float(match[1])
            except ValueError:
                alpha = 0.0
            if 0 < alpha < float("inf"):
                return cls("dirichlet", alpha)
        raise DataError(f"unknown partition '{text}': style, iid or dirichlet(ALPHA) with ALPHA > 0")

    def deal(self, examples: Examples, device_count: int, seed: int) -> list[Indices]:
        """Indices into `examples` for each device, sorted and disjoint.

        The same arguments always give the same answer, so every device works out its own share. Raises
        DataError when there are not enough examples for every device to have one.
        """
        if device_count < 1:
            raise DataError(f"{device_count} devices: data is dealt to one device at least")
        if len(examples) < device_count:
            raise DataError(f"{len(examples)} examples are too few for {device_count} devices")
        deals: dict[str, Callable[..., list[Indices]]] = {
            "style": _by_style,
            "iid": _at_random,
            "dirichlet": _skewed,
        }
        # The seed is spread by its own stream: 0x9A27 sets it apart from other uses of the run's seed.
        shares = deals[self.kind](examples, device_count, np.random.default_rng([0x9A27, seed]), self.alpha)
        if empty := [index for index, share in enumerate(shares) if not len(share)]:
            raise DataError(f"partition {self.kind} leaves dev{empty[0]} of {device_count} without examples")
        return [np.sort(share) for share in shares]


def _by_style(
    examples: Examples, device_count: int, random: np.random.Generator, alpha: float
) -> list[Indices]:
    """Styles go round robin, in the order of DEVICE_STYLES; devices of one style split its examples."""
    present = set(examples.styles.tolist())
    styles = [style for style in DEVICE_STYLES if style in present]
    styles += sorted(present - set(styles))
    shares: dict[int, Indices] = {}
    for turn, style in enumerate(styles):
        owners = range(turn, device_count, len(styles))
        if not owners:
            break
        mine = random.permutation(np.flatnonzero(examples.styles == style))
        shares |= zip(owners, np.array_split(mine, len(owners)), strict=True)
    return [shares[device] for device in range(device_count)]


def _at_random(
    examples: Examples, device_count: int, random: np.random.Generator, alpha: float
) -> list[Indices]:
    return list(np.array_split(random.permutation(len(examples)), device_count))


def _skewed(
    examples: Examples, device_count: int, random: np.random.Generator, alpha: float
) -> list[Indices]:
    """Each class (style and group) is split in proportions drawn from Dirichlet(alpha) (arXiv 1909.06335)."""
    classes = np.char.add(np.char.add(examples.styles, "/"), examples.groups)
    shares: list[list[Indices]] = [[] for _ in range(device_count)]
    for name in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == name))
        proportions = random.dirichlet(np.full(device_count, alpha))
        cuts = np.rint(np.cumsum(proportions)[:-1] * len(members)).astype(int)
        for share, part in zip(shares, np.split(members, cuts), strict=True):
            share.append(part)
    dealt = [np.concatenate(share) for share in shares]
    # A small alpha may leave a device with nothing; it gets one example of whoever has most.
    for device in range(device_count):
        if not len(dealt[device]):
            richest = max(range(device_count), key=lambda other: len(dealt[other]))
            dealt[device], dealt[richest] = dealt[richest][-1:], dealt[richest][:-1]
    return dealt
