"""Additive shares of a ring vector: x = x_1 + ... + x_k over Z_2^64.

All shares but the last are keystreams: party p < k holds a key, so the owner sends it nothing per vector, and the last
party gets x minus the k - 1 masks. Any k - 1 shares are (computationally, under AES-256) uniform and independent of x,
*provided no mask ever hides two vectors*. `mask_nonce` makes the mask a function of the vector, so that a crashed,
restored or cloned owner that encodes another vector for the same round uses another mask.
"""

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np

from mpcdp.secret_sharing.randomness import KEY_BYTES, KeyStream, derive_key
from mpcdp.secret_sharing.shares import RingVector, SharedVector

__all__ = ["NONCE_BYTES", "last_share", "mask", "mask_nonce", "mask_share", "reconstruct"]

NONCE_BYTES = 32


def mask_nonce(owner_secret: bytes, *, session: bytes, round_index: int, encoded: RingVector) -> bytes:
    """Compute the public nonce of the masks of one vector: HMAC-SHA256(owner secret, session, round, vector).

    Args:
        owner_secret: 256-bit key that only the owner knows; the nonce reveals nothing about the vector without it.
        session: session id, 32 bytes.
        round_index: round in which the vector is used.
        encoded: shape (d,).

    Returns:
        32 bytes.
    """
    tag = hmac.new(owner_secret, digestmod=hashlib.sha256)
    tag.update(b"mpcdp/1/mask-nonce" + len(session).to_bytes(8, "big") + session)
    tag.update(round_index.to_bytes(8, "big"))
    tag.update(np.ascontiguousarray(encoded, dtype="<i8").data)
    return tag.digest()


def mask(key: bytes, *, nonce: bytes, dimension: int) -> RingVector:
    """Expand the mask that one party holds of one vector, shape (dimension,).

    Args:
        key: the 256-bit key that the owner gave this party for the session.
        nonce: the vector's `mask_nonce`.
        dimension: number of coordinates.

    Raises:
        ValueError: the key or the nonce does not have 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a mask's key has {KEY_BYTES} bytes, not {len(key)}")
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a mask's nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    return KeyStream(derive_key(key, salt=nonce, purpose="mask")).words(dimension)


def mask_share(key: bytes, *, nonce: bytes, dimension: int) -> SharedVector:
    """Return the pseudo-random share of a party that holds a key. No communication."""
    return SharedVector(mask(key, nonce=nonce, dimension=dimension))


def last_share(encoded: RingVector, keys: Sequence[bytes], *, nonce: bytes) -> RingVector:
    """Compute what the last party receives: the vector minus the masks of all other parties, shape (d,).

    Args:
        encoded: shape (d,).
        keys: the keys of parties 1 .. k-1; at least one, all different.
        nonce: `mask_nonce` of this vector.

    Raises:
        ValueError: no key is given, so nothing would hide the vector; or one is given twice, which would show its low
            bits: minus twice a mask is even.
    """
    if not keys:
        raise ValueError("a vector is shared among at least two parties")
    if len(set(keys)) != len(keys):
        raise ValueError("two parties hold the same key; give each one of its own")
    remainder = encoded.astype(np.int64, copy=True)
    for key in keys:
        remainder -= mask(key, nonce=nonce, dimension=encoded.shape[0])
    return remainder


def reconstruct(shares: Sequence[SharedVector]) -> RingVector:
    """Add all k shares of a vector, shape (d,); for tests and the plaintext backend."""
    return SharedVector.total(shares, dimension=shares[0].dimension).values
