"""ans: the symbols of another codec, entropy coded by asymmetric numeral systems (Duda, arXiv 1311.2540).

Modelled is each field of the payload (proto/codecs/fields.py), and each plane of bytes in it, by itself,
as symbols drawn independently from one distribution. Its frequencies are counted and sent along, a byte
each. So two 4-bit symbols that share a byte have the product of their probabilities, and the coder
(constriction) works on bytes. Bytes that gain nothing, such as the low ones of floats, stay as they are.

Payload, for each plane: 0 and its bytes; or 1, the first and the last symbol there is, the frequencies of all
from one to the other, the number of 32-bit words, and the words.
"""

from __future__ import annotations

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.codecs.codec import Codec, CodecError
from proto.codecs.fields import FixedLength
from proto.codecs.lossless import Lossless
from proto.codecs.packing import Symbols, pack, unpack
from proto.codecs.reader import Reader

_PLAIN, _CODED = b"\0", b"\1"
_COUNT_BYTES = 4


class Ans(Lossless):
    """Brings symbols within 1 % of their entropy: qsgd(4) from 4.06 to 1.1 bits a parameter."""

    def __init__(self, inner: Codec) -> None:
        if not isinstance(inner, FixedLength):
            raise CodecError(f"codec {inner.name}|ans: {inner.name} is entropy coded already")
        super().__init__("ans", inner)
        self.inner = inner

    def encoded_bytes(self, size: int) -> int:
        return sum(field.planes + field.bytes for field in self.inner.fields(size))

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        fields = self.inner.fields(vector.size)
        parts = self.inner.split(self.inner.encode(vector, rng), vector.size)
        return b"".join(
            _encode(part[plane :: field.planes], field.bits)
            for field, part in zip(fields, parts, strict=True)
            for plane in range(field.planes)
        )

    def decode(self, payload: bytes, size: int) -> Vector:
        if len(payload) > self.encoded_bytes(size):
            raise CodecError(
                f"{self.name}: {len(payload)} bytes, {size} values make {self.encoded_bytes(size)}"
            )
        reader = Reader(self.name, payload)
        parts = []
        for field in self.inner.fields(size):
            part = np.empty(field.bytes, np.uint8)
            for plane in range(field.planes):
                length = len(range(plane, field.bytes, field.planes))
                part[plane :: field.planes] = _decode(reader, length, field.bits)
            parts.append(part.tobytes())
        reader.finish()
        return self.inner.decode(b"".join(parts), size)


def _encode(plane: Symbols, bits: int) -> bytes:
    """Packed symbols of `bits` bits -> at most one byte more than there are."""
    plain = _PLAIN + plane.tobytes()
    if not plane.size:
        return plain
    symbols = plane if 8 % bits == 0 else unpack(plane, bits, 8 * plane.size // bits)
    counts = np.bincount(symbols, minlength=2 ** _coded_bits(bits))
    table = _to_table(_of_single_symbols(counts, bits))
    weights = _weights(table, bits)
    entropy = -(counts[counts > 0] * np.log2(weights[counts > 0] / weights.sum())).sum()
    if entropy / 8 >= plane.size:
        return plain
    coder = stream.stack.AnsCoder()
    coder.encode_reverse(symbols.astype(np.int32), stream.model.Categorical(weights, perfect=False))
    words = coder.get_compressed()
    first, last = np.flatnonzero(table)[[0, -1]]
    coded = _CODED + bytes([first, last]) + table[first : last + 1].tobytes()
    coded += words.size.to_bytes(_COUNT_BYTES, "little") + words.astype("<u4").tobytes()
    return coded if len(coded) < len(plain) else plain


def _decode(reader: Reader, length: int, bits: int) -> Symbols:
    """What _encode was given: `length` bytes of packed symbols."""
    kind = reader.take(1)
    if kind == _PLAIN:
        return np.frombuffer(reader.take(length), np.uint8)
    if kind != _CODED:
        raise CodecError(f"{reader.name}: no plane begins with {kind!r}")
    first, last = reader.take(2)
    table = np.zeros(2**bits, np.uint8)
    if not first <= last < table.size:
        raise CodecError(f"{reader.name}: symbols {first} to {last} of {table.size}")
    table[first : last + 1] = np.frombuffer(reader.take(last + 1 - first), np.uint8)
    if not table.any():
        raise CodecError(f"{reader.name}: no symbol has a frequency")
    words = np.frombuffer(reader.take(4 * int.from_bytes(reader.take(_COUNT_BYTES), "little")), "<u4")
    try:
        coder = stream.stack.AnsCoder(words.astype(np.uint32))
    except ValueError as error:
        raise CodecError(f"{reader.name}: {error}") from error
    count = length if 8 % bits == 0 else 8 * length // bits
    symbols = coder.decode(stream.model.Categorical(_weights(table, bits), perfect=False), count).astype(
        np.uint8
    )
    if not coder.is_empty():
        raise CodecError(f"{reader.name}: {coder.num_words()} words too many")
    return symbols if 8 % bits == 0 else np.frombuffer(pack(symbols, bits), np.uint8)


def _coded_bits(bits: int) -> int:
    """What the coder takes as one: a byte where symbols fill it, or else a symbol."""
    return 8 if 8 % bits == 0 else bits


def _of_single_symbols(counts: NDArray[np.intp], bits: int) -> NDArray[np.intp]:
    """How often each symbol is in bytes that occur so often; shape (2^coded_bits,) -> (2^bits,)."""
    many = _coded_bits(bits) // bits
    cube = counts.reshape((2**bits,) * many)
    axes = range(many)
    return np.sum([cube.sum(axis=tuple(a for a in axes if a != axis)) for axis in axes], axis=0)


def _to_table(counts: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Frequencies as bytes: 0, or (16 + low half) * 2^(high half), up to 3 % off, which costs 0.0002 bits."""
    mantissa, exponent = np.frexp(counts * (2.0**19 / counts.max()))
    low = np.clip(np.rint(32 * mantissa) - 16, 0, 15)
    high = np.clip(exponent - 5, 0, 15)
    table = np.where(exponent < 5, 1, np.maximum(16 * high + low, 1))
    return np.where(counts > 0, table, 0).astype(np.uint8)


def _weights(table: NDArray[np.uint8], bits: int) -> NDArray[np.float64]:
    """Frequencies of what is coded as one, from those of a symbol; exact, so both ends have one model."""
    single = np.where(table > 0, np.ldexp(16.0 + (table & 15), table >> 4), 0.0)
    weights = single
    for _ in range(_coded_bits(bits) // bits - 1):
        weights = np.multiply.outer(weights, single).reshape(-1)
    return weights
