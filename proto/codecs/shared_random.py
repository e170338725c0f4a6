"""Random numbers that encoder and decoder both draw from a seed of 8 bytes in the payload.

Only the raw stream of a bit generator is used: numpy promises that it stays as it is (NEP 19), and does not
promise it of anything that Generator makes of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEED_BYTES = 8


def raw_words(seed: bytes, count: int) -> NDArray[np.uint64]:
    """`count` uniform 64-bit words, the same for a seed on every machine."""
    words: NDArray[np.uint64] = np.random.PCG64(int.from_bytes(seed, "little")).random_raw(count)
    return words
