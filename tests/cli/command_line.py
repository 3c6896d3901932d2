"""The command line within the test's own process: what it prints and its exit code, without the seconds that a new
interpreter takes to import everything. That a process behaves the same is shown in `test_every_command`."""

import contextlib
import io
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mpcdp.cli import main

__all__ = ["Done", "mpcdp"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def mpcdp(*arguments: str | Path, cwd: Path | None = None) -> Done:
    """Run ``mpcdp`` with arguments.

    Args:
        arguments: as a shell would give them.
        cwd: the folder to run it in; by default the current one.

    Raises:
        Exception: with ``--debug``, what a shell would see as a traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.chdir(cwd or Path.cwd()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", ["mpcdp", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
    finally:
        signal.signal(signal.SIGTERM, terminated)  # `main` sets its own
    code = ended.value.code or 0
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())
