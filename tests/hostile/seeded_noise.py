"""Noise that is no secret: it follows from a seed, so that two sessions of one task can have the same."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from mortal_world import MortalWorld

from mpcdp.mpc.noise_bank import PerPartyNoise, PooledNoise
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.plan import make_plan
from mpcdp.secret_sharing.randomness import KEY_BYTES, KeyStream
from mpcdp.secret_sharing.shares import NoiseShare, RingVector
from mpcdp.task import Task

__all__ = ["SeededNoise", "with_seeded_noise"]


class SeededNoise:
    """The noise of a task's session, by round and party, drawn by the product's own sampler.

    Args:
        task: of the session.
        seed: of all of it.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self._plan = make_plan(task)
        self._joint = task.dealer is not None
        self._parties = len(task.compute_parties)
        self._seed = seed

    def share(self, rank: int, round_index: int) -> RingVector:
        """Return a party's share: its own copy, or with joint noise a part of the one copy that says nothing of it."""
        if not self._joint:
            return self._sample(rank, round_index)
        if rank > 0:
            return self._stream("mask", rank, round_index).words(self._plan.dimension)
        masks = [self.share(other, round_index) for other in range(1, self._parties)]
        return self._sample(0, round_index) - np.sum(masks, axis=0, dtype=np.int64)

    def total(self, round_index: int) -> RingVector:
        """Return what all shares of a round add up to."""
        shares = [self.share(rank, round_index) for rank in range(self._parties)]
        total: RingVector = np.sum(shares, axis=0, dtype=np.int64)
        return total

    def _sample(self, rank: int, round_index: int) -> RingVector:
        backend = PlaintextBackend(stream=self._stream("copy", rank, round_index))
        return self._plan.noise.sample(backend, self._plan.dimension).values

    def _stream(self, *place: object) -> KeyStream:
        return KeyStream(hashlib.sha256(repr((self._seed, *place)).encode()).digest()[:KEY_BYTES])


def with_seeded_noise(world: MortalWorld, task: Task, noise: SeededNoise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let noise be taken as always, and hand out the seeded noise of the same party and round instead of it."""
    ranks = {party.name: rank for rank, party in enumerate(task.compute_parties)}
    for kind in (PerPartyNoise, PooledNoise):

        def seeded(source: object, index: int, take: Callable[..., NoiseShare] = kind.take) -> NoiseShare:
            assert take(source, index).dimension == noise.total(index).size
            return NoiseShare(noise.share(ranks[world.party_of(source)], index))

        monkeypatch.setattr(kind, "take", seeded)
