"""What a round takes its noise from: one number for each round of a session, once."""

import threading
from typing import Protocol

import numpy as np

from mpcdp.errors import BudgetError, ProtocolError
from mpcdp.mpc.noise import UniversalNoise
from mpcdp.mpc.noise_bank.pool import NoisePool
from mpcdp.mpc.noise_bank.state import BLOCK_SAMPLES, NoiseRange
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoiseShare

__all__ = ["NoiseSource", "PerPartyNoise", "PooledNoise"]


_AHEAD_SAMPLES = 1 << 20
"""Per-party noise that is sampled before the first round: it costs memory, and seconds of the session's opening."""


class NoiseSource(Protocol):
    """One party's noise of a session: number t serves round t, once."""

    def take(self, index: int) -> NoiseShare:
        """Hand out this party's share of noise number ``index``, shape (d,).

        Raises:
            ProtocolError: there is no such number.
            BudgetError: it was taken before. The difference of two sums under the same noise has no noise at all.
        """
        ...

    def forget(self, index: int) -> None:
        """Destroy what is kept of the numbers up to ``index``: their rounds are over."""
        ...


class _Once:
    """Lets each number of a session pass once."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def check(self, index: int) -> None:
        if not 0 <= index < self._rounds:
            raise ProtocolError(
                f"noise number {index} does not exist; this session has numbers 0 to {self._rounds - 1}"
            )
        with self._lock:
            if index in self._taken:
                raise BudgetError(f"noise number {index} was used already; a round has to be repeated in a new session")
            self._taken.add(index)


class PerPartyNoise:
    """Each compute party's own copy of the noise. No communication.

    The first rounds' noise is sampled when this is made, in at most 8 MiB; what does not fit, when its round comes.

    Each of k parties adds its own full copy, so the sum carries k times the variance, and k - 1 parties that collude
    still face the noise of the last. A party knows its own copy.

    Args:
        noise: per-party universal noise.
        dimension: number of coordinates d of a round.
        rounds: number of rounds T.
        first: the first round that still needs noise.

    Raises:
        ValueError: a number is not positive.
    """

    def __init__(self, noise: UniversalNoise, *, dimension: int, rounds: int, first: int = 0) -> None:
        if dimension < 1 or rounds < 1:
            raise ValueError(f"noise has positive numbers of rounds and coordinates, not {rounds} and {dimension}")
        self._noise = noise
        self._dimension = dimension
        self._first = first
        self._once = _Once(rounds)
        self._ahead_rounds = min(max(0, rounds - first), _AHEAD_SAMPLES // dimension)
        self._ahead = np.zeros(self._ahead_rounds * dimension, dtype=np.int64)
        if self._ahead_rounds:
            self._ahead[:] = self._sample(self._ahead.size).values

    def take(self, index: int) -> NoiseShare:
        """Return noise number ``index``."""
        self._once.check(index)
        place = index - self._first
        if not 0 <= place < self._ahead_rounds:
            return self._sample(self._dimension)
        return NoiseShare(self._ahead[place * self._dimension : (place + 1) * self._dimension].copy())

    def forget(self, index: int) -> None:
        """Overwrite what was sampled ahead for the rounds up to ``index``."""
        self._ahead[: max(0, index + 1 - self._first) * self._dimension] = 0

    def _sample(self, count: int) -> NoiseShare:
        return self._noise.sample(PlaintextBackend(), count)


class PooledNoise:
    """One session's range of a pool of joint noise, of which every party has a share and nobody knows anything.

    Args:
        pool: this party's, which stays open as long as this is used.
        reserved: the session's range; noise number t is the t-th run of d samples in it.
        dimension: number of coordinates d of a round.
        rounds: number of rounds T.

    Raises:
        ValueError: the range is too small.
    """

    def __init__(self, pool: NoisePool, reserved: NoiseRange, *, dimension: int, rounds: int) -> None:
        if dimension < 1 or rounds < 1 or dimension * rounds > reserved.count:
            raise ValueError(f"{reserved.count} samples are not noise for {rounds} rounds of dimension {dimension}")
        self._pool = pool
        self._dimension = dimension
        self._once = _Once(rounds)
        self._forgotten = reserved.start
        self.range = reserved

    def take(self, index: int) -> NoiseShare:
        """Read noise number ``index`` from the pool."""
        self._once.check(index)
        return self._pool.take(self.range.start + index * self._dimension, self._dimension)

    def forget(self, index: int) -> None:
        """Overwrite the pool's whole blocks that hold nothing but noise of rounds up to ``index``."""
        end = self.range.start + (index + 1) * self._dimension
        end -= end % BLOCK_SAMPLES
        if end > self._forgotten:
            self._pool.destroy(self._forgotten, end)
            self._forgotten = end
