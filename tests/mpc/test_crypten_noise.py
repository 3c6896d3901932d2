"""Noise sampled by real processes through CrypTen: its law, its correlations, and where its randomness comes from."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from party_processes import PartyFailed, run_parties
from scipy import stats

from mpcdp.mpc.backend import CorrelationSource, Mesh
from mpcdp.mpc.crypten_backend import CryptenBackend
from mpcdp.mpc.crypten_session import crypten_session
from mpcdp.mpc.noise import OFFSET, Distribution, universal_noise
from mpcdp.secret_sharing.shares import NoisedVector, NoiseShare, RingVector, SharedVector

# isort: split
import crypten
import torch

DISTRIBUTIONS: tuple[Distribution, ...] = ("gaussian", "laplace")
CUMULATIVE: dict[Distribution, Callable[..., NDArray[np.float64]]] = {
    "gaussian": stats.norm.cdf,
    "laplace": stats.laplace.cdf,
}
SIGNIFICANCE = 1e-7
BINS = 100


def noise_job(mesh: Mesh, correlations: CorrelationSource, distribution: Distribution, count: int) -> RingVector:
    with crypten_session(mesh, correlations) as session:
        return universal_noise(distribution, "joint").sample(CryptenBackend(session), count).values


def sample(party_count: int, distribution: Distribution, count: int) -> list[RingVector]:
    schedule = universal_noise(distribution, "joint").schedule(count)
    return run_parties(party_count, noise_job, distribution, count, schedule=schedule)


def law_p_value(integers: RingVector, distribution: Distribution, *, factor: float = 1.0) -> float:
    """Chi-square test of integers against the universal law, after widening them by a factor.

    Bins are equally likely under the continuous law; the universal scale is so wide that its grid does not matter.
    """
    real = (integers + OFFSET) / universal_noise(distribution, "joint").scale * factor
    bins = np.minimum((CUMULATIVE[distribution](real) * BINS).astype(int), BINS - 1)
    return float(stats.chisquare(np.bincount(bins, minlength=BINS)).pvalue)


def low_bits_p_value(integers: RingVector) -> float:
    """Chi-square test that the low byte of integers is uniform."""
    return float(stats.chisquare(np.bincount(integers & 255, minlength=256)).pvalue)


@pytest.mark.parametrize(("distribution", "party_count"), [("gaussian", 2), ("laplace", 3)])
def test_noise_has_the_universal_law(distribution: Distribution, party_count: int) -> None:
    shares = sample(party_count, distribution, 100_000)
    total: RingVector = np.sum(shares, axis=0)
    assert law_p_value(total, distribution) > SIGNIFICANCE
    assert low_bits_p_value(total) > SIGNIFICANCE
    assert law_p_value(total, distribution, factor=1.3) < SIGNIFICANCE  # the test can fail
    assert law_p_value(total, distribution, factor=1 / 1.3) < SIGNIFICANCE
    assert abs(np.corrcoef(total[1:], total[:-1])[0, 1]) < 6 / np.sqrt(total.size)
    for share in shares:  # nobody's share says anything
        assert low_bits_p_value(share) > SIGNIFICANCE
        assert low_bits_p_value(share >> 55) > SIGNIFICANCE
        assert abs(np.corrcoef(share, total)[0, 1]) < 6 / np.sqrt(total.size)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("party_count", [2, 3, 5])
def test_noise_of_any_number_of_parties(party_count: int, distribution: Distribution) -> None:
    total: RingVector = np.sum(sample(party_count, distribution, 1000), axis=0)
    assert total.shape == (1000,)
    assert np.abs(total).max() < universal_noise(distribution, "joint").largest
    deviation = total.std() / universal_noise(distribution, "joint").scale
    assert 0.85 < deviation / (1 if distribution == "gaussian" else np.sqrt(2)) < 1.15


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [1, 64, 65])
def test_a_schedule_is_consumed_exactly(distribution: Distribution, count: int) -> None:
    sample(2, distribution, count)  # the harness fails if correlations are missing or left over


def test_another_counts_schedule_is_noticed() -> None:
    noise = universal_noise("laplace", "joint")
    with pytest.raises(PartyFailed, match="ProtocolError: the dealer sent more corrections"):
        run_parties(2, noise_job, "laplace", 64, schedule=noise.schedule(65))
    with pytest.raises(PartyFailed, match=r"ProtocolError: the dealer sent .* bytes of corrections less"):
        run_parties(2, noise_job, "laplace", 65, schedule=noise.schedule(64))


class GeneratorUsed(Exception):
    """Randomness was drawn that does not come from a keystream."""


def _refuse(*_: object, **__: object) -> None:
    raise GeneratorUsed


def poisoned_job(mesh: Mesh, correlations: CorrelationSource, distribution: Distribution, count: int) -> RingVector:
    """Sample, add and reveal while every other source of randomness raises."""
    state = torch.get_rng_state()
    numpy_state = str(np.random.get_state())
    python_state = random.getstate()
    functions = (
        "randint",
        "rand",
        "randn",
        "randperm",
        "bernoulli",
        "normal",
        "randint_like",
        "rand_like",
        "Generator",
    )
    for name in (*functions, "manual_seed"):
        setattr(torch, name, _refuse)
    for name in ("random_", "bernoulli_", "normal_", "uniform_"):
        setattr(torch.Tensor, name, _refuse)
    with pytest.raises(GeneratorUsed):  # the poison works on what CrypTen draws from outside a session
        crypten.common.rng.generate_random_ring_element((2,), generator=object())
    with crypten_session(mesh, correlations) as session:
        backend = CryptenBackend(session)
        noise = universal_noise(distribution, "joint").sample(backend, count)
        assert isinstance(noise, NoiseShare)
        revealed = backend.reveal(NoisedVector.add(SharedVector(np.zeros(count, dtype=np.int64)), noise))
        assert not torch.distributed.is_initialized()
    assert torch.equal(state, torch.get_rng_state())
    assert numpy_state == str(np.random.get_state())
    assert python_state == random.getstate()
    assert not torch.distributed.is_initialized()
    return revealed


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_no_generator_but_keystreams_is_used(distribution: Distribution) -> None:
    schedule = universal_noise(distribution, "joint").schedule(200)
    first, *others = run_parties(3, poisoned_job, distribution, 200, schedule=schedule)
    assert np.unique(first).size > 150
    assert all(np.array_equal(first, other) for other in others)
