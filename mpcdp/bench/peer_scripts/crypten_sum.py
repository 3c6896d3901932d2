"""CrypTen adds owners' vectors up: ``python crypten_sum.py OWNERS DIMENSION RUNS``, with a Python that has ``crypten``.

As its examples do it: parties started by its own launcher, connected by gloo without TLS, each entering the vectors of
its share of the owners with ``crypten.cryptensor(..., src=party)``, and noise from its own sampler ``crypten.randn``.
"""

import json
import os
import sys
import time
import warnings
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# CrypTen 0.4.1 names a module that newer torch moved.
if find_spec("torch.onnx._internal.registration") is None:
    sys.modules["torch.onnx._internal.registration"] = import_module(
        "torch.onnx._internal.torchscript_exporter.registration"
    )
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypten
    from crypten.mpc import run_multiprocess

PARTIES = 3
DEVIATION = 0.01


def vectors(first: int, end: int, dimension: int) -> NDArray[np.float64]:
    """Return some owners' vectors, one a row."""
    rows = [np.random.default_rng(owner).uniform(-1, 1, dimension) for owner in range(first, end)]
    return np.array(rows).reshape(end - first, dimension)


def _party(owners: int, dimension: int, runs: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    rank = crypten.comm.get().get_rank()
    bounds = [owners * party // PARTIES for party in range(PARTIES + 1)]
    mine = torch.tensor(vectors(bounds[rank], bounds[rank + 1], dimension))
    seconds, sent, released = [], [], torch.zeros(dimension)
    for _ in range(runs + 1):  # the first one warms everything up
        crypten.comm.get().barrier()
        crypten.reset_communication_stats()
        begin = time.perf_counter()
        total = DEVIATION * crypten.randn(dimension)
        for party, (first, end) in enumerate(pairwise(bounds)):
            if first < end:
                values = mine if party == rank else torch.zeros(end - first, dimension, dtype=torch.float64)
                total = total + crypten.cryptensor(values, src=party).sum(0)
        released = total.get_plain_text()
        seconds.append(time.perf_counter() - begin)
        sent.append(crypten.comm.get().get_communication_stats()["bytes"])
    # Only a little can be returned: the launcher waits for the processes to end before it reads what they return.
    difference = released.numpy() - vectors(0, owners, dimension).sum(axis=0)
    noise_ratio = float(np.sqrt(np.mean(difference**2)) / DEVIATION)
    return {"seconds": seconds[1:], "bytes": sent[-1], "noise_ratio": noise_ratio}


def _main(owners: int, dimension: int, runs: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    # The library counts bytes only when told to.
    crypten.cfg.communicator.verbose = True
    parties = run_multiprocess(PARTIES)(_party)(owners, dimension, runs)
    if parties is None:
        raise SystemExit("one of CrypTen's processes failed")
    answer = {
        "version": version("crypten"),
        "seconds_by_run": [max(each) for each in zip(*(party["seconds"] for party in parties), strict=True)],
        # Every byte is counted where it is sent and where it arrives.
        "bytes_sent": sum(party["bytes"] for party in parties) // 2,
        "largest_error": None,
        "noise_ratio": parties[0]["noise_ratio"],
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:4]))
