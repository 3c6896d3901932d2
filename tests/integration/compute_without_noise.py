"""Run a compute party that replaces every prepared noise vector by zeros: for comparing with a run in the clear."""

import sys

import numpy as np

import mpcdp.roles.compute_party as role
from mpcdp.config import ComputePartyConfig
from mpcdp.mpc.noise_bank import NoiseBank
from mpcdp.roles.process import run_process
from mpcdp.secret_sharing.shares import NoiseShare
from parties.compute.__main__ import start


class ZeroNoiseBank:
    """Hands out zeros instead of the noise that was prepared."""

    def __init__(self, bank: NoiseBank) -> None:
        self._bank = bank

    def take(self, index: int) -> NoiseShare:
        return NoiseShare(np.zeros(self._bank.take(index).dimension, dtype=np.int64))


def _replace(name: str) -> None:
    prepare = getattr(role, name)
    setattr(role, name, lambda *args, **kwargs: ZeroNoiseBank(prepare(*args, **kwargs)))


if __name__ == "__main__":
    _replace("prepare_joint")
    _replace("prepare_per_party")
    sys.exit(run_process(ComputePartyConfig, start))
