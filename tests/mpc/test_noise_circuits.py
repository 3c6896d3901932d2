"""The gates against integer semantics, in the clear, on inputs the tests choose; and what they cost."""

import numpy as np
import pytest
from backend_contract import RecordingBackend
from numpy.typing import NDArray
from scripted_streams import EveryAssignment, fixed_stream

from mpcdp.mpc.backend import Words
from mpcdp.mpc.noise import circuits
from mpcdp.mpc.noise.circuits import accumulate, first_differences
from mpcdp.mpc.plaintext_backend import PlaintextBackend


def lanes(words: Words) -> NDArray[np.int64]:
    """Unpack words (..., w) to lanes (..., 64 * w)."""
    return ((words[..., np.newaxis] >> np.arange(64)) & 1).reshape(*words.shape[:-1], -1)


def pack(bits: NDArray[np.int64]) -> Words:
    """Pack lanes (..., 64 * w) to words (..., w)."""
    return np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little").view("<i8")


def random_lanes(name: str, *shape: int) -> NDArray[np.int64]:
    """Return fixed random words of shape (..., w)."""
    return fixed_stream(name).words(int(np.prod(shape))).reshape(shape)


def costs(backend: RecordingBackend, words: int) -> tuple[int, int, int]:
    """ANDs and opened bits per lane, and rounds, of a recorded circuit."""
    return backend.ands // words, sum(backend.opened) // words, len(backend.opened)


@pytest.mark.parametrize(
    ("length", "blocks"), [(1, 1), (2, 1), (3, 1), (5, 1), (6, 2), (8, 8), (12, 4), (8, 2), (9, 1)]
)
def test_first_differences_are_one_hot_with_halving_frequency(length: int, blocks: int) -> None:
    """All 2^length values of the random bits occur; at most one f_i is 1, and f_i in 2^-(i+1) of all cases."""
    stream = EveryAssignment(length)
    first = np.stack(list(first_differences(PlaintextBackend(stream=stream), length, (stream.width,), blocks=blocks)))
    assert stream.drawn == length
    assert first.shape == (length, stream.width)
    assert lanes(first).sum(axis=0).max() == 1
    lane_count = 64 * stream.width  # lanes repeat the assignments when these are fewer than 64
    assert lanes(first).sum(axis=1).tolist() == [lane_count >> i + 1 for i in range(length)]


@pytest.mark.parametrize(
    ("blocks", "expected"), [(1, (63, 31, 31)), (2, (94, 63, 16)), (4, (124, 95, 9)), (8, (152, 127, 6))]
)
def test_first_differences_costs(blocks: int, expected: tuple[int, int, int]) -> None:
    backend = RecordingBackend(PlaintextBackend())
    assert [word.shape for word in first_differences(backend, 64, (3, 4), blocks=blocks)] == [(3, 4)] * 64
    assert costs(backend, 12) == expected


@pytest.mark.parametrize("cached_bytes", [0, 15 * 2 * 4 * 8])
@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_accumulate_adds_a_product_over_two_elements(
    count: int, cached_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, and all rows at once."""
    monkeypatch.setattr(circuits, "_CACHED_BYTES", cached_bytes)
    tosses = random_lanes("tosses", count, 2, 4)
    rows = lanes(random_lanes("rows", 15, 1))[..., :count].astype(np.bool_)
    before = random_lanes("chosen", 15, 3, 4)
    chosen, given_tosses = before.copy(), tosses.copy()
    accumulate(chosen[:, 1:], list(tosses), rows)
    product = np.einsum("ri,ijl->rjl", rows.astype(np.int64), lanes(tosses)) % 2
    assert np.array_equal(lanes(chosen ^ before)[:, 1:], product)
    assert np.array_equal(chosen[:, 0], before[:, 0])
    assert np.array_equal(tosses, given_tosses)
