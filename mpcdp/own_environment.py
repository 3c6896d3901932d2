"""Somebody else's library in a Python environment of its own, when it does not fit beside ours.

An environment is made when it is first needed, in ``$XDG_CACHE_HOME/mpcdp`` (``~/.cache/mpcdp``), and kept::

    python = own_environment("diffprivlib", ["diffprivlib==0.6.6", "scikit-learn==1.7.2"], seconds=900)
    answer = run_alone([str(python), "-I", "script.py"], seconds=60)
"""

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mpcdp.errors import PeerError, PeerTimeout

__all__ = ["own_environment", "run_alone"]

_MADE = "made.json"
"""Written when everything is installed, so that half an environment is never taken for one."""


def own_environment(name: str, requirements: Sequence[str], *, seconds: float) -> Path:
    """Return the Python of an environment in which the requirements are installed; make it unless there is one.

    Args:
        name: of its folder in the cache; what is asked for under a name replaces what was.
        requirements: as pip takes them; exact versions, so that everybody gets the same.
        seconds: deadline for all of it, waiting for another process that makes it included.

    Raises:
        PeerError: it could not be made, and why.
        PeerTimeout: not within the deadline.
    """
    deadline = time.monotonic() + seconds
    folder = _cache() / name
    python = folder / "bin" / "python"
    wanted = json.dumps({"python": platform.python_version(), "requirements": list(requirements)}) + "\n"
    with _alone(folder.with_name(f"{name}.lock"), deadline):
        if _content(folder / _MADE) == wanted and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        run_alone([sys.executable, "-m", "venv", str(folder)], seconds=deadline - time.monotonic())
        if requirements:
            pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
            run_alone([*pip, *requirements], seconds=deadline - time.monotonic())
        (folder / _MADE).write_text(wanted, encoding="utf-8")
    return python


def run_alone(command: Sequence[str], *, seconds: float) -> str:
    """Run a program to its end and return its standard output; nothing of it outlives the call.

    It does not see ``PYTHONPATH`` and ``PYTHONHOME``, which would let it import from where we run.

    Raises:
        PeerError: it could not be started, or failed; with the end of what it said.
        PeerTimeout: it took longer than ``seconds``.
    """
    name = Path(command[0]).name
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    # Into files: a pipe would stay open for as long as a child of the program has it.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(  # noqa: S603 (the caller's own command)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=complaints,
                env=environment,
                start_new_session=True,  # so that its children can be ended with it
            )
        except OSError as error:
            raise PeerError(name, f"cannot be started: {error.strerror}") from None
        try:
            if not _ends(process.pid, time.monotonic() + seconds):
                raise PeerTimeout(name, f"took longer than {seconds:,.0f} s: {_shown(command)}")
        finally:
            # Until it is waited for, nobody else gets its number, which is its group's as well.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if code != 0:
            raise PeerError(name, f"failed ({code}) in {_shown(command)}: {_last_words(_text(complaints))}")
        return _text(output)


def _ends(number: int, deadline: float) -> bool:
    """Wait until a child has ended, and leave its end to be waited for."""
    while os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "mpcdp"


@contextmanager
def _alone(path: Path, deadline: float) -> Iterator[None]:
    """Wait until no other process makes this environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise PeerTimeout(path.stem, f"another process is still making it (it holds {path})") from None
                time.sleep(0.1)
        yield


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _shown(command: Sequence[str]) -> str:
    """Return a command as far as people want to read it."""
    words = " ".join(command[1:])
    return words if len(words) <= 120 else f"{words[:120]}..."


def _last_words(complaints: str) -> str:
    """Return the last lines of what a program said, its own errors before anything else."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return " / ".join((errors or lines)[-2:]) or "it said nothing"
