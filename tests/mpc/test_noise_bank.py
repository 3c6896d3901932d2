"""What rounds take their noise from: each number once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mpcdp.errors import BudgetError, ProtocolError
from mpcdp.mpc.noise import universal_noise
from mpcdp.mpc.noise_bank import NoisePool, NoiseSource, PerPartyNoise, PooledNoise, sources
from mpcdp.mpc.noise_bank.state import BLOCK_SAMPLES, Batch, PoolState
from mpcdp.secret_sharing.shares import NoiseShare

DIMENSION, ROUNDS = 300, 4


@pytest.fixture(name="source", params=["per-party", "pooled"])
def _source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NoiseSource]:
    if request.param == "per-party":
        yield PerPartyNoise(universal_noise("gaussian", "per-party"), dimension=DIMENSION, rounds=ROUNDS)
        return
    with NoisePool(tmp_path / "pool") as pool:
        pool.agree(PoolState(bank=b"b" * 16))
        batch = Batch(0, 2 * BLOCK_SAMPLES, b"n" * 16)
        values = np.arange(1, 2 * BLOCK_SAMPLES + 1, dtype=np.int64)
        pool.store(batch, iter([NoiseShare(values)]))
        pool.commit(batch)
        reserved = pool.reserve(b"s" * 32, DIMENSION * ROUNDS)
        yield PooledNoise(pool, reserved, dimension=DIMENSION, rounds=ROUNDS)


def test_each_number_has_its_own_samples_in_any_order(source: NoiseSource) -> None:
    taken = {index: source.take(index).values.copy() for index in (2, 0, 3, 1)}
    everything = np.concatenate([taken[index] for index in range(ROUNDS)])
    assert len(np.unique(everything)) > 0.99 * len(everything)
    assert all(values.shape == (DIMENSION,) for values in taken.values())


def test_no_number_is_given_twice(source: NoiseSource) -> None:
    source.take(1)
    source.forget(1)
    with pytest.raises(BudgetError, match="noise number 1 was used"):
        source.take(1)
    source.take(2)


@pytest.mark.parametrize("index", [-1, ROUNDS, 2**70])
def test_numbers_out_of_range_are_refused(source: NoiseSource, index: int) -> None:
    with pytest.raises(ProtocolError, match="numbers 0 to 3"):
        source.take(index)


def test_of_many_threads_one_gets_the_noise() -> None:
    noise = PerPartyNoise(universal_noise("gaussian", "per-party"), dimension=100, rounds=1)

    def attempt(_: int) -> bool:
        try:
            noise.take(0)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(64))) == 1


def test_every_party_has_a_copy_of_its_own() -> None:
    noise = universal_noise("gaussian", "per-party")
    first, second = (PerPartyNoise(noise, dimension=2000, rounds=1).take(0).values for _ in range(2))
    assert not np.array_equal(first, second)
    for values in (first, second):
        assert 0.8 < np.std(values.astype(np.float64)) / noise.scale < 1.2


def test_per_party_noise_is_sampled_ahead_as_far_as_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds sampled ahead and rounds sampled late have noise of their own each, of the same law."""
    monkeypatch.setattr(sources, "_AHEAD_SAMPLES", 2500)
    noise = universal_noise("gaussian", "per-party")
    source = PerPartyNoise(noise, dimension=1000, rounds=4)
    taken = []
    for index in range(4):
        taken.append(source.take(index).values)
        source.forget(index)
    assert len(np.unique(taken)) >= 3999
    for values in taken:
        assert 0.8 < np.std(values.astype(np.float64)) / noise.scale < 1.2


@pytest.mark.parametrize("first", [1, 3, 4])
def test_a_session_that_goes_on_samples_noise_for_the_rounds_that_are_left(first: int) -> None:
    noise = universal_noise("gaussian", "per-party")
    source = PerPartyNoise(noise, dimension=500, rounds=4, first=first)
    source.forget(first - 1)
    taken = []
    for index in range(first, 4):
        taken.append(source.take(index).values)
        source.forget(index)
        with pytest.raises(BudgetError):
            source.take(index)
    assert len(np.unique(taken)) >= 499 * len(taken)
    with pytest.raises(ProtocolError):
        source.take(4)


@pytest.mark.parametrize(("dimension", "rounds"), [(0, 3), (12, 0), (-3, -4)])
def test_sizes_are_positive(dimension: int, rounds: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        PerPartyNoise(universal_noise("laplace", "per-party"), dimension=dimension, rounds=rounds)
