"""Secret randomness: operating-system entropy, AES-256-CTR keystreams, and keys derived by HKDF-SHA256.

Every share, mask, noise bit and correlated bit of mpcdp comes from here. Generators of torch, numpy and ``random`` have
small seeds or predictable streams and are never used for a secret.
"""

import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

__all__ = ["KEY_BYTES", "KeyStream", "derive_key", "random_key"]

KEY_BYTES = 32
_ZEROS = bytes(1 << 16)


def random_key() -> bytes:
    """Draw a 256-bit key from the operating system."""
    return secrets.token_bytes(KEY_BYTES)


def derive_key(secret: bytes, *, salt: bytes, purpose: str) -> bytes:
    """Derive an independent 256-bit key from a secret (HKDF-SHA256, RFC 5869).

    Args:
        secret: at least 128 bits of secret entropy.
        salt: public value that makes this derivation unique, such as a session id.
        purpose: what the key is for; different purposes give independent keys.
    """
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=f"mpcdp/1/{purpose}".encode()).derive(secret)


class KeyStream:
    """The AES-256-CTR keystream of one key, read as 64-bit words or bytes.

    A key belongs to one stream: two streams of the same key are equal, so derive a fresh key for each use.

    Args:
        key: 32 bytes.
        skip: words of the stream to begin after.

    Raises:
        ValueError: the key does not have 32 bytes.
    """

    def __init__(self, key: bytes, *, skip: int = 0) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a keystream's key has {KEY_BYTES} bytes, not {len(key)}")
        counter, word = divmod(skip, 2)  # a block of AES is two words
        self._encryptor = Cipher(algorithms.AES256(key), modes.CTR(counter.to_bytes(16, "big"))).encryptor()
        self.read(8 * word)

    def __repr__(self) -> str:
        return "KeyStream(<redacted>)"

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        return self._encryptor.update(bytes(count))

    def words(self, count: int) -> NDArray[np.int64]:
        """Return the next ``count`` uniform 64-bit words, shape (count,)."""
        words = np.empty(count, dtype="<i8")
        target = words.view(np.uint8).data
        for start in range(0, len(target), len(_ZEROS)):
            piece = target[start : start + len(_ZEROS)]
            self._encryptor.update_into(memoryview(_ZEROS)[: len(piece)], piece)
        return words
