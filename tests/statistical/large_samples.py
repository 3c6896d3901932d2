"""What only millions of samples show: far tails, the fourth moment alone, and dependence at any distance.

Samples are integers y - 1/2, as in `goodness_of_fit`.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

__all__ = ["LARGEST_Z", "extremes", "kurtosis", "largest_z", "positions", "series", "tails"]

LARGEST_Z = 8.0
"""`largest_z` of independent batches exceeds this with probability below 1e-6 for up to 10^9 pairs of distances."""

_TAIL = 0.05
_LANES = 64
_FARTHEST_EXPECTED = 20


def _beyond(expected: float, count: int, distribution: str) -> float:
    """Compute how far out, in scales, this many of ``count`` samples are expected on one side."""
    quantile = stats.norm.isf if distribution == "gaussian" else stats.laplace.isf
    return float(quantile(expected / count))


def tails(samples: NDArray[np.int64], distribution: Literal["gaussian", "laplace"], scale: float) -> float:
    """Compute the p-value of both tails: chi-square over cells from the outer 5 % to where 20 are expected beyond.

    Expected counts halve from cell to cell. What lies in the middle is one cell more.
    """
    count = samples.size
    sizes = _FARTHEST_EXPECTED * 2.0 ** np.arange(np.floor(np.log2(_TAIL * count / _FARTHEST_EXPECTED)) + 1)
    limits = scale * np.array([_beyond(size, count, distribution) for size in sizes[::-1]])
    observed, expected = [], []
    for values in (samples + 0.5, -(samples + 0.5)):
        beyond = np.array([np.count_nonzero(values > limit) for limit in limits])
        observed += [*(beyond[:-1] - beyond[1:]), beyond[-1]]
        expected += [*(sizes[:0:-1] / 2), sizes[0]]
    middle = count - sum(observed), count - sum(expected)
    return float(stats.chisquare([*observed, middle[0]], [*expected, middle[1]]).pvalue)


def extremes(samples: NDArray[np.int64], distribution: Literal["gaussian", "laplace"], scale: float) -> list[int]:
    """Count the samples below and above the points beyond which 20 are expected."""
    limit = scale * _beyond(_FARTHEST_EXPECTED, samples.size, distribution)
    return [int((samples + 0.5 < -limit).sum()), int((samples + 0.5 > limit).sum())]


def kurtosis(samples: NDArray[np.int64], distribution: Literal["gaussian", "laplace"]) -> float:
    """Compute the p-value of the mean of y^4 over the squared mean of y^2, which no scale changes: 3, or 6.

    Its variance times n is 24, or 1188: that of y^4 / m2^2 - 2 m4 y^2 / m2^3 (delta method).
    """
    expected, variance = {"gaussian": (3, 24), "laplace": (6, 1188)}[distribution]
    squares = (samples + 0.5) ** 2
    ratio = np.dot(squares, squares) * samples.size / squares.sum() ** 2
    return float(2 * stats.norm.sf(abs(ratio - expected) / np.sqrt(variance / samples.size)))


def positions(samples: NDArray[np.int64], scale: float) -> dict[str, float]:
    """Compute p-values of "the lane, bit number i mod 64 of a word, says nothing": values, sizes, signs, low bits."""
    usable = samples[: samples.size // _LANES * _LANES]
    p_values = {}
    for name, values in series(usable, scale).items():
        means = values.reshape(-1, _LANES).mean(axis=0)
        p_values[name] = float(stats.chi2.sf(means @ means * (usable.size // _LANES), _LANES))
    return p_values


def series(samples: NDArray[np.int64], scale: float) -> dict[str, NDArray[np.float64]]:
    """Return what to look for dependence in, each of mean 0 and variance 1: values, sizes, signs, low bits."""
    values = (samples + 0.5) / scale
    found = {"values": values, "sizes": np.abs(values), "signs": np.sign(values)}
    found |= {f"bit {bit}": (samples >> bit & 1).astype(np.float64) for bit in (0, 1, 5)}
    return {name: (each - each.mean()) / each.std() for name, each in found.items()}


def largest_z(batches: NDArray[np.float64]) -> float:
    """Return the largest correlation, in standard deviations, within and between batches, at every distance.

    Computed by Fourier transform: for each pair of batches, coordinate i of one with coordinate i + s of the other for
    all s up to half a batch, either way; within batches, all of them together for each s, s = 0 left out.

    Args:
        batches: mean 0, variance 1, shape (batches, n).
    """
    count, length = batches.shape
    distances = np.arange(length // 2)
    overlaps = np.sqrt(length - distances)
    spectra = fft.rfft(batches, 2 * length, axis=1)

    def either_way(spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
        products: NDArray[np.float64] = fft.irfft(spectrum, 2 * length)
        deviations: NDArray[np.float64] = np.stack([products[distances], products[-distances]]) / overlaps
        return deviations

    within = either_way((np.abs(spectra) ** 2).sum(axis=0))[:, 1:] / np.sqrt(count)
    between = (either_way(spectra[i] * spectra[j].conj()) for i in range(count) for j in range(i))
    return max(float(np.abs(each).max()) for each in (within, *between))
