"""A compute party whose noise vectors are all zero: for tests of everything else, at an unchanged encoding."""

import sys
from typing import Any

import numpy as np

from mpcdp.config import ComputePartyConfig
from mpcdp.mpc.noise_bank import PerPartyNoise, PooledNoise
from mpcdp.roles.process import run_process
from mpcdp.secret_sharing.shares import NoiseShare
from parties.compute.__main__ import start


def _without_noise(kind: Any) -> None:
    """Let the noise be taken as always, and hand out zeros instead of it."""
    take = kind.take

    def zeros(noise: Any, index: int) -> NoiseShare:
        return NoiseShare(np.zeros(take(noise, index).dimension, dtype=np.int64))

    kind.take = zeros


if __name__ == "__main__":
    _without_noise(PerPartyNoise)
    _without_noise(PooledNoise)
    sys.exit(run_process(ComputePartyConfig, start))
