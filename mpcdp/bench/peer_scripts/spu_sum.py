"""SPU adds owners' vectors up: ``python spu_sum.py OWNERS DIMENSION RUNS``, with a Python that has ``spu`` and jax.

As its examples do it: its simulator, three parties of the ABY3 protocol as threads of one process over links in memory;
the owners' vectors are secret inputs. Noise is added in the clear, after the sum was opened.
"""

import json
import sys
import time
from importlib.metadata import version

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from spu import libspu
from spu.utils import simulation

PARTIES = 3
DEVIATION = 0.01


def vectors(owners: int, dimension: int) -> NDArray[np.float64]:
    """Return the owners' vectors, one a row."""
    return np.array([np.random.default_rng(owner).uniform(-1, 1, dimension) for owner in range(owners)])


def _main(owners: int, dimension: int, runs: int) -> None:
    simulator = simulation.Simulator.simple(PARTIES, libspu.ProtocolKind.ABY3, libspu.FieldType.FM64)
    add = simulation.sim_jax(simulator, lambda values: jnp.sum(values, axis=0))
    values = vectors(owners, dimension)
    seconds, opened = [], np.zeros(dimension)
    for _ in range(runs + 1):  # the first one warms everything up
        begin = time.perf_counter()
        opened = np.asarray(add(values), dtype=np.float64)
        released = opened + np.random.default_rng().normal(0, DEVIATION, dimension)
        seconds.append(time.perf_counter() - begin)
    exact = values.sum(axis=0)
    answer = {
        "version": version("spu"),
        "seconds_by_run": seconds[1:],
        "bytes_sent": None,
        "largest_error": float(np.abs(opened - exact).max()),
        "noise_ratio": float(np.sqrt(np.mean((released - exact) ** 2)) / DEVIATION),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:4]))
