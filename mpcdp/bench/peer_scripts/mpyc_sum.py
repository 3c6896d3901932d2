"""MPyC adds owners' vectors up: ``python mpyc_sum.py OWNERS DIMENSION RUNS``, with a Python that has ``mpyc``.

As its demos do it: three parties on one machine, connected without TLS, each entering the vectors of a third of the
owners as secret inputs. It has no sampler for noise, so the noise is added in the clear, after the sum was opened.
"""

import asyncio
import json
import secrets
import socket
import sys
import time
from functools import partial
from importlib.metadata import version
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PARTIES = 3
DEVIATION = 0.01
MPYC_LOWEST_PORT, MPYC_PORTS = 12000, 18000


def _base_port() -> int:
    """Find as many free ports in a row as there are parties."""
    while True:
        first = MPYC_LOWEST_PORT + secrets.randbelow(MPYC_PORTS)
        try:
            for port in range(first, first + PARTIES):
                with socket.socket() as attempt:
                    attempt.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


if not any(argument.startswith("-I") for argument in sys.argv):  # else MPyC has started this process as another party
    sys.argv += [f"-M{PARTIES}", "-B", str(_base_port()), "--no-log"]
from mpyc.runtime import mpc  # noqa: E402 (it reads the arguments)


def vectors(first: int, end: int, dimension: int) -> NDArray[np.float64]:
    """Return some owners' vectors, one a row."""
    rows = [np.random.default_rng(owner).uniform(-1, 1, dimension) for owner in range(first, end)]
    return np.array(rows).reshape(end - first, dimension)


async def _main(owners: int, dimension: int, runs: int) -> None:
    number = mpc.SecFxp(64, 24)
    bounds = [owners * party // PARTIES for party in range(PARTIES + 1)]
    mine = vectors(bounds[mpc.pid], bounds[mpc.pid + 1], dimension)
    loop = asyncio.get_running_loop()
    listen = loop.create_server
    # MPyC listens on every interface; these parties are all on this machine.
    vars(loop)["create_server"] = partial(listen, host="127.0.0.1")
    await mpc.start()
    seconds, sent, opened = [], [], np.zeros(dimension)
    for _ in range(runs + 1):  # the first one warms everything up
        await mpc.barrier()
        before, begin = _bytes_sent(), time.perf_counter()
        total = None
        for party, (first, end) in enumerate(pairwise(bounds)):
            if first == end:
                continue
            values = mine if party == mpc.pid else np.zeros((end - first, dimension))
            part = mpc.np_sum(mpc.input(number.array(values), senders=party), axis=0)
            total = part if total is None else total + part
        opened = np.array(await mpc.output(total), dtype=float)
        released = opened + np.random.default_rng().normal(0, DEVIATION, dimension)
        seconds.append(time.perf_counter() - begin)
        sent.append(_bytes_sent() - before)
    own_bytes = await mpc.transfer(sent[-1])
    await mpc.shutdown()
    if mpc.pid:
        return
    exact = vectors(0, owners, dimension).sum(axis=0)
    answer = {
        "version": version("mpyc"),
        "seconds_by_run": seconds[1:],
        "bytes_sent": sum(own_bytes),
        "largest_error": float(np.abs(opened - exact).max()),
        "noise_ratio": float(np.sqrt(np.mean((released - exact) ** 2)) / DEVIATION),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


def _bytes_sent() -> int:
    return sum(party.protocol.nbytes_sent for party in mpc.parties if party.pid != mpc.pid)


if __name__ == "__main__":
    mpc.run(_main(*map(int, sys.argv[1:4])))
