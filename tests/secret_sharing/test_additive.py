"""Additive sharing: it reconstructs, k - 1 shares tell nothing, and no mask serves two vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpcdp.secret_sharing.additive import last_share, mask, mask_nonce, mask_share, reconstruct
from mpcdp.secret_sharing.randomness import KeyStream, derive_key
from mpcdp.secret_sharing.shares import RingVector, SharedVector

SECRET = bytes(range(32))
NONCE = bytes(range(32, 64))
SESSION = bytes(32)

ring_vectors = arrays(np.int64, st.integers(1, 20), elements=st.integers(-(2**63), 2**63 - 1))


def keys(count: int) -> list[bytes]:
    return [derive_key(SECRET, salt=bytes([party]), purpose="test") for party in range(count)]


def ring_sum(shares: list[RingVector]) -> list[int]:
    """Add in Python integers, then reduce to the ring's representatives."""
    totals = [sum(int(share[i]) for share in shares) for i in range(shares[0].size)]
    return [(total + 2**63) % 2**64 - 2**63 for total in totals]


@given(ring_vectors, st.integers(2, 5))
def test_shares_add_up_to_the_vector(encoded: RingVector, party_count: int) -> None:
    given_keys = keys(party_count - 1)
    before = encoded.copy()
    last = last_share(encoded, given_keys, nonce=NONCE)
    shares = [mask_share(key, nonce=NONCE, dimension=encoded.size) for key in given_keys]
    assert ring_sum([share.values for share in shares] + [last]) == encoded.tolist()
    assert np.array_equal(reconstruct([*shares, SharedVector(last.copy())]), encoded)
    assert np.array_equal(encoded, before)


@given(ring_vectors, ring_vectors, st.integers(2, 4))
def test_shares_of_a_sum_are_sums_of_shares(first: RingVector, second: RingVector, party_count: int) -> None:
    dimension = min(first.size, second.size)
    vectors = [first[:dimension], second[:dimension]]
    nonces = [mask_nonce(SECRET, session=SESSION, round_index=i, encoded=vectors[i]) for i in range(2)]
    given_keys = keys(party_count - 1)
    parties = [[mask_share(key, nonce=nonce, dimension=dimension) for nonce in nonces] for key in given_keys]
    parties.append(
        [SharedVector(last_share(x, given_keys, nonce=nonce)) for x, nonce in zip(vectors, nonces, strict=True)]
    )
    totals = [SharedVector.total(shares, dimension=dimension) for shares in parties]
    assert reconstruct(totals).tolist() == ring_sum(vectors)


def test_every_share_is_uniform_whatever_the_vector() -> None:
    """Each share, and each sum of shares but the whole, has fair bits even for the zero vector."""
    encoded = np.zeros(20_000, dtype=np.int64)
    given_keys = keys(2)
    first, second = (mask(key, nonce=NONCE, dimension=20_000) for key in given_keys)
    last = last_share(encoded, given_keys, nonce=NONCE)
    for view in (first, second, last, first + second, first + last, second + last):
        ones = ((view[:, np.newaxis] >> np.arange(64)) & 1).sum(axis=0)
        assert np.abs(ones - 10_000).max() <= 6.5 * 20_000**0.5 / 2


def test_a_mask_is_the_keystream_of_a_key_derived_for_its_nonce() -> None:
    key = keys(1)[0]
    expected = KeyStream(derive_key(key, salt=NONCE, purpose="mask")).words(9)
    assert np.array_equal(mask(key, nonce=NONCE, dimension=9), expected)


def test_masks_of_different_keys_or_nonces_have_nothing_in_common() -> None:
    masks = [mask(key, nonce=nonce, dimension=100) for key in keys(2) for nonce in (NONCE, NONCE[::-1])]
    assert len(np.unique(masks)) == 400


def test_the_nonce_depends_on_everything() -> None:
    """On a changed vector above all: a redrawn contribution of the same round gets another mask."""
    vector = np.array([1, 2, 3])
    nonces = [
        mask_nonce(SECRET, session=SESSION, round_index=0, encoded=vector),
        mask_nonce(SECRET[::-1], session=SESSION, round_index=0, encoded=vector),
        mask_nonce(SECRET, session=bytes(31) + b"\x01", round_index=0, encoded=vector),
        mask_nonce(SECRET, session=bytes(33), round_index=0, encoded=vector),
        mask_nonce(SECRET, session=SESSION, round_index=1, encoded=vector),
        mask_nonce(SECRET, session=SESSION, round_index=0, encoded=np.array([1, 2, 4])),
        mask_nonce(SECRET, session=SESSION, round_index=0, encoded=np.array([1, 2])),
        mask_nonce(SECRET, session=SESSION, round_index=0, encoded=np.array([0, 1, 2, 3])),
    ]
    assert len(set(nonces)) == len(nonces)
    assert {len(nonce) for nonce in nonces} == {32}


@given(ring_vectors, st.integers(0, 2**40))
def test_the_nonce_repeats_for_the_same_vector(encoded: RingVector, round_index: int) -> None:
    """A retry sends the same bytes; the memory layout of the vector does not matter."""
    twice = np.repeat(encoded, 2)[::2]
    first, second = (mask_nonce(SECRET, session=SESSION, round_index=round_index, encoded=x) for x in (encoded, twice))
    assert first == second


def test_the_difference_of_two_uploads_of_a_round_hides_the_difference_of_the_vectors() -> None:
    """With the vector in the nonce the masks differ; under one nonce they would cancel."""
    first, second = np.arange(100), np.arange(100) + 7
    given_keys = keys(2)

    def difference(nonces: list[bytes]) -> RingVector:
        uploads = [last_share(x, given_keys, nonce=n) for x, n in zip((first, second), nonces, strict=True)]
        return uploads[1] - uploads[0]

    own = [mask_nonce(SECRET, session=SESSION, round_index=0, encoded=x) for x in (first, second)]
    assert np.abs(difference(own) >> 40).max() > 2**20
    assert difference([NONCE, NONCE]).tolist() == [7] * 100


def test_a_vector_without_masks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two parties"):
        last_share(np.arange(3), [], nonce=NONCE)


def test_a_key_given_to_two_parties_is_refused() -> None:
    key = keys(1)[0]
    with pytest.raises(ValueError, match="same key"):
        last_share(np.arange(3), [key, key], nonce=NONCE)


@pytest.mark.parametrize(("key_bytes", "nonce_bytes"), [(0, 32), (16, 32), (33, 32), (32, 0), (32, 16), (32, 33)])
def test_short_keys_and_nonces_are_refused(key_bytes: int, nonce_bytes: int) -> None:
    with pytest.raises(ValueError, match="has 32 bytes"):
        mask(bytes(key_bytes), nonce=bytes(nonce_bytes), dimension=1)
