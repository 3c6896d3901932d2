"""Other libraries that add owners' vectors up, each by a script of its own and with a Python of its own.

A script, in ``peer_scripts``, imports nothing of ours: its library's versions need not fit ours. It prints one line of
JSON. What goes wrong, from a library that cannot be installed to one that answers nonsense, is a result as well.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mpcdp.errors import PeerError
from mpcdp.own_environment import own_environment, run_alone

__all__ = ["PEERS", "Peer", "PeerResult", "failed_peer", "run_peer"]

_INSTALL_SECONDS = 900.0
_SCRIPTS = Path(__file__).parent / "peer_scripts"
_ANSWER = frozenset({"version", "seconds_by_run", "bytes_sent", "largest_error", "noise_ratio"})


@dataclass(frozen=True)
class Peer:
    """Another way to add vectors up.

    Args:
        name: of its script and of its folder.
        requirements: what pip installs for it; nothing when it runs with our Python.
        setting: what was run.
        noise: where noise is added.
        seen_by: who could see what.
    """

    name: str
    requirements: tuple[str, ...]
    setting: str
    noise: str
    seen_by: str


PEERS = (
    Peer(
        "crypten",
        (),
        "3 parties, its launcher, gloo without TLS",
        "inside, by its own sampler, whose variance is 1.03 and whose tails are wrong",
        "the party of rank 0 makes all triples and could compute everything; nobody else sees a vector",
    ),
    Peer(
        "mpyc",
        ("mpyc==0.11", "numpy>=1.26,<3"),
        "3 parties, its launcher, no TLS",
        "none inside: added in the clear after the sum was opened",
        "every party sees the exact sum; any two of the three could see every vector",
    ),
    Peer(
        "flower",
        ("flwr==1.42.0",),
        "SecAgg+, all owners neighbours; messages within one process",
        "none inside: added by the server in the clear after unmasking",
        "the server sees the exact sum; it and two thirds of the owners could see every vector",
    ),
    Peer(
        "spu",
        ("spu==0.9.5",),
        "its simulator: 3 parties (ABY3) as threads of one process",
        "none inside: added in the clear after the sum was opened",
        "whoever opens sees the exact sum; any two of the three could see every vector",
    ),
)


@dataclass(frozen=True)
class PeerResult:
    """What one way to add up cost.

    Args:
        peer: its name.
        version: of its library, None if it never ran.
        setting: what was run.
        seconds: median over the runs, None if it failed.
        seconds_by_run: in order.
        bytes_sent: by all processes together in one run, None where that cannot be measured.
        largest_error: of a coordinate of the sum before noise; None where nobody sees that sum.
        noise_ratio: deviation of what is released from the exact sum, in standard deviations of the noise.
        noise: where noise is added.
        seen_by: who could see what.
        problem: why there are no figures, in one sentence; None if there are.
    """

    peer: str
    version: str | None
    setting: str
    seconds: float | None
    seconds_by_run: tuple[float, ...]
    bytes_sent: int | None
    largest_error: float | None
    noise_ratio: float | None
    noise: str
    seen_by: str
    problem: str | None = None


def run_peer(
    peer: Peer, *, owners: int, dimension: int, runs: int, seconds: float, install_seconds: float = _INSTALL_SECONDS
) -> PeerResult:
    """Install a library, if that has not been done, and let it add up.

    Args:
        peer: which.
        owners: number of owners m.
        dimension: number of coordinates d.
        runs: of which the median counts, after one that is not counted.
        seconds: what all runs together may take at most.
        install_seconds: what the installation may take at most.

    Returns:
        Its figures, or why there are none.
    """
    try:
        python = sys.executable
        if peer.requirements:
            python = str(own_environment(f"peer-{peer.name}", peer.requirements, seconds=install_seconds))
        script = str(_SCRIPTS / f"{peer.name}_sum.py")
        answer = _read(run_alone([python, "-I", script, str(owners), str(dimension), str(runs)], seconds=seconds))
    except (PeerError, ValueError, OSError) as problem:
        return failed_peer(peer, str(problem))
    return PeerResult(
        peer=peer.name,
        version=answer["version"],
        setting=peer.setting,
        seconds=median(answer["seconds_by_run"]),
        seconds_by_run=tuple(answer["seconds_by_run"]),
        bytes_sent=answer["bytes_sent"],
        largest_error=answer["largest_error"],
        noise_ratio=answer["noise_ratio"],
        noise=peer.noise,
        seen_by=peer.seen_by,
    )


def failed_peer(peer: Peer, problem: str) -> PeerResult:
    """Return the result of one that has no figures."""
    return PeerResult(peer.name, None, peer.setting, None, (), None, None, None, peer.noise, peer.seen_by, problem)


def _read(output: str) -> Mapping[str, Any]:
    """Read a script's answer: the last line of what it printed."""
    lines = output.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        runs = [float(seconds) for seconds in answer["seconds_by_run"]]
    except (IndexError, ValueError, KeyError, TypeError):
        raise ValueError("its script's answer is not one line of JSON with its figures") from None
    if set(answer) != _ANSWER or not runs:
        raise ValueError("its script's answer has other figures than it should")
    checked: Mapping[str, Any] = answer
    return checked
