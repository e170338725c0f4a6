"""Shamir's secret sharing (CACM 1979): of n shares any t give the secret, and fewer say nothing of it.

pycryptodome's, over GF(2^128): secrets of 16 bytes, participants 1, 2, ..., n. It is written in Python:
combining takes time in t^2.
"""

from __future__ import annotations

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

from proto.secagg.keys import SEED_BYTES, SecretError

SHARE_BYTES = SEED_BYTES


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """A secret of 16 bytes -> the shares of participants 1 to `count`."""
    return [share for _, share in Shamir.split(threshold, count, secret)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Participants' shares, at least `threshold`, of which so many are used -> the secret.

    Raises SecretError for too few. Shares of another secret give another secret.
    """
    if len(shares) < threshold:
        raise SecretError(f"{len(shares)} shares of a secret that takes {threshold}")
    return Shamir.combine(sorted(shares.items())[:threshold])
