"""Noise made ahead: every number of it is used once, on all compute parties, or never.

Read in this order: `sources` (what a round takes its noise from), `state` (what parties compare, and how they agree),
`pool` and `batch_file` (what one party keeps on disk), `filling` (what the parties do together).
"""

from mpcdp.mpc.noise_bank.filling import fill, reconcile, session_noise
from mpcdp.mpc.noise_bank.pool import NoisePool, pool_folder, pool_state
from mpcdp.mpc.noise_bank.sources import NoiseSource, PerPartyNoise, PooledNoise
from mpcdp.mpc.noise_bank.state import BLOCK_SAMPLES, Batch, NoiseRange, PoolState, whole_blocks

__all__ = [
    "BLOCK_SAMPLES",
    "Batch",
    "NoisePool",
    "NoiseRange",
    "NoiseSource",
    "PerPartyNoise",
    "PoolState",
    "PooledNoise",
    "fill",
    "pool_folder",
    "pool_state",
    "reconcile",
    "session_noise",
    "whole_blocks",
]
