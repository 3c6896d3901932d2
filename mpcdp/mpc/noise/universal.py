"""The universal noise: one fixed distribution per kind and mode, so that one circuit is verified once.

A plan never tunes the noise. It tunes the encoding of what the noise is added to (`mpcdp.secret_sharing.fixed_point`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Literal

import numpy as np

from mpcdp.mpc.backend import Backend, CorrelationRequest, Words
from mpcdp.mpc.bit_slicing import LANES
from mpcdp.mpc.noise.sampler import sample_gaussian, sample_laplace
from mpcdp.mpc.noise.tables import gaussian_tables, geometric_digits, ladder
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoiseShare, RingVector

__all__ = ["OFFSET", "Distribution", "Mode", "UniversalNoise", "universal_noise"]

Distribution = Literal["gaussian", "laplace"]
Mode = Literal["joint", "per-party"]

OFFSET = 0.5
"""Add this, in encoding units, to a revealed sum for every copy of noise in it.

The noise y lies on Z + 1/2 and the circuits share the integer y - 1/2. With joint noise a sum holds one copy; with
per-party noise it holds one copy of every compute party.
"""

_CHUNK_WORDS = 2048
"""At most 2^17 samples are made at a time, which bounds memory however many are wanted."""

_BLOCKS: dict[Distribution, tuple[tuple[int, int], ...]] = {"gaussian": ((128, 4),), "laplace": ((128, 8), (384, 4))}
"""Prefixes are made in so many blocks, up to so many words: for few samples, rounds take longer than bytes."""


@dataclass(frozen=True)
class UniversalNoise:
    """Independent samples of one fixed distribution on Z + 1/2.

    Args:
        distribution: ``"gaussian"``: P(y) proportional to exp(-y^2 / (2 scale^2)); ``"laplace"``: to exp(-|y| / scale).
        scale: sigma* or t*, in encoding units.
        total_variation: proved upper bound on the distance of one sample from that law, everything included; n samples
            are within n times it. See `mpcdp.mpc.noise.law`.
        largest: no sampled integer y - 1/2 ever exceeds this magnitude.

    Raises:
        ValueError: a figure is out of its range.

    Use `universal_noise` to get one: its figures are proved.
    """

    distribution: Distribution
    scale: int
    total_variation: float
    largest: int

    def __post_init__(self) -> None:
        if self.distribution not in ("gaussian", "laplace"):
            raise ValueError(f"the noise is gaussian or laplace, not {self.distribution}")
        if self.scale < 1 or self.largest < 1 or not 0 <= self.total_variation < 1:
            raise ValueError("noise has a positive scale and a largest sample, and a total variation below 1")

    def sample(self, backend: Backend, count: int) -> NoiseShare:
        """Share ``count`` fresh integers y - 1/2, shape (count,).

        Every party calls it with the same count. It takes the correlated randomness of `schedule`; costs per sample
        are in `mpcdp.mpc.noise.sampler`, rounds are for every 2^17 samples begun.

        Raises:
            ValueError: the count is not positive.

        Reveals:
            Nothing.
        """
        chunks = self.chunks(backend, count)
        values = np.empty(count, dtype=np.int64)
        start = 0
        for piece in chunks:
            values[start : start + piece.dimension] = piece.values
            start += piece.dimension
        return NoiseShare(values)

    def chunks(self, backend: Backend, count: int) -> Iterator[NoiseShare]:
        """Share what `sample` shares, at most 2^17 integers at a time: memory stays the same however many are wanted.

        Returns:
            An iterator of shares whose dimensions sum up to ``count``.

        Raises:
            ValueError: the count is not positive.

        Reveals:
            Nothing.
        """
        return self._chunks(backend, _chunks(count), count)

    def _chunks(self, backend: Backend, widths: list[int], left: int) -> Iterator[NoiseShare]:
        circuit = _circuit(self.distribution, self.scale)
        for words in widths:
            piece = circuit(backend, words, _blocks(self.distribution, words))[:left]
            left -= piece.size
            yield NoiseShare(piece)

    def schedule(self, count: int) -> tuple[CorrelationRequest, ...]:
        """List the correlated randomness that ``sample(backend, count)`` consumes, in order.

        Raises:
            ValueError: the count is not positive.
        """
        return tuple(
            replace(request, words=request.words * words)
            for words in _chunks(count)
            for request in _unit_schedule(self.distribution, self.scale, _blocks(self.distribution, words))
        )


def universal_noise(distribution: Distribution, mode: Mode) -> UniversalNoise:
    """Return the noise of a plan.

    Args:
        distribution: the mechanism's noise.
        mode: ``"joint"``: all compute parties sample one copy that none of them knows, scale 2^20;
            ``"per-party"``: each samples its own copy, alone, scale 2^32.
    """
    return _UNIVERSAL[distribution, mode]


# `mpcdp.mpc.noise.law` proves the total variation; tests/mpc/test_noise_law.py computes both figures again.
_UNIVERSAL: dict[tuple[Distribution, Mode], UniversalNoise] = {
    ("gaussian", "joint"): UniversalNoise("gaussian", 2**20, total_variation=2.05e-19, largest=21_486_428),
    ("gaussian", "per-party"): UniversalNoise("gaussian", 2**32, total_variation=3.19e-19, largest=88_008_481_628),
    ("laplace", "joint"): UniversalNoise("laplace", 2**20, total_variation=5.82e-20, largest=2**27),
    ("laplace", "per-party"): UniversalNoise("laplace", 2**32, total_variation=7.40e-20, largest=2**39),
}


@cache
def _circuit(distribution: Distribution, scale: int) -> Callable[[Backend, int, int], RingVector]:
    """Compute a sampler's tables, once per process; the result maps (backend, words, blocks) to shared integers."""
    if distribution == "laplace":
        digits = geometric_digits(scale)
        return lambda backend, words, blocks: sample_laplace(backend, digits, words, blocks=blocks)
    levels = ladder(scale)
    tables = gaussian_tables(levels)
    return lambda backend, words, blocks: sample_gaussian(backend, levels, tables, words, blocks=blocks)


def _chunks(count: int) -> list[int]:
    """Split a number of samples into the fewest widths in words, none above `_CHUNK_WORDS`, as equal as can be."""
    if count < 1:
        raise ValueError(f"the number of noise samples is positive, not {count}")
    words = -(-count // LANES)
    chunks = -(-words // _CHUNK_WORDS)
    return [words // chunks + (index < words % chunks) for index in range(chunks)]


def _blocks(distribution: Distribution, words: int) -> int:
    """Choose the prefix network for a width."""
    return next((blocks for widest, blocks in _BLOCKS[distribution] if words <= widest), 1)


@cache
def _unit_schedule(distribution: Distribution, scale: int, blocks: int) -> tuple[CorrelationRequest, ...]:
    """Trace a circuit one word wide; every operation of a circuit is as wide as the circuit."""
    trace = _Trace()
    _circuit(distribution, scale)(trace, 1, blocks)
    return tuple(trace.requests)


class _Trace(PlaintextBackend):
    """A backend that notes the correlated randomness it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[CorrelationRequest] = []

    def and_rows(self, rows: Words, selector: Words) -> Words:
        self.requests.append(CorrelationRequest("and", len(rows), selector.size))
        return super().and_rows(rows, selector)

    def select(self, coefficients: Words, selectors: Words) -> Words:
        request = CorrelationRequest("and", coefficients.shape[1], selectors[0].size, len(selectors))
        self.requests.append(request)
        return super().select(coefficients, selectors)

    def select_random(self, coefficients: Words) -> Words:
        sets, rows, *shape = coefficients.shape
        self.requests.append(CorrelationRequest("and", rows, prod(shape), sets.bit_length() - 1))
        return super().select_random(coefficients)

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        self.requests.append(CorrelationRequest("chain", length - 1, prod(shape)))
        return super().random_chain(length, shape)

    def extend_chain(self, head: Words, length: int) -> Words:
        self.requests.append(CorrelationRequest("chain", length, head.size))
        return head & self.random_words((length, *head.shape))

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        self.requests.append(CorrelationRequest("integer", bits, words))
        return super().random_integers(bits, words)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        self.requests.append(CorrelationRequest("integer", 1, digits.shape[1]))
        return super().unmask(digits, masks)
