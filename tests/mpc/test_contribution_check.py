"""The contribution check in the clear, with every mask that could matter: whom it lets pass, and whom it stops."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor, isqrt, sqrt

import numpy as np
import pytest
from backend_contract import RecordingBackend
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thread_parties import SharingBackendUnsafe, run_in_threads

from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.contribution_check import NormCheck, check_contributions, check_schedule, circuit, norm_check
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.secret_sharing.shares import RingVector, SharedVector

M = 2**64


class LoneMesh:
    """The mesh of one party that computes with masks but shares nothing."""

    rank = 0
    size = 1

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        return [bytes(payload)]


class ChosenMasks(SharingBackendUnsafe):
    """Masks coordinates with given numbers, again and again from the first on."""

    def __init__(self, masks: Sequence[int]) -> None:
        super().__init__(LoneMesh(), random_key())
        self._chosen = np.array([mask % M for mask in masks], dtype=np.uint64).view(np.int64)

    def draw_masks(self, count: int) -> RingVector:
        return np.resize(self._chosen, count)


def ring(values: Sequence[int]) -> RingVector:
    return np.array([value % M for value in values], dtype=np.uint64).view(np.int64)


def passes(check: NormCheck, vector: Sequence[int], *, owner: int = 0, masks: Sequence[int] = ()) -> bool:
    backend = ChosenMasks(masks) if masks else SharingBackendUnsafe(LoneMesh(), random_key())
    verdicts = check_contributions(backend, check, [owner], [SharedVector(ring(vector))])
    return bool(backend.reveal_verdicts(verdicts)[0])


def expected(check: NormCheck, vector: Sequence[int], masks: Sequence[int]) -> bool:
    """The verdict as the module's text defines it, in Python's integers."""
    n, s, t, q = check.range_digits, check.lowest_digit, check.shift, check.kept_digits
    total = 0
    for x, r in zip(vector, masks, strict=True):
        c = (x + 2**n + r) % M
        if ((c >> s) - (r >> s)) % 2 ** (64 - s) >= 16:
            return False
        lifted = (c + 2**s) % M
        rho = (r >> t) if lifted >= M // 2 else ((r - M if r >= M // 2 else r) >> t)
        total += ((lifted >> t) - rho - 2**q - 2 ** (q - 3)) ** 2
    return total <= check.thresholds[0]


def longest(dimension: int, scale: float, bound: float) -> Fraction:
    """The largest norm that an honest encoded vector can have, rounded down."""
    return Fraction(scale) * Fraction(bound) + Fraction(isqrt(dimension << 80), 1 << 41)


CHECKS = [
    norm_check(dimension=dimension, scale=scale, bounds=[3.0])
    for dimension in (1, 3, 100)
    for scale in (1.0, 2.0**24, 2.0**37, 2.0**58)
]
near_powers = st.builds(
    lambda sign, power, off: sign * (2**power + off), st.sampled_from((1, -1)), st.integers(0, 64), st.integers(-2, 2)
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NormCheck, list[int], list[int]]:
    """A check, coordinates at its edges, and masks at the places where something carries or wraps around."""
    check = draw(st.sampled_from(CHECKS[:8]))
    n, s, t = check.range_digits, check.lowest_digit, check.shift
    edges = [2**n, 2**n - 2**s, -(2**n), -(2**n) - 2**s, 2**63, 2**t, isqrt(check.thresholds[0]) << t, 0]
    coordinate = st.one_of(near_powers, st.builds(int.__add__, st.sampled_from(edges), st.integers(-2, 2)))
    vector = [draw(coordinate) for _ in range(check.dimension)]
    offsets = [0, -(2**n), -(2**n) - 2**s, -(2**s), 2**63, 2**63 - 2**n - 2**s, 2**63 + 2**s, 2**s - 1, 2**t - 1]
    masks = []
    for x in vector:
        near_x = st.builds(lambda offset, off, x=x: offset - x + off, st.sampled_from(offsets), st.integers(-2, 2))
        mask = st.one_of(near_x, near_powers, st.integers(0, M - 1), st.sampled_from(offsets))
        masks.append(draw(mask) % M)
    signed = [(x + M // 2) % M - M // 2 for x in vector]
    return check, signed, masks


@given(case=cases())
@settings(max_examples=100)
def test_the_circuit_computes_what_the_text_defines(case: tuple[NormCheck, list[int], list[int]]) -> None:
    check, vector, masks = case
    # The comparison with the threshold draws the first mask again.
    assert passes(check, vector, masks=masks) == expected(check, vector, masks)


@given(case=cases())
@settings(max_examples=100)
def test_what_passes_is_short_and_what_is_short_passes(case: tuple[NormCheck, list[int], list[int]]) -> None:
    """Both theorems, for the definition that the circuit was just compared with."""
    check, vector, masks = case
    squared = sum(x * x for x in vector)
    verdict = expected(check, vector, masks)
    t, root = check.shift, Fraction(isqrt(check.dimension << 80), 1 << 40)
    if verdict:
        assert all(-(2**check.range_digits) - 2**check.lowest_digit <= x < 2**check.range_digits for x in vector)
        assert sqrt(squared) <= check.accepted(0) * (1 + 1e-12)
    bound = (isqrt(check.thresholds[0]) - (1 - Fraction(1, 2**t)) * (root + 1)) * 2**t  # at most N
    if bound > 0 and squared <= bound**2:
        assert verdict


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.dimension}-{check.range_digits}")
def test_without_a_shift_it_is_exact(check: NormCheck) -> None:
    root, remainder = isqrt(check.thresholds[0]), check.thresholds[0] - isqrt(check.thresholds[0]) ** 2
    rest = [0] * (check.dimension - 1)
    if check.shift == 0:
        for _ in range(5):
            assert passes(check, [root, *rest])
            assert not passes(check, [root + 1, *rest])
            assert not passes(check, [-root - 1, *rest])
        if check.dimension > remainder:
            assert passes(check, [root, *([1] * remainder), *rest[remainder:]])
            if check.dimension > remainder + 1:
                assert not passes(check, [root, *([1] * (remainder + 1)), *rest[remainder + 1 :]])
    else:
        assert not passes(check, [floor(check.accepted(0)) + 1, *rest])


@given(
    dimension=st.sampled_from((1, 2, 7, 64, 65)),
    scale=st.floats(2.0**-3, 2.0**49),
    bound=st.floats(1e-3, 2e3),
    seed=st.integers(0, 2**32),
    spread=st.sampled_from(("one", "all", "random")),
)
@example(dimension=65, scale=2.0**49, bound=2000.0, seed=0, spread="all")
@settings(max_examples=30)
def test_no_honest_vector_ever_fails(dimension: int, scale: float, bound: float, seed: int, spread: str) -> None:
    """Real vectors as long as the bound, encoded with the worst rounding: every coordinate moves outwards."""
    check = norm_check(dimension=dimension, scale=scale, bounds=[bound, bound / 1000])
    generator = np.random.default_rng(seed)
    direction = {"one": np.eye(dimension)[0], "all": np.ones(dimension), "random": generator.normal(size=dimension)}
    for owner, radius in enumerate((bound, bound / 1000)):
        vector = direction[spread] * (radius * (1 - 1e-15) / np.linalg.norm(direction[spread]))
        encoded = Encoding(scale=scale, bound=bound).encode(vector)
        assert passes(check, encoded.tolist(), owner=owner)
        # Not just rounded but as far out as the encoding's contract allows.
        exact = longest(dimension, scale, radius)
        ones = floor(exact / Fraction(isqrt(dimension << 80) + 1, 1 << 40))
        assert passes(check, [ones] * dimension, owner=owner)
        assert passes(check, [-floor(exact), *([0] * (dimension - 1))], owner=owner)


def attacks(check: NormCheck) -> dict[str, list[int]]:
    """Vectors of a cheating owner, all of them too long."""
    d, bound = check.dimension, floor(check.accepted(0)) + 1
    return {
        "one coordinate just outside": [bound, *([0] * (d - 1))],
        "one coordinate just outside, negative": [0] * (d - 1) + [-bound],
        "all coordinates together just outside": [isqrt(bound**2 // d) + 1] * d,
        "the largest number": [2**63 - 1, *([0] * (d - 1))],
        "the smallest number": [-(2**63), *([0] * (d - 1))],
        "squares that are 0 in the ring": [2 ** (32 + check.shift)] * d,
        "squares that add up to 2^64": [2 ** (31 + check.shift)] * 4 + [0] * (d - 4),
        "minus one over 2": [(M + 1) // 3, *([0] * (d - 1))],
        "a root of 1": [2**63 + 1, *([0] * (d - 1))],
        "just below the range": [-(2**check.range_digits) - 2**check.lowest_digit - 1, *([0] * (d - 1))],
        "just above the range": [2**check.range_digits, *([0] * (d - 1))],
        "uniform, as of mismatched keys": ring(np.random.default_rng(3).integers(-(2**63), 2**63, d).tolist()).tolist(),
    }


@pytest.mark.parametrize("check", CHECKS[8:11], ids=lambda check: f"{check.range_digits}")
def test_no_cheat_passes(check: NormCheck) -> None:
    for name, vector in attacks(check).items():
        for _ in range(3):
            assert not passes(check, vector), name
    assert passes(check, [0] * check.dimension)


def test_the_range_check_is_what_stops_squares_that_wrap_around() -> None:
    check = CHECKS[9]
    for name in ("squares that are 0 in the ring", "squares that add up to 2^64"):
        assert sum((x >> check.shift) ** 2 for x in attacks(check)[name]) % M <= check.thresholds[0], name


def test_every_owner_has_its_own_bound_and_its_own_verdict() -> None:
    check = norm_check(dimension=70, scale=2.0**20, bounds=[1000.0, 10.0, 0.1])
    owners = [0, 2, 1, 0, 1, 2] * 25  # more than a word of verdicts
    lengths = [floor(check.accepted(owner)) for owner in owners]
    outside = [(7 * index) % 5 == 0 for index in range(len(owners))]
    vectors = [
        SharedVector(ring([length * 1001 // 1000 + 1 if bad else length * 99 // 100] + [0] * 69))
        for length, bad in zip(lengths, outside, strict=True)
    ]
    backend = SharingBackendUnsafe(LoneMesh(), random_key())
    opened = backend.reveal_verdicts(check_contributions(backend, check, owners, vectors))
    assert opened.tolist() == [not bad for bad in outside]


@pytest.mark.parametrize("party_count", [2, 3])
def test_true_shares_give_the_same_verdicts(party_count: int) -> None:
    check = norm_check(dimension=130, scale=2.0**26, bounds=[500.0])
    vectors = [ring(vector) for vector in [*attacks(check).values(), [0] * 130, [floor(500 * 2**26 / 130**0.5)] * 130]]
    generator = np.random.default_rng(1)
    shares = [[generator.integers(-(2**63), 2**63, 130) for _ in vectors] for _ in range(party_count - 1)]
    shares.append([vector - np.sum(masks, axis=0) for vector, *masks in zip(vectors, *shares, strict=True)])

    def party(mesh: Mesh) -> list[bool]:
        backend = SharingBackendUnsafe(mesh, b"check")
        mine = [SharedVector(values.copy()) for values in shares[mesh.rank]]
        verdicts = check_contributions(backend, check, [0] * len(vectors), mine)
        opened: list[bool] = backend.reveal_verdicts(verdicts).tolist()
        return opened

    results = run_in_threads(party_count, party)
    assert results == [[False] * (len(vectors) - 2) + [True, True]] * party_count


@pytest.mark.parametrize(("owners", "dimension"), [(1, 1), (3, 64), (2, 65), (70, 5), (3, 1000), (1, 5000)])
@pytest.mark.parametrize("scale", [1.0, 2.0**40])
def test_the_schedule_is_what_is_consumed(
    owners: int, dimension: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "_CHUNK_WORDS", 20)  # several chunks, and groups of owners
    check = norm_check(dimension=dimension, scale=scale, bounds=[2.0] * owners)
    recorder = RecordingBackend(PlaintextBackend())
    bad = owners // 2
    vectors = [SharedVector(ring([(owner == bad) << 62] * dimension)) for owner in range(owners)]
    verdicts = check_contributions(recorder, check, range(owners), vectors)
    assert recorder.reveal_verdicts(verdicts).tolist() == [owner != bad for owner in range(owners)]
    assert tuple(recorder.requests) == check_schedule(check, owners)


def test_it_costs_what_is_stated() -> None:
    """The table at the head of the circuit, for a check of 32 digits."""
    from mpcdp.mpc.dealing import correction_words

    check = norm_check(dimension=20_000, scale=2.0**33, bounds=[2.0])
    assert (check.lowest_digit, check.shift > 0) == (32, True)
    recorder = RecordingBackend(PlaintextBackend())
    check_contributions(recorder, check, [0] * 8, [SharedVector(np.zeros(20_000, dtype=np.int64)) for _ in range(8)])
    coordinates = 8 * 20_000
    assert 8 * sum(recorder.opened) / coordinates == pytest.approx(8 + 3 + 1 / 6, rel=0.01)
    assert 8 * sum(map(correction_words, check_schedule(check, 8))) / coordinates == pytest.approx(56, rel=0.02)
    unshifted = norm_check(dimension=20_000, scale=2.0**20, bounds=[2.0])
    for dimension, rounds in ((64, 11), (320, 12), (1600, 13), (8000, 14), (40_000, 15)):
        smaller = norm_check(dimension=dimension, scale=2.0**33, bounds=[2.0])
        counter = RecordingBackend(PlaintextBackend())
        check_contributions(counter, smaller, [0], [SharedVector(np.zeros(dimension, dtype=np.int64))])
        assert len(counter.opened) + 1 == rounds  # the last one reveals
    assert unshifted.shift == 0


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((0, 0, 20, (1,)), "1 coordinate"),
        ((1, -1, 20, (1,)), "1 coordinate"),
        ((1, 0, 2, (1,)), "3 digits kept"),
        ((1, 32, 30, (1,)), "ranges up to"),
        ((100, 0, 30, (1,)), "could wrap around"),
        ((1, 0, 30, (2**60,)), "below 2\\^60"),
    ],
)
def test_a_check_keeps_the_provisos(numbers: tuple[int, int, int, tuple[int, ...]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        NormCheck(*numbers)


def test_a_vector_too_long_for_the_ring_is_refused_beforehand() -> None:
    with pytest.raises(ValueError, match=r"could be 2\^61\.0 long"):
        norm_check(dimension=4, scale=2.0**40, bounds=[2.0**21])


@given(dimension=st.integers(1, 2**22), scale=st.floats(2.0**-10, 2.0**40), bound=st.floats(2.0**-10, 2.0**20))
def test_a_check_of_any_task_keeps_the_provisos(dimension: int, scale: float, bound: float) -> None:
    check = norm_check(dimension=dimension, scale=scale, bounds=[bound])  # which checks all but the first
    honest = Fraction(scale) * Fraction(bound) + Fraction(isqrt(dimension << 80), 1 << 41)
    assert honest <= 2**check.range_digits - 2**check.lowest_digit
    slack = 2 * (2**check.shift - 1) * sqrt(dimension)
    assert check.accepted(0) <= (scale * bound * (1 + 2**-51) + sqrt(dimension) / 2 + slack) * (1 + 1e-9) + 1
    assert check.shift == 0 or slack <= honest * dimension * 2.0**-27
