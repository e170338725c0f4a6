"""What two devices agree on behind the server's back: X25519, HKDF-SHA256, AES-128-GCM.

A secret key is made of a seed of 16 bytes, so that sharing the seed shares the key.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED_BYTES = 16
PUBLIC_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
SEALED_EXTRA_BYTES = _NONCE_BYTES + _TAG_BYTES
"""How much longer a message is when it is sealed."""


class SecretError(ValueError):
    """A key, share or sealed message that does not fit the others, or that nobody may ask for."""


class KeyPair:
    """A key pair of one device in one round."""

    def __init__(self, seed: bytes = b"") -> None:
        self.seed = seed or secrets.token_bytes(SEED_BYTES)
        """All of its secret."""
        self._secret = X25519PrivateKey.from_private_bytes(_derive(self.seed, b"fedcell key", 32))
        self.public = self._secret.public_key().public_bytes_raw()

    def agree(self, public: bytes, purpose: bytes) -> bytes:
        """16 bytes that only this pair and the owner of `public` can tell, others for each `purpose`.

        Raises SecretError for what is no public key.
        """
        try:
            shared = self._secret.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise SecretError(f"{public.hex()} is no public key: {error}") from error
        return _derive(shared, purpose, SEED_BYTES)


def purpose(use: str, run_id: str, round_number: int) -> bytes:
    """What keeps a key from being of use anywhere else."""
    return f"fedcell {use}, run {run_id}, round {round_number}".encode()


def _derive(secret: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=purpose).derive(secret)


def seal(key: bytes, message: bytes, bound_to: bytes) -> bytes:
    """`message` so that only a holder of `key` can read it, and only as one `bound_to` the same."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, message, bound_to)


def unseal(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    """The message. Raises SecretError for what was sealed otherwise, or changed."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError) as error:
        raise SecretError("a sealed message is not what its sender made") from error
