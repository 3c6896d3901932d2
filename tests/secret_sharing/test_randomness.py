"""Keystreams and derived keys against published vectors and the standard library."""

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.secret_sharing.randomness import KEY_BYTES, KeyStream, derive_key, random_key


def blocks(key: bytes, counters: list[int]) -> bytes:
    """Encrypt counter blocks one by one: AES-256 in ECB."""
    encryptor = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(b"".join((counter % 2**128).to_bytes(16, "big") for counter in counters))


def test_counter_mode_vector_of_nist() -> None:
    """NIST SP 800-38A, F.5.5 CTR-AES256.Encrypt: the block function `blocks` below is AES-256."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    encrypted = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    start = int.from_bytes(bytes(range(0xF0, 0x100)), "big")
    stream = blocks(key, [start + i for i in range(4)])
    assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)) == encrypted


def test_keystream_of_the_zero_key() -> None:
    """McGrew and Viega, GCM specification: blocks 0, 1, 2 are H, E(K, Y0) and E(K, Y1) of test cases 13 and 14."""
    expected = "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
    assert KeyStream(bytes(32)).read(48).hex() == expected


def test_keystream_encrypts_a_counter_from_zero() -> None:
    key = bytes(range(32))
    count = 3 * 2**13 + 2  # words, beyond two of the pieces it is made in
    expected = blocks(key, list(range(count // 2)))
    assert KeyStream(key).read(8 * count) == expected
    assert KeyStream(key).words(count).tobytes() == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=12))
def test_reading_in_pieces_is_reading_at_once(pieces: list[tuple[bool, int]]) -> None:
    key = bytes(range(32))
    stream = KeyStream(key)
    read = b"".join(stream.words(count).tobytes() if as_words else stream.read(count) for as_words, count in pieces)
    assert read == KeyStream(key).read(len(read))


def test_words_are_signed_little_endian_and_uniform() -> None:
    words = KeyStream(bytes(range(32))).words(50_000)
    assert words.dtype == np.int64
    assert words.shape == (50_000,)
    assert int(words[0]) == int.from_bytes(KeyStream(bytes(range(32))).read(8), "little", signed=True)
    ones = ((words[:, np.newaxis] >> np.arange(64)) & 1).sum(axis=0)
    assert np.abs(ones - 25_000).max() <= 6.5 * 50_000**0.5 / 2


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_keystream_needs_256_bits(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyStream(bytes(length))


def test_keystream_does_not_show_its_key() -> None:
    assert repr(KeyStream(bytes(32))) == "KeyStream(<redacted>)"


def test_random_keys_differ() -> None:
    keys = {random_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {KEY_BYTES}


@given(st.binary(min_size=16, max_size=40), st.binary(max_size=80), st.text(max_size=20))
def test_derived_keys_are_hkdf_sha256(secret: bytes, salt: bytes, purpose: str) -> None:
    """RFC 5869 with one output block, in terms of the standard library's HMAC."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    info = f"mpcdp/1/{purpose}".encode()
    assert derive_key(secret, salt=salt, purpose=purpose) == hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def test_derived_keys_depend_on_everything() -> None:
    keys = {
        derive_key(secret, salt=salt, purpose=purpose)
        for secret in (bytes(32), bytes(31) + b"\x01")
        for salt in (b"a", b"b")
        for purpose in ("mask", "noise")
    }
    assert len(keys) == 8


@given(skip=st.integers(0, 100), count=st.integers(0, 50))
def test_a_stream_may_begin_after_any_number_of_words(skip: int, count: int) -> None:
    key = bytes(range(32))
    np.testing.assert_array_equal(KeyStream(key, skip=skip).words(count), KeyStream(key).words(skip + count)[skip:])
