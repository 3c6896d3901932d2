"""Ten million samples of each law from real processes, against the exact laws, and what the tests can tell apart.

The samples come from the benchmark's workers: a dealer and two compute parties, mutual TLS, ten batches that are dealt
one after the other. The shares are added up here, where nobody else would be given both.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from goodness_of_fit import SIGNIFICANCE, fit
from keeping_worker import measure_and_keep
from large_samples import LARGEST_Z, extremes, kurtosis, largest_z, positions, series, tails
from numpy.typing import NDArray
from scipy import stats

from mpcdp.bench.setting import Sampler, Setting
from mpcdp.mpc.noise import Distribution, UniversalNoise, universal_noise
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.randomness import KeyStream, derive_key

BATCHES = 10
COUNT = 10_000_000
CELLS = 4096
DEFAULT_COUNT = 200_000
DEFAULT_CELLS = 64
SCALED = ("cells", "variance", "fourth moment", "tails")
"""Tests that know the scale; the others would pass any."""


@dataclass(frozen=True)
class Evidence:
    """Samples that processes made.

    Args:
        noise: the law they should have.
        samples: integers y - 1/2, shape (batches, samples of a batch).
    """

    noise: UniversalNoise
    samples: NDArray[np.int64]


def p_values(samples: NDArray[np.int64], distribution: Distribution, scale: float, *, cells: int) -> dict[str, float]:
    return {
        **fit(samples, distribution, scale, cells=cells),
        "kurtosis": kurtosis(samples, distribution),
        "tails": tails(samples, distribution, scale),
    }


def independence(samples: NDArray[np.int64], scale: float) -> dict[str, float]:
    """Return the largest correlation of each series, in standard deviations, over all distances and batches."""
    return {name: largest_z(each.reshape(samples.shape)) for name, each in series(samples.reshape(-1), scale).items()}


@pytest.fixture(scope="module", params=[Sampler.GAUSSIAN, Sampler.LAPLACE, Sampler.PER_PARTY])
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Ten million samples; with per-party noise, half of them from each party."""
    sampler: Sampler = request.param
    joint = sampler is not Sampler.PER_PARTY
    dimension = COUNT // BATCHES if joint else COUNT // BATCHES // 2
    setting = Setting(sampler, parties=2, dimension=dimension, runs=BATCHES, crypten=False)
    _, shares = measure_and_keep(setting)
    runs = [shares[batch] for batch in setting.batches if batch != "warm-up"]
    return Evidence(setting.noise, np.stack([run.sum(axis=0) if joint else run.reshape(-1) for run in runs]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_million_samples_have_the_law(evidence: Evidence) -> None:
    """Chi-square over 4096 cells, variance, fourth moment, kurtosis, sign, low bits, tails."""
    noise, samples = evidence.noise, evidence.samples.reshape(-1)
    found = p_values(samples, noise.distribution, noise.scale, cells=CELLS)
    assert {name: p for name, p in found.items() if p < SIGNIFICANCE} == {}
    assert np.abs(samples).max() <= noise.largest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_as_many_lie_far_out_as_should(evidence: Evidence) -> None:
    """Beyond the points where 20 are expected, a Poisson number of samples lie on either side."""
    noise = evidence.noise
    for beyond in extremes(evidence.samples.reshape(-1), noise.distribution, noise.scale):
        assert stats.poisson.cdf(beyond, 20) > SIGNIFICANCE
        assert stats.poisson.sf(beyond - 1, 20) > SIGNIFICANCE


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("factor", [1.01, 1 / 1.01])
def test_each_test_rejects_a_scale_that_is_one_percent_off(evidence: Evidence, factor: float) -> None:
    noise = evidence.noise
    found = p_values(evidence.samples.reshape(-1), noise.distribution, noise.scale * factor, cells=CELLS)
    assert {name: found[name] for name in SCALED if found[name] >= SIGNIFICANCE} == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_percent_of_wider_samples_is_rejected(evidence: Evidence) -> None:
    """The kurtosis knows no scale, but a mixture of scales it sees."""
    noise, samples = evidence.noise, evidence.samples.reshape(-1).copy()
    samples[::100] *= 2
    assert kurtosis(samples, noise.distribution) < SIGNIFICANCE


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_coordinates_and_batches_are_independent(evidence: Evidence) -> None:
    """Values, sizes, signs and low bits, at every distance within a batch and between any two."""
    noise = evidence.noise
    found = independence(evidence.samples, noise.scale)
    assert {name: z for name, z in found.items() if z > LARGEST_Z} == {}
    lanes = positions(evidence.samples.reshape(-1), noise.scale)
    assert {name: p for name, p in lanes.items() if p < SIGNIFICANCE} == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_little_dependence_is_seen(evidence: Evidence) -> None:
    """One coordinate in a hundred repeats an earlier one, one in fifty that of another batch, or a lane has no odds."""
    scale, samples = evidence.noise.scale, evidence.samples
    within = samples[:2].copy()
    within[:, 70_008::100] = within[:, 1:-70_007:100]
    assert min(independence(within, scale).values()) > LARGEST_Z
    between = samples[[3, 7]]
    between[1, 100_007::50] = between[0, 7:-100_000:50]
    assert min(independence(between, scale).values()) > LARGEST_Z
    lane = samples.reshape(-1).copy()
    lane[17::64] &= ~np.int64(1)
    assert positions(lane, scale)["bit 0"] < SIGNIFICANCE


def default_samples(distribution: Distribution) -> NDArray[np.int64]:
    key = derive_key(b"fixed secret of the tests at scale", salt=b"", purpose=distribution)
    noise = universal_noise(distribution, "joint")
    return noise.sample(PlaintextBackend(stream=KeyStream(key)), DEFAULT_COUNT).values


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_the_default_size_suffices_to_reject_a_scale_that_is_a_third_off(distribution: Distribution) -> None:
    samples, scale = default_samples(distribution), universal_noise(distribution, "joint").scale
    right = p_values(samples, distribution, scale, cells=DEFAULT_CELLS)
    assert {name: p for name, p in right.items() if p < SIGNIFICANCE} == {}
    for factor in (1.3, 1 / 1.3):
        wrong = p_values(samples, distribution, scale * factor, cells=DEFAULT_CELLS)
        assert {name: wrong[name] for name in SCALED if wrong[name] >= SIGNIFICANCE} == {}
    assert max(independence(samples.reshape(4, -1), scale).values()) <= LARGEST_Z
    assert min(positions(samples, scale).values()) > SIGNIFICANCE
