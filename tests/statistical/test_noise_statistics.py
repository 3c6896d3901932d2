"""Samples of the circuits against the exact laws; the same tests must reject samples that are wrong.

The laws of small scales are close to the continuous ones in moments: on Z + 1/2 the mean of y^2 is sigma^2 up to
exp(-2 pi^2 sigma^2) for the Gaussian and 2 t^2 + 1/12 for the Laplace.
"""

from functools import cache

import numpy as np
import pytest
from goodness_of_fit import SIGNIFICANCE, assert_fits, chi_square, fit, low_bits
from numpy.typing import NDArray

from mpcdp.mpc.noise import Distribution, UniversalNoise, universal_noise
from mpcdp.mpc.noise.law import half_gaussian_target
from mpcdp.mpc.noise.tables import ladder
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.randomness import KeyStream, derive_key

COUNT = 200_000
KINDS: list[tuple[Distribution, int]] = [
    ("gaussian", 10),  # one level
    ("gaussian", 100),  # two
    ("gaussian", 2**20),
    ("gaussian", 2**32),
    ("laplace", 30),
    ("laplace", 2**20),
    ("laplace", 2**32),
]


@cache
def samples(distribution: Distribution, scale: int) -> NDArray[np.int64]:
    """Sample COUNT integers with a fixed key."""
    noise = UniversalNoise(distribution, scale, total_variation=0.0, largest=2**40)
    key = derive_key(b"fixed secret of the statistical tests", salt=b"", purpose=f"{distribution} {scale}")
    return noise.sample(PlaintextBackend(stream=KeyStream(key)), COUNT).values


@pytest.mark.parametrize(("distribution", "scale"), KINDS)
def test_samples_fit_the_law(distribution: Distribution, scale: int) -> None:
    assert_fits(samples(distribution, scale), distribution, scale)


@pytest.mark.parametrize("factor", [1.3, 1 / 1.3])
@pytest.mark.parametrize(("distribution", "scale"), KINDS)
def test_samples_of_a_wrong_scale_are_rejected(distribution: Distribution, scale: int, factor: float) -> None:
    wrong = samples(distribution, round(scale * factor))
    p_values = fit(wrong, distribution, scale)
    assert p_values["cells"] < SIGNIFICANCE
    assert p_values["variance"] < SIGNIFICANCE
    assert p_values["fourth moment"] < SIGNIFICANCE


@pytest.mark.parametrize("factor", [1.3, 1 / 1.3])
def test_few_samples_suffice_to_reject_a_wrong_scale(factor: float) -> None:
    """What one release of some thousand coordinates shows."""
    for distribution in ("gaussian", "laplace"):
        good, wrong = samples(distribution, 2**20)[:4000], samples(distribution, round(2**20 * factor))[:4000]
        assert_fits(good, distribution, 2**20)
        assert min(fit(wrong, distribution, 2**20).values()) < SIGNIFICANCE


def test_every_point_of_a_narrow_gaussian() -> None:
    """Each integer its own cell, against the ideal law in high precision."""
    scale = 10
    halves = [float(mass) / 2 for mass in half_gaussian_target(ladder(scale).variance, 30)]
    observed = np.bincount(samples("gaussian", scale) + 128, minlength=256)
    inner = np.concatenate([observed[98:128], observed[128:158]])
    probabilities = np.array([*halves[::-1], *halves])
    rest = np.array([COUNT - inner.sum()]), np.array([1 - probabilities.sum()])
    assert chi_square(np.concatenate([inner, rest[0]]), np.concatenate([probabilities, rest[1]])) > SIGNIFICANCE


def test_a_laplace_is_not_taken_for_a_gaussian_of_its_variance() -> None:
    p_values = fit(samples("laplace", 2**20), "gaussian", 2**20.5)
    assert p_values["variance"] > SIGNIFICANCE
    assert p_values["fourth moment"] < SIGNIFICANCE
    assert p_values["cells"] < SIGNIFICANCE


def test_an_unfair_sign_is_rejected() -> None:
    good = samples("gaussian", 2**20)
    skewed = np.where((good < 0) & (np.arange(COUNT) % 50 == 0), -1 - good, good)  # 51 % positive
    assert fit(skewed, "gaussian", 2**20)["sign"] < SIGNIFICANCE


def test_low_bits_that_are_not_uniform_are_rejected() -> None:
    good = samples("gaussian", 2**20)
    assert low_bits(good) > SIGNIFICANCE
    assert low_bits(np.where(np.arange(COUNT) % 50 == 0, good & ~np.int64(1), good)) < SIGNIFICANCE
    assert low_bits(2 * good) < SIGNIFICANCE


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_tails_are_there_and_end(distribution: Distribution) -> None:
    """As many samples as the law says beyond 3 and 4 standard deviations, and none beyond the stated largest."""
    noise = universal_noise(distribution, "joint")
    size = np.abs(samples(distribution, noise.scale) + 0.5) / noise.scale
    tails = {"gaussian": {3: 2.6998e-3, 4: 6.334e-5}, "laplace": {4: np.exp(-4), 7: np.exp(-7)}}[distribution]
    for limit, mass in tails.items():
        expected = COUNT * mass
        assert abs((size > limit).sum() - expected) <= 5.5 * expected**0.5
    assert size.max() * noise.scale <= noise.largest


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_neighbouring_samples_are_independent(distribution: Distribution) -> None:
    """Lanes, words and chunks: correlation of samples at distances 1, 64 and 2^15, and of their magnitudes."""
    values = samples(distribution, 2**20).astype(np.float64)
    for distance in (1, 2, 63, 64, 65, 4096, 2**15):
        for series in (np.sign(values + 0.5), np.abs(values) - np.abs(values).mean()):
            products = series[distance:] * series[:-distance]
            assert abs(products.mean()) <= 6 * products.std() / products.size**0.5
