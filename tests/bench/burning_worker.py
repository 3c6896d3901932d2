"""A worker of the benchmark in which one process works for nothing: ``python burning_worker.py FOLDER NAME BURNER``."""

import os
import sys
import time
from pathlib import Path

from mpcdp.bench import rounds_worker
from mpcdp.bench.processes import Command

__all__ = ["BURNT_SECONDS", "burning_command"]

BURNT_SECONDS = 3.0
"""Processor seconds: more than a small session takes anywhere."""


def burning_command(burner: str) -> Command:
    """Return what starts a row's processes, of which one burns processor time within the session."""

    def command(folder: Path, name: str) -> list[str]:
        return [sys.executable, __file__, str(folder), name, burner]

    return command


class _BurningWorld(rounds_worker._World):
    def state(self, name: str) -> Path:
        # Everybody asks for it once its session has begun.
        end = time.process_time() + BURNT_SECONDS
        while time.process_time() < end:
            pass
        return super().state(name)


if __name__ == "__main__":
    _folder, _name, _burner = sys.argv[1:]
    if _name == _burner:
        vars(rounds_worker)["_World"] = _BurningWorld
    code = rounds_worker.main(Path(_folder), _name)
    sys.stderr.flush()
    os._exit(code)
