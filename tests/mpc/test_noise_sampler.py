"""The samplers: every random bit enumerated at small precision, equal results on true shares, and their cost."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from backend_contract import RecordingBackend
from scripted_streams import EveryAssignment, XorOfStreams
from thread_parties import SharingBackendUnsafe, run_in_threads

from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.dealing import correction_words
from mpcdp.mpc.noise.law import geometric_law, ladder_law, signed_law
from mpcdp.mpc.noise.sampler import sample_gaussian, sample_laplace
from mpcdp.mpc.noise.tables import Ladder, Level, gaussian_tables, geometric_digits, half_gaussian, ladder
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.randomness import KeyStream, derive_key
from mpcdp.secret_sharing.shares import RingVector

HALF = Fraction(1, 2)


def frequencies(values: RingVector) -> dict[Fraction, Fraction]:
    """The law of y when every lane is equally likely and holds y - 1/2."""
    return {value + HALF: Fraction(count, values.size) for value, count in Counter(values.tolist()).items()}


def support(law: dict[Fraction, Fraction]) -> dict[Fraction, Fraction]:
    """Leave out what has probability 0."""
    return {y: mass for y, mass in law.items() if mass}


@pytest.mark.parametrize(
    ("scale", "precision", "drawn", "tables", "blocks"),
    [
        (1, 4, 1, 2, 1),
        (1, 4, 2, 1, 2),
        (1, 5, 2, 1, 1),
        (2, 4, 3, 1, 4),
        (2, 4, 2, 2, 4),
        (1, 6, 3, 1, 2),
        (3, 5, 2, 2, 1),
    ],
)
def test_laplace_circuit_has_exactly_the_law_of_its_tables(
    scale: int, precision: int, drawn: int, tables: int, blocks: int
) -> None:
    digits = geometric_digits(scale, precision=precision, drawn=drawn)
    assert len(digits) == tables
    slots = drawn if drawn > 1 else 0
    stream = EveryAssignment(tables * (precision + slots) + 1)
    values = sample_laplace(PlaintextBackend(stream=stream), digits, stream.width, blocks=blocks)
    assert stream.drawn == stream.bits
    assert frequencies(values) == support(signed_law(geometric_law(digits)))


@pytest.mark.parametrize(
    ("variances", "shifts", "precision", "layout", "spare", "blocks"),
    [
        ((4,), (0,), 4, (2, 1), 0, 1),
        ((4,), (0,), 4, (1, 2), 0, 2),
        ((4,), (0,), 4, (2, 2), 0, 4),
        ((4,), (0,), 4, (1, 1, 1), 0, 1),
        ((9,), (0,), 8, (3,), 0, 2),
        ((8,), (0,), 8, (3,), 1, 1),
        ((9,), (0,), 8, (1, 1), 0, 1),
        ((4,), (0,), 4, (2, 1, 1), 0, 1),
        ((4,), (0,), 4, (3, 1), 1, 2),
        ((25, 9), (0, 1), 2, (2, 1), 0, 1),
        ((64, 36), (0, 2), 4, (2,), 0, 2),
        ((25, 9, 9), (0, 1, 2), 2, (1, 1), 0, 1),
    ],
)
def test_gaussian_circuit_has_exactly_the_law_of_its_tables(
    variances: tuple[int, ...],
    shifts: tuple[int, ...],
    precision: int,
    layout: tuple[int, ...],
    spare: int,
    blocks: int,
) -> None:
    levels = [Level(shift, Fraction(variance)) for shift, variance in zip(shifts, variances, strict=True)]
    steps = Ladder(tuple(levels))
    tables = [half_gaussian(level.variance, precision=precision, layout=layout, spare=spare) for level in levels]
    slots = sum(bits - spare for bits in layout if bits > 1)
    stream = EveryAssignment(len(levels) * (precision * len(layout) + slots + 1))
    values = sample_gaussian(PlaintextBackend(stream=stream), steps, tables, stream.width, blocks=blocks)
    assert stream.drawn == stream.bits
    assert frequencies(values) == support(ladder_law(steps, tables))


@pytest.mark.parametrize("party_count", [2, 3])
@pytest.mark.parametrize(("distribution", "blocks"), [("gaussian", 1), ("gaussian", 4), ("laplace", 1), ("laplace", 8)])
def test_shared_samples_equal_the_samples_in_the_clear(distribution: str, blocks: int, party_count: int) -> None:
    """The same random bits, once shared among parties and once in the clear, give the same integers."""
    steps, words = ladder(2**20), 3
    tables = gaussian_tables(steps)

    def run(backend: SharingBackendUnsafe | PlaintextBackend) -> RingVector:
        if distribution == "laplace":
            return sample_laplace(backend, geometric_digits(2**20), words, blocks=blocks)
        return sample_gaussian(backend, steps, tables, words, blocks=blocks)

    def party(mesh: Mesh) -> RingVector:
        return run(SharingBackendUnsafe(mesh, b"secret"))

    shares = run_in_threads(party_count, party)
    own = [KeyStream(derive_key(b"secret", salt=bytes([rank]), purpose="test-own")) for rank in range(party_count)]
    clear = run(PlaintextBackend(stream=XorOfStreams(own)))
    assert np.array_equal(np.sum(shares, axis=0), clear)
    assert len(np.unique(clear)) >= 64 * words - 2
    for share in shares:  # a share is uniform on the ring: far larger than any sample
        assert np.abs(share >> 40).max() > 2**16


@pytest.mark.parametrize(
    ("distribution", "blocks", "expected"),
    [
        ("laplace", 1, (912, 745, 1472, 39)),
        ("laplace", 4, (1461, 1321, 1967, 17)),
        ("laplace", 8, (1713, 1609, 2147, 14)),
        ("gaussian", 1, (2685, 2204, 3254, 44)),
        ("gaussian", 4, (3966, 3548, 4409, 22)),
    ],
)
def test_cost_per_sample(distribution: str, blocks: int, expected: tuple[int, int, int, int]) -> None:
    """The figures of the docstrings: ANDs, bits opened, bits of corrections, rounds."""
    backend = RecordingBackend(PlaintextBackend())
    if distribution == "laplace":
        sample_laplace(backend, geometric_digits(2**20), 1, blocks=blocks)
    else:
        sample_gaussian(backend, ladder(2**20), gaussian_tables(ladder(2**20)), 1, blocks=blocks)
    corrections = sum(map(correction_words, backend.requests))
    assert (backend.ands, sum(backend.opened), corrections, len(backend.opened)) == expected
