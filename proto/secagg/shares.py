"""Shamir's secret sharing (CACM 1979): of n shares any t give the secret, and fewer say nothing of it.

pycryptodome's, over GF(2^128): secrets of 16 bytes, participants 1, 2, ..., n. It would combine, too, but by
itself for each secret, in t^2 steps: 20 s for the secrets of a hundred devices. They are all combined of the
same participants' shares, so here the Lagrange coefficients are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from Crypto.Protocol.SecretSharing import Shamir

from proto.secagg.keys import SEED_BYTES, SecretError

SHARE_BYTES = SEED_BYTES
_DEGREE = 128
_POLYNOMIAL = 2**128 + 2**7 + 2**2 + 2 + 1
"""That of pycryptodome's field; bit i of a number is the coefficient of x^i."""


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """A secret of 16 bytes -> the shares of participants 1 to `count`."""
    return [share for _, share in Shamir.split(threshold, count, secret)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Participants' shares, at least `threshold`, of which so many are used -> the secret.

    Raises SecretError for too few. Shares of another secret give another secret.
    """
    if len(shares) < threshold:
        raise SecretError(f"{len(shares)} shares of a secret that takes {threshold}")
    numbers = tuple(sorted(shares)[:threshold])
    secret = 0
    for number, coefficient in zip(numbers, _coefficients(numbers), strict=True):
        secret ^= _times(int.from_bytes(shares[number], "big"), coefficient)
    return secret.to_bytes(SHARE_BYTES, "big")


@lru_cache(maxsize=4)
def _coefficients(numbers: tuple[int, ...]) -> list[int]:
    """What each participant's share counts for in the polynomial's value at 0: prod_m x_m / (x_m - x_j)."""
    coefficients = []
    for own in numbers:
        above = below = 1
        for other in numbers:
            if other != own:
                above, below = _times(above, other), _times(below, other ^ own)
        coefficients.append(_times(above, _inverse(below)))
    return coefficients


def _times(a: int, b: int) -> int:
    """Of two elements; faster where `b` is small."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> _DEGREE:
            a ^= _POLYNOMIAL
        b >>= 1
    return product


def _inverse(a: int) -> int:
    """Of an element that is not 0, by Euclid's algorithm on polynomials."""
    u, v, g, h = a, _POLYNOMIAL, 1, 0
    while u != 1:
        shift = u.bit_length() - v.bit_length()
        if shift < 0:
            u, v, g, h, shift = v, u, h, g, -shift
        u ^= v << shift
        g ^= h << shift
    return g
