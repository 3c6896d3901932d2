"""Do samples come from a discrete Gaussian or Laplace on Z + 1/2? Tests of integers y - 1/2 against the exact law.

Samples are given as the circuits and releases give them: as the integer y - 1/2, shape (n,).

A correct sampler fails `assert_fits` with probability below 1e-6; with fixed keys it fails always or never. How strong
the tests are is shown in test_noise_statistics.py: each must reject what it is there to reject.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["SIGNIFICANCE", "assert_fits", "chi_square", "fit", "low_bits"]

SIGNIFICANCE = 1e-7
"""A p-value below this rejects; `fit` has five."""

_LEAST_EXPECTED = 25


def assert_fits(samples: NDArray[np.int64], distribution: Literal["gaussian", "laplace"], scale: float) -> None:
    """Assert that no test rejects the samples."""
    p_values = fit(samples, distribution, scale)
    rejected = {name: p for name, p in p_values.items() if p < SIGNIFICANCE}
    assert not rejected, f"{samples.size} samples are not {distribution} noise of scale {scale}: {rejected}"


def fit(
    samples: NDArray[np.int64], distribution: Literal["gaussian", "laplace"], scale: float, *, cells: int = 64
) -> dict[str, float]:
    """Compute p-values of five tests.

    Args:
        samples: integers y - 1/2.
        distribution: the kind of law.
        scale: its parameter sigma or t.
        cells: how many cells of about equal probability there are; more need more samples, and see finer defects.

    Returns:
        ``cells``: chi-square over cells of about equal probability, every integer its own cell if the scale is small;
        ``variance``, ``fourth moment``: the mean of y^2 and of y^4, as normal variables;
        ``sign``: the number of positive y;
        ``low bits``: chi-square of the last four bits of y - 1/2, which the law makes uniform (for scales above 60; 1
        below).
    """
    moments = {"gaussian": {2: 1, 4: 3, 8: 105}, "laplace": {2: 2, 4: 24, 8: 40320}}[distribution]
    size = (samples.astype(np.float64) + 0.5) / scale
    positive = int((samples >= 0).sum())
    return {
        "cells": _cells(samples, distribution, scale, cells),
        "variance": _mean_p_value(size**2, moments[2], moments[4]),
        "fourth moment": _mean_p_value(size**4, moments[4], moments[8]),
        "sign": float(stats.binomtest(positive, samples.size).pvalue),
        "low bits": low_bits(samples) if scale > 60 else 1.0,
    }


def low_bits(samples: NDArray[np.int64]) -> float:
    """Compute the p-value of "the last four bits are uniform"."""
    return chi_square(np.bincount(samples & 15, minlength=16), np.full(16, 1 / 16))


def chi_square(observed: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Compute the p-value of observed counts of all cells under their probabilities, which sum to 1."""
    assert observed.shape == probabilities.shape
    assert abs(probabilities.sum() - 1) < 1e-9
    assert observed.sum() * probabilities.min() >= _LEAST_EXPECTED, "cells are too small for this many samples"
    return float(stats.chisquare(observed, probabilities / probabilities.sum() * observed.sum()).pvalue)


def _cells(samples: NDArray[np.int64], distribution: str, scale: float, cells: int) -> float:
    """Cut the integers at quantiles of the continuous law, rounded, and compare counts with the exact masses."""
    quantile = stats.norm.ppf if distribution == "gaussian" else stats.laplace.ppf
    edges = np.unique(np.rint(scale * quantile(np.arange(1, cells) / cells)).astype(np.int64))
    below = np.array([_mass_below(int(edge), distribution, scale) for edge in edges])
    probabilities = np.diff(np.concatenate([[0.0], below, [1.0]]))
    observed = np.bincount(np.searchsorted(edges, samples, side="right"), minlength=edges.size + 1)
    return chi_square(observed, probabilities)


def _mass_below(edge: int, distribution: str, scale: float) -> float:
    """Compute P(y < edge) for y on Z + 1/2: exactly, or within 1e-9 for a wide Gaussian."""
    if distribution == "laplace":
        tail = float(np.exp(-abs(edge) / scale)) / 2
        return tail if edge <= 0 else 1 - tail
    if scale > 10_000:
        return float(stats.norm.cdf(edge / scale))
    half_integers = np.arange(-int(15 * scale) - 1, int(15 * scale) + 1) + 0.5
    weights = np.exp(-((half_integers / scale) ** 2) / 2)
    return float(weights[half_integers < edge].sum() / weights.sum())


def _mean_p_value(values: NDArray[np.float64], mean: float, mean_square: float) -> float:
    """Compute the two-sided p-value of the mean of independent values of known first two moments."""
    deviation = float(np.sqrt((mean_square - mean**2) / values.size))
    return float(2 * stats.norm.sf(abs(values.mean() - mean) / deviation))
