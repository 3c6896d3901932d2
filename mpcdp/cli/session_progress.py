"""Running a network's processes from the command line: progress while they run, and what came of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from mpcdp.cli.progress import progress_bars
from mpcdp.errors import BudgetError, PeerError
from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import AFTERMATH_SECONDS, LocalNetwork, ProcessResult, first_cause
from mpcdp.task import Task

__all__ = ["SessionRun", "run_network"]


@dataclass(frozen=True)
class SessionRun:
    """How a network's session went.

    Args:
        results: of every process.
        seconds: from the start of the first process to the end of the last.
        model: the released model's file at the coordinator.
    """

    results: tuple[ProcessResult, ...]
    seconds: float
    model: Path


def run_network(folder: Path, task: Task, console: Console, *, seconds: float, quiet: bool) -> SessionRun:
    """Run all processes of a network's folder to the end of its session.

    Args:
        folder: made by `mpcdp network new`.
        task: the network's task.
        console: for progress bars, with the time that is left.
        seconds: how long it may take at most.
        quiet: show nothing.

    Raises:
        BudgetError: everybody has the task's model already.
        PeerError: a process failed; the one whose failure explains the others' is named, with what its log says.
    """
    start = time.monotonic()
    with LocalNetwork(folder) as network:
        _refuse_second_run(network, task)
        if not quiet:
            console.print(f"Starting {len(network.names)} processes on loopback, mutual TLS between them ...")
        network.start()
        with progress_bars(console, quiet=quiet) as progress:
            follow = _Follower(network, task, progress).update
            results = network.wait(seconds, progress=follow, after_failure=AFTERMATH_SECONDS)
        model = network.state(task.coordinator.name) / "model.json"
    if (cause := first_cause(results)) is not None:
        raise PeerError(cause.name, cause.problem().removeprefix(f"{cause.name}: "))
    return SessionRun(results, time.monotonic() - start, model)


def _refuse_second_run(network: LocalNetwork, task: Task) -> None:
    """Refuse a task whose model everybody has: its dealer would wait for a session that nobody opens."""
    names = [task.coordinator.name, *(owner.name for owner in task.owners)]
    models = [network.state(name) / "model.json" for name in names if name in network.names]
    if all(path.is_file() and TrainedModel.load(path).task_digest == task.digest.hex() for path in models):
        raise BudgetError(
            f"task {task.name!r} was run, its model is {models[0]}, and it runs once only; for another run give the "
            "task a new name, and make a network for it with `mpcdp network new`"
        )


def _described(entry: Mapping[str, Any]) -> str:
    """Name the bar of the rounds, and how good the model is by now on public records, where the coordinator has any."""
    loss = entry.get("validation_loss")
    return "rounds" if loss is None else f"rounds, loss {loss:.4g}"


class _Follower:
    """Moves the bars as the coordinator's log grows."""

    def __init__(self, network: LocalNetwork, task: Task, progress: Progress) -> None:
        self._network = network
        self._coordinator = task.coordinator.name
        self._progress = progress
        self._joined = progress.add_task("owners joined", total=len(task.owners))
        self._rounds = progress.add_task("rounds", total=None, start=False)
        self._started = False

    def update(self) -> None:
        """Read the log and move the bars."""
        joined: set[str] = set()
        for entry in self._network.events(self._coordinator):
            match entry.get("event"):
                case "owner joined":
                    joined.add(str(entry.get("owner")))
                case "session opened" if not self._started:
                    self._started = True
                    self._progress.start_task(self._rounds)
                case "round released":
                    self._progress.update(
                        self._rounds,
                        completed=int(entry["round"]) + 1,
                        total=int(entry["rounds"]),
                        description=_described(entry),
                    )
        self._progress.update(self._joined, completed=len(joined))
