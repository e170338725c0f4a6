"""Updates in exactly a named model's layout, without training and without torch.

For pure communication measurements: what crosses the network is as large, and as hard to compress, as
the real thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from client.collected import collected_files
from client.training import LocalResult, UnsupportedError
from proto.adapter import AdapterLayout, Vector
from proto.lora import Factors, LoraLayout, fresh_adapter

_UPDATE_SCALE = 1e-3
"""Standard deviation of a synthetic update: the order of a round's LoRA delta after Adam steps."""

_KEPT_VALUES = 2**24
"""Up to 64 MiB of noise are drawn before they are needed."""


def initial_adapter(layout: AdapterLayout, seed: int) -> Vector:
    """What training begins with, shape (layout.size,), and nothing beside it in memory.

    LoRA's initial values (A ~ N(0, 1/r^2), B = 0; Hu et al., arXiv 2106.09685), or a UNet's: weights ~
    N(0, 1/inputs), which keeps the scale of what passes through (LeCun et al., Efficient BackProp, 1998),
    norms 1, biases 0.
    """
    if LoraLayout(layout).rank is not None:
        return fresh_adapter(layout, (seed,))
    rng = np.random.default_rng(seed)
    vector = np.zeros(layout.size, np.float32)
    for name, values in layout.unpack(vector).items():
        if name.endswith(".bias"):
            continue
        if values.ndim == 1:
            values.fill(1)
            continue
        rng.standard_normal(out=values, dtype=np.float32)
        values /= np.float32(math.sqrt(values[0].size))
    return vector


_DATA_BYTES = 2**16
"""Of synthetic training data, made at a time."""


class SyntheticData:
    """`payload_bytes` of images that nothing makes smaller; the same seed, the same. None is in memory."""

    cpu_s = 0.0
    """Not counted: a device would have them."""

    def __init__(self, payload_bytes: int, seed: tuple[int, ...]) -> None:
        self.payload_bytes = payload_bytes
        self._seed = seed

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """From byte `offset` on."""
        for start in range(offset - offset % _DATA_BYTES, self.payload_bytes, _DATA_BYTES):
            rng = np.random.default_rng((*self._seed, start))
            yield rng.bytes(min(_DATA_BYTES, self.payload_bytes - start))[max(0, offset - start) :]


class SyntheticTrainer:
    """A Trainer whose local step adds seeded Gaussian noise of a real update's size.

    It needs memory for one vector beside the adapter it is given. The noise of the round to come is drawn
    before it is due, so that its making is in no measured round, unless it is too large to be kept.
    `raw`: how many images it has, and bytes of each, to be sent as they are. `collected` see build_trainer.
    """

    def __init__(
        self,
        layout: AdapterLayout,
        *,
        device_index: int,
        steps: int,
        examples: int,
        seed: int,
        raw: tuple[int, int] = (0, 0),
        collected: Path | None = None,
    ) -> None:
        self.layout = layout
        self.examples = examples
        self._steps = steps
        self._seed = (seed, device_index)
        self._images, self._image_bytes = raw
        self._collected = collected
        self._drawn: dict[int, Vector] = {}
        self.anticipate(1)

    def train(
        self,
        adapter: Vector,
        *,
        round_number: int,
        trained: Factors = "AB",
        on_step: Callable[[int], None] = lambda step: None,
    ) -> LocalResult:
        """As Trainer.train, with no work in it."""
        if self._collected is not None:
            self._steps *= len(collected_files(self._collected))
            self._collected = None
        vector = self._drawn.pop(round_number, None)
        if vector is None:
            vector = self._draw(round_number)
        vector += adapter
        if trained != "AB":
            lora = self._lora(f"training {trained} alone")
            frozen: Factors = "B" if trained == "A" else "A"
            lora.put(vector, frozen, lora.take(adapter, frozen))
        on_step(self._steps)
        return LocalResult(vector, loss=float("nan"), steps=self._steps)

    def initial(self) -> Vector:
        """As Trainer.initial."""
        return initial_adapter(self.layout, self._seed[0])

    def data(self) -> SyntheticData:
        """As Trainer.data: images alone, for captions are few bytes beside them."""
        return SyntheticData(self._images * self._image_bytes, (*self._seed, 0xDA7A))

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        """As Trainer.merge, with nothing beneath the adapter to add to."""
        own, other = self._lora("merging into the base"), LoraLayout(layout)
        own.with_rank(other.rank or 0).pack(layout.unpack(vector))

    def anticipate(self, round_number: int) -> None:
        """Draw the noise of round `round_number`; what was drawn for another is forgotten."""
        self._drawn.clear()
        if self.layout.size <= _KEPT_VALUES:
            self._drawn[round_number] = self._draw(round_number)

    def _draw(self, round_number: int) -> Vector:
        rng = np.random.default_rng((*self._seed, round_number))
        noise = np.empty(self.layout.size, np.float32)
        rng.standard_normal(out=noise, dtype=np.float32)
        noise *= np.float32(_UPDATE_SCALE)
        return noise

    def _lora(self, what: str) -> LoraLayout:
        lora = LoraLayout(self.layout)
        if lora.rank is None:
            raise UnsupportedError(f"{what} is for adapter.kind=lora; this device trains a whole UNet")
        return lora
