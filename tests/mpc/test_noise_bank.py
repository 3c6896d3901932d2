"""The noise bank: each number once, ever."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from thread_parties import SharingBackendUnsafe, run_in_threads

from mpcdp.errors import BudgetError, ProtocolError
from mpcdp.mpc.noise import universal_noise
from mpcdp.mpc.noise_bank import NoiseBank, prepare_joint, prepare_per_party
from mpcdp.secret_sharing.shares import NoiseShare


def bank(rounds: int = 3, dimension: int = 4) -> NoiseBank:
    samples = NoiseShare(np.arange(1, rounds * dimension + 1, dtype=np.int64))
    return NoiseBank(samples, dimension=dimension, rounds=rounds)


def test_each_number_has_its_own_samples_in_any_order() -> None:
    noises = bank()
    assert noises.take(2).values.tolist() == [9, 10, 11, 12]
    assert noises.take(0).values.tolist() == [1, 2, 3, 4]
    assert noises.take(1).values.tolist() == [5, 6, 7, 8]


def test_no_number_is_given_twice() -> None:
    noises = bank()
    noises.take(1)
    with pytest.raises(BudgetError, match="noise number 1 was used"):
        noises.take(1)
    assert noises.take(0).values.tolist() == [1, 2, 3, 4]


def test_a_used_number_is_forgotten_and_the_others_are_kept() -> None:
    noises = bank()
    taken = noises.take(1)
    assert noises._values.tolist() == [[1, 2, 3, 4], [0, 0, 0, 0], [9, 10, 11, 12]]
    assert taken.values.tolist() == [5, 6, 7, 8]  # what was handed out is not overwritten


@pytest.mark.parametrize("index", [-1, 3, 2**70])
def test_numbers_out_of_range_are_refused(index: int) -> None:
    with pytest.raises(ProtocolError, match="numbers 0 to 2"):
        bank().take(index)


def test_of_many_threads_one_gets_the_noise() -> None:
    noises = bank(rounds=1, dimension=1000)

    def attempt(_: int) -> bool:
        try:
            noises.take(0)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(64))) == 1


def test_bank_shows_and_pickles_nothing() -> None:
    noises = bank()
    noises.take(0)
    assert repr(noises) == "NoiseBank(<redacted>, dimension=4, rounds=3, taken=1)"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(noises)


@pytest.mark.parametrize(("dimension", "rounds"), [(4, 2), (0, 3), (12, 0), (-3, -4)])
def test_sizes_must_fit(dimension: int, rounds: int) -> None:
    with pytest.raises(ValueError, match="are not noise for"):
        NoiseBank(NoiseShare(np.zeros(12, dtype=np.int64)), dimension=dimension, rounds=rounds)


def test_joint_noise_is_one_copy_that_only_all_shares_tell() -> None:
    noise = universal_noise("gaussian", "joint")

    def party(mesh: object) -> NoiseBank:
        return prepare_joint(noise, SharingBackendUnsafe(mesh, b"bank"), dimension=50, rounds=2)  # type: ignore[arg-type]

    banks = run_in_threads(3, party)
    for index in range(2):
        shares = [each.take(index).values for each in banks]
        total = np.sum(shares, axis=0)
        assert np.abs(total).max() <= noise.largest
        assert 0.5 * noise.scale <= total.std() <= 2 * noise.scale
        assert all(np.abs(share >> 40).max() > 2**16 for share in shares)


def test_per_party_noise_is_a_full_copy_each() -> None:
    noise = universal_noise("gaussian", "per-party")
    banks = [prepare_per_party(noise, dimension=200, rounds=2) for _ in range(2)]
    rows = [each.take(index).values for each in banks for index in range(2)]
    for row in rows:
        assert row.shape == (200,)
        assert 0.7 * noise.scale <= row.std() <= 1.4 * noise.scale
    assert len(np.unique(rows)) >= 799
