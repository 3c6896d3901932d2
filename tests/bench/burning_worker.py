"""A worker of the benchmark in which some processes work for nothing: ``python burning_worker.py FOLDER NAME``."""

import os
import sys
import time
from pathlib import Path

from mpcdp.bench import rounds_worker

__all__ = ["BURNT_SECONDS", "burning_command"]

BURNT_SECONDS = {"coordinator": 2.0, "party-1": 4.0, "owners-1": 6.0}
"""Processor seconds by process: steps of more than a small session takes anywhere."""


def burning_command(folder: Path, name: str) -> list[str]:
    """Return what starts a row's processes, of which some burn processor time within the session."""
    return [sys.executable, __file__, str(folder), name]


class _BurningWorld(rounds_worker._World):
    burnt_seconds = 0.0

    def state(self, name: str) -> Path:
        # Everybody asks for it once, when its session has begun.
        end = time.process_time() + self.burnt_seconds
        while time.process_time() < end:
            pass
        return super().state(name)


if __name__ == "__main__":
    _folder, _name = sys.argv[1:]
    _BurningWorld.burnt_seconds = BURNT_SECONDS.get(_name, 0.0)
    vars(rounds_worker)["_World"] = _BurningWorld
    code = rounds_worker.main(Path(_folder), _name)
    sys.stderr.flush()
    os._exit(code)
