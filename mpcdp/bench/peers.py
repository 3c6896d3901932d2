"""Other libraries that add owners' vectors up, each by a script of its own and with a Python of its own.

A script, in ``peer_scripts``, imports nothing of ours: its library's versions need not fit ours. It prints one line of
JSON. What goes wrong, from a library that cannot be installed to one that answers nonsense, is a result as well.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["PEERS", "Peer", "PeerResult", "default_peers_folder", "failed_peer", "run_peer"]

_INSTALL_SECONDS = 900.0
_POLL_SECONDS = 0.05
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


class _PeerProblem(Exception):
    """Something went wrong; its text is one sentence."""


def default_peers_folder() -> Path:
    """Return where the libraries are installed if nothing else is said."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "mpcdp" / "peers"


def run_peer(
    peer: Peer,
    folder: Path,
    *,
    owners: int,
    dimension: int,
    runs: int,
    seconds: float,
    install_seconds: float = _INSTALL_SECONDS,
) -> PeerResult:
    """Install a library, if that has not been done, and let it add up.

    Args:
        peer: which.
        folder: holds a virtual environment for each library.
        owners: number of owners m.
        dimension: number of coordinates d.
        runs: of which the median counts, after one that is not counted.
        seconds: what all runs together may take at most.
        install_seconds: what the installation may take at most.

    Returns:
        Its figures, or why there are none.
    """
    try:
        python = _python_of(peer, folder, install_seconds) if peer.requirements else Path(sys.executable)
        command = [str(python), "-I", str(_SCRIPTS / f"{peer.name}_sum.py"), str(owners), str(dimension), str(runs)]
        answer = _read(_output_of(command, seconds=seconds, what="its run"))
    except _PeerProblem as problem:
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


def _python_of(peer: Peer, folder: Path, seconds: float) -> Path:
    """Return the Python of a peer's environment, which is made unless it holds just what is required."""
    environment = folder / peer.name
    python, note = environment / "bin" / "python", environment / "requirements.json"
    wanted = json.dumps([sys.version, *peer.requirements])
    if note.exists() and note.read_text(encoding="utf-8") == wanted:
        return python
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _PeerProblem(f"{folder} cannot be made ({error.strerror}): choose another --peers-dir") from None
    _output_of([sys.executable, "-m", "venv", "--clear", str(environment)], seconds=seconds, what="making its venv")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
    _output_of(install, seconds=seconds, what=f"installing {' '.join(peer.requirements)}")
    note.write_text(wanted, encoding="utf-8")
    return python


def _output_of(command: Sequence[str], *, seconds: float, what: str) -> str:
    """Run a command in a process group of its own, of which nothing is left afterwards, and return what it printed."""
    # A library of ours, or settings of the one who calls, must not get in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="mpcdp-peer-") as path:
        folder = Path(path)
        with (folder / "output").open("wb") as output, (folder / "problems").open("wb") as problems:
            process = subprocess.Popen(  # noqa: S603 (our own command)
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=problems,
                start_new_session=True,
            )
        try:
            _wait(process, seconds=seconds, what=what)
        finally:
            # Until it is waited for, nobody else gets its number, which is also the group's.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if code:
            lines = (folder / "problems").read_text(encoding="utf-8", errors="replace").splitlines()
            telling = (line.strip() for line in reversed(lines) if line.strip() and not line.startswith("WARNING"))
            last = next(telling, "it said nothing")
            raise _PeerProblem(f"{what} ended with exit code {code}: {last[:300]}")
        return (folder / "output").read_text(encoding="utf-8", errors="replace")


def _wait(process: "subprocess.Popen[bytes]", *, seconds: float, what: str) -> None:
    """Wait until a command has ended, and leave its end to be waited for again."""
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > end:
            raise _PeerProblem(f"{what} did not end within {seconds:g} s")
        time.sleep(_POLL_SECONDS)


def _read(output: str) -> Mapping[str, Any]:
    """Read a script's answer: the last line of what it printed."""
    lines = output.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        runs = [float(seconds) for seconds in answer["seconds_by_run"]]
    except (IndexError, ValueError, KeyError, TypeError):
        raise _PeerProblem("its script's answer is not one line of JSON with its figures") from None
    if set(answer) != _ANSWER or not runs:
        raise _PeerProblem("its script's answer has other figures than it should")
    checked: Mapping[str, Any] = answer
    return checked
