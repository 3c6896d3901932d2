"""Binary arithmetic on shared bits against Python's integers."""

import numpy as np
import pytest
from backend_contract import RecordingBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_streams import FixedWords, fixed_stream
from thread_parties import SharingBackendUnsafe, run_in_threads

from mpcdp.mpc.backend import Backend, Mesh, Words
from mpcdp.mpc.bit_slicing import integers
from mpcdp.mpc.noise.integers import signed_sum, weighted_sum
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import RingVector

heights = st.lists(st.integers(0, 7), min_size=1, max_size=12).filter(any)


def random_columns(heights: list[int], words: int = 2) -> list[list[Words]]:
    """Random bits, mostly ones, so that carries go far."""
    stream = fixed_stream(repr(heights))
    return [[stream.words(words) | stream.words(words) for _ in range(height)] for height in heights]


def expected_sum(columns: list[list[Words]]) -> RingVector:
    total = sum(integers(bit[np.newaxis]) << place for place, column in enumerate(columns) for bit in column)
    assert isinstance(total, np.ndarray)
    return total


class MaskedBackend(PlaintextBackend):
    """In the clear, but with masks; and it looks at what would be opened."""

    def __init__(self, mask: int | None) -> None:
        super().__init__(stream=fixed_stream("masks"))
        self._mask = mask
        self.opened: list[RingVector] = []

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        if self._mask is None:
            digits = self.random_words((bits, words))
        else:
            digits = np.repeat(-(self._mask >> np.arange(bits)[:, np.newaxis] & 1), words, axis=1)
        return digits, integers(digits)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        self.opened.append(integers(digits[:-1]))
        return super().unmask(digits, masks)


@given(heights)
@settings(max_examples=60)
def test_weighted_sum_is_the_sum_whatever_the_mask(heights: list[int]) -> None:
    columns = random_columns(heights)
    before = [[bit.copy() for bit in column] for column in columns]
    for mask in (0, 1, -1, None):
        assert np.array_equal(weighted_sum(MaskedBackend(mask), columns), expected_sum(columns))
    for column, old in zip(columns, before, strict=True):
        assert len(column) == len(old)
        assert all(map(np.array_equal, column, old))


@pytest.mark.parametrize("heights", [[1], [7], [0, 0, 1], [3, 3, 3, 3, 3, 3, 3], [1] * 40, [2] * 20, [7] * 8])
def test_the_largest_sum_is_reached(heights: list[int]) -> None:
    columns = [[np.full(1, -1)] * height for height in heights]
    for mask in (0, -1, None):
        assert (weighted_sum(MaskedBackend(mask), columns) == expected_sum(columns)[0]).all()


def test_what_is_opened_is_uniform_whatever_the_sum() -> None:
    for bit in (0, -1):
        backend = MaskedBackend(None)
        weighted_sum(backend, [[np.full(512, bit)]] * 4)
        (opened,) = backend.opened
        counts = np.bincount(opened, minlength=16)
        assert abs(counts - opened.size / 16).max() <= 6 * (opened.size / 16) ** 0.5


@pytest.mark.parametrize("party_count", [2, 3])
def test_true_shares_give_the_same(party_count: int) -> None:
    columns = random_columns([3, 1, 4, 1, 5, 0, 2])

    def party(mesh: Mesh) -> RingVector:
        backend = SharingBackendUnsafe(mesh, b"sum")
        return weighted_sum(backend, [[backend.public(bit) for bit in column] for column in columns])

    shares = run_in_threads(party_count, party)
    assert np.array_equal(np.sum(shares, axis=0), expected_sum(columns))
    assert all(np.abs(share >> 40).max() > 2**16 for share in shares)


@pytest.mark.parametrize(("heights", "rounds"), [([1] * 27, 7), ([3] * 26, 9)])
def test_rounds(heights: list[int], rounds: int) -> None:
    """Carry-save steps, one AND, a prefix network, the opening."""
    backend = RecordingBackend(PlaintextBackend())
    weighted_sum(backend, random_columns(heights))
    assert len(backend.opened) == rounds
    integers_dealt = [request.fan for request in backend.requests if request.kind == "integer"]
    assert integers_dealt == [len(heights) + (heights[0] == 3) * 2, 1]


@pytest.mark.parametrize("shifts", [(0,), (0, 1), (0, 3, 5)])
def test_signed_sum_is_the_shifted_sum_minus_a_half(shifts: tuple[int, ...]) -> None:
    bits, levels = 4, len(shifts)
    magnitude = fixed_stream("magnitude").words(bits * levels * 8).reshape(bits, levels, 8)
    sign = fixed_stream("sign").words(levels * 8).reshape(levels, 8)
    backend: Backend = PlaintextBackend(stream=FixedWords(sign))
    k = np.stack([integers(magnitude[:, level]) for level in range(levels)])
    signs = np.stack([integers(sign[level : level + 1]) for level in range(levels)])
    twice_y = np.where(signs == 1, -1, 1) * (2 * k + 1)
    twice_sum = (2 ** np.array(shifts)) @ twice_y
    assert np.array_equal(2 * signed_sum(backend, magnitude, shifts) + 1, twice_sum)


@pytest.mark.parametrize("shifts", [(0,), (0, 3, 6, 9, 12, 15, 17)])
def test_signed_sum_reaches_both_ends(shifts: tuple[int, ...]) -> None:
    ones = np.full((7, len(shifts), 1), -1)
    largest = (255 * sum(2**shift for shift in shifts) + 1) // 2
    for sign, expected in ((0, largest - 1), (-1, -largest)):
        backend = PlaintextBackend(stream=FixedWords(np.full(len(shifts), sign)))
        assert (signed_sum(backend, ones, shifts) == expected).all()
