"""The noise of a whole session, sampled in one batch before its first round and handed out once per round."""

import threading

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import BudgetError, ProtocolError
from mpcdp.mpc.backend import Backend
from mpcdp.mpc.noise import UniversalNoise
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoiseShare

__all__ = ["NoiseBank", "prepare_joint", "prepare_per_party"]


class NoiseBank:
    """One compute party's noise shares of a session: number t serves round t, once.

    Args:
        samples: share of rounds * dimension samples.
        dimension: number of coordinates d of a round.
        rounds: number of rounds T.

    Raises:
        ValueError: the number of samples is not dimension * rounds.
    """

    def __init__(self, samples: NoiseShare, *, dimension: int, rounds: int) -> None:
        if dimension < 1 or rounds < 1 or samples.dimension != dimension * rounds:
            raise ValueError(f"{samples.dimension} samples are not noise for {rounds} rounds of dimension {dimension}")
        self.dimension = dimension
        self.rounds = rounds
        self._values: NDArray[np.int64] = samples.values.reshape(rounds, dimension).copy()
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"NoiseBank(<redacted>, dimension={self.dimension}, rounds={self.rounds}, taken={len(self._taken)})"

    def __reduce__(self) -> str:
        raise TypeError("NoiseBank is secret and cannot be pickled")

    def take(self, index: int) -> NoiseShare:
        """Hand out noise number ``index``, shape (d,), and forget it: the bank's own copy is overwritten.

        Args:
            index: 0 .. rounds - 1, in any order.

        Raises:
            ProtocolError: there is no such number.
            BudgetError: it was taken before. The difference of two sums under the same noise has no noise at all.
        """
        if not 0 <= index < self.rounds:
            raise ProtocolError(f"noise number {index} does not exist; this session has numbers 0 to {self.rounds - 1}")
        with self._lock:
            if index in self._taken:
                raise BudgetError(f"noise number {index} was used already; a round has to be repeated in a new session")
            self._taken.add(index)
            noise = NoiseShare(self._values[index].copy())
            self._values[index] = 0
        return noise


def prepare_joint(noise: UniversalNoise, backend: Backend, *, dimension: int, rounds: int) -> NoiseBank:
    """Sample one session's noise jointly: one copy, of which every party gets a share and nobody learns anything.

    All parties call it together; it takes the rounds and the correlations of ``noise.sample``.

    Args:
        noise: joint universal noise.
        backend: the parties' joint computation, which hides the noise from each of them.
        dimension: number of coordinates d of a round.
        rounds: number of rounds T.
    """
    return NoiseBank(noise.sample(backend, dimension * rounds), dimension=dimension, rounds=rounds)


def prepare_per_party(noise: UniversalNoise, *, dimension: int, rounds: int) -> NoiseBank:
    """Sample this party's own copy of one session's noise. No communication.

    Each of k parties adds its own full copy, so the sum carries k times the variance, and k - 1 parties that collude
    still face the noise of the last. A party knows its own copy.

    Args:
        noise: per-party universal noise.
        dimension: number of coordinates d of a round.
        rounds: number of rounds T.
    """
    return NoiseBank(noise.sample(PlaintextBackend(), dimension * rounds), dimension=dimension, rounds=rounds)
