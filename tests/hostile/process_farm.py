"""Forks processes of a session from one that has already imported what is slow to import (never gRPC, which must not
be forked): run by `farmed_network`, one JSON request per line of its standard input.

``{"id": 1, "role": "compute", "config": "...", "log": "...", "arms": ["before ..."], "noise": false}`` starts a
process; the answers are ``{"id": 1, "pid": 7}`` and, later, ``{"id": 1, "code": 0}``. When its input ends, it ends,
and all processes with it.
"""

import ctypes
import functools
import importlib
import json
import os
import select
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from crash_points import arm, point
from witness import Testimony, watch

from mpcdp.config import ComputePartyConfig, CoordinatorConfig, DealerConfig, OwnerConfig
from mpcdp.mpc.crypten_backend import CryptenBackend
from mpcdp.mpc.noise_bank import PerPartyNoise, PooledNoise
from mpcdp.roles.process import run_process
from mpcdp.secret_sharing.shares import NoiseShare

_CONFIGS: dict[str, Any] = {
    "owner": OwnerConfig,
    "compute": ComputePartyConfig,
    "dealer": DealerConfig,
    "coordinator": CoordinatorConfig,
}
_STARTS = {role: importlib.import_module(f"parties.{role}.__main__").start for role in _CONFIGS}
_DEATH_SIGNAL = 1
TESTIMONIES = "testimonies.jsonl"


def _without_noise(kind: Any) -> None:
    """Let the noise be taken as always, and hand out zeros instead of it."""
    take = kind.take
    kind.take = lambda noise, index: NoiseShare(np.zeros(take(noise, index).dimension, dtype=np.int64))


def _testify(folder: Path) -> None:
    """Write down what this compute party binds and opens; a process that is killed has written it."""
    file = os.open(folder / TESTIMONIES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(testimony: Testimony) -> None:
        os.write(file, json.dumps(asdict(testimony)).encode() + b"\n")

    watch(CryptenBackend, lambda _: folder.name, note)


def _become(request: dict[str, Any]) -> NoReturn:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    if not request["noise"]:
        _without_noise(PerPartyNoise)
        _without_noise(PooledNoise)
    if request["role"] == "compute":
        _testify(Path(request["config"]).parent)
    for text in request["arms"]:
        freezes = text.startswith("stop ")
        number = signal.SIGSTOP if freezes else signal.SIGKILL
        arm(point(text.removeprefix("stop ")), functools.partial(os.kill, os.getpid(), number))
    role = request["role"]
    sys.argv = [f"parties.{role}", "--config", request["config"]]
    code = run_process(_CONFIGS[role], _STARTS[role])
    # Wait for threads as at any end, but do not take every object of PyTorch down, which costs seconds in a fork.
    threading._shutdown()  # type: ignore[attr-defined]
    sys.stderr.flush()
    os._exit(code)


def _say(**answer: int) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 (the farm's answers)


def main() -> None:
    """Serve until the input ends."""
    assert "grpc" not in sys.modules
    children: dict[int, int] = {}
    pending = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            read = os.read(0, 1 << 16)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if (child := os.fork()) == 0:
                    _become(request)
                children[child] = request["id"]
                _say(id=request["id"], pid=child)
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say(id=children.pop(ended[0]), code=os.waitstatus_to_exitcode(ended[1]))
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
