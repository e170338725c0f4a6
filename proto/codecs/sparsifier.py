"""What sparsifiers share: how many values they keep."""

from __future__ import annotations

from proto.codecs.codec import Codec, CodecError


class Sparsifier:
    """Keeps a `fraction` of a vector's values, one at least, and leaves them to the codec `inner`."""

    def __init__(self, name: str, inner: Codec, fraction: float) -> None:
        if isinstance(fraction, str) or not 0 < fraction <= 1:
            raise CodecError(f"codec {name}: fraction must be above 0 and at most 1, not {fraction}")
        self.inner = inner
        self.fraction = float(fraction)
        self.name = f"{name}({self.fraction!r})|{inner.name}"

    def kept(self, size: int) -> int:
        """How many of `size` values."""
        return min(size, max(1, round(self.fraction * size)))
