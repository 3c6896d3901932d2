"""Noise of one fixed scale, sampled inside the secure computation or by one party alone.

Read in this order: `tables` (public mathematics: what the circuits are programmed with), `law` (the exact distribution
of what those tables produce, and its distance from the ideal one), `circuits` (gates on shared bits), `sampler` (the
two samplers, put together from gates and tables), `universal` (what the rest of mpcdp uses).
"""

from mpcdp.mpc.noise.universal import OFFSET, Distribution, Mode, UniversalNoise, universal_noise

__all__ = ["OFFSET", "Distribution", "Mode", "UniversalNoise", "universal_noise"]
