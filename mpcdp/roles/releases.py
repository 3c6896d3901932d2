"""Following a session from beside its coordinator: another process of its host and user reads what was released."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import PeerTimeout, SessionAborted
from mpcdp.learning.model import TrainedModel
from mpcdp.plan import Plan
from mpcdp.roles.coordinator_journal import DATABASE_FILE, CoordinatorJournal, CoordinatorRecord
from mpcdp.roles.session import waiting_seconds
from mpcdp.roles.training import Training
from mpcdp.task import Task

__all__ = ["SessionReleases"]

_PAUSE_SECONDS = 0.1


class SessionReleases:
    """What a task's session has released so far, as its coordinator's state folder tells; all of it is public.

    Args:
        task: what everybody agreed on.
        plan: the task's plan.
        folder: the coordinator's state folder; what is recorded in it is read only.
        pause: waits for some seconds.
    """

    def __init__(self, task: Task, plan: Plan, folder: Path, *, pause: Callable[[float], object] = time.sleep) -> None:
        self._task = task
        self._plan = plan
        self._folder = folder
        self._pause = pause
        self._training: Training | None = None

    @property
    def over(self) -> bool:
        """Whether the session of this task has ended."""
        record = self._look()
        return record is not None and record.over

    def model_after(self, rounds: int) -> NDArray[np.float64]:
        """Return the model after so many rounds, shape (p,), once they are released.

        Args:
            rounds: from 1 to the plan's, never fewer than at an earlier call.

        Raises:
            PeerTimeout: the release did not come in time.
            SessionAborted: the session has failed, or was over before.
        """
        # What may happen until then: everybody starts, or comes back, computes, uploads, adds up.
        deadlines = self._task.deadlines
        seconds = waiting_seconds(self._task) + deadlines.contribution_seconds + deadlines.round_seconds
        end = time.monotonic() + seconds
        while (model := self._last(rounds) if rounds == self._plan.rounds else self._before_the_last(rounds)) is None:
            if time.monotonic() > end:
                raise PeerTimeout(
                    self._task.coordinator.name,
                    f"no release of round {rounds - 1} within {seconds:g} s: see its log, and those of the owners",
                    final=True,
                )
            self._pause(_PAUSE_SECONDS)
        return model

    def _last(self, rounds: int) -> NDArray[np.float64] | None:
        """The last release may be gone with its session, but then the model is there."""
        record = self._look()
        if (path := self._folder / "model.json").exists():
            model = TrainedModel.load(path)
            if model.task_digest == self._task.digest.hex():
                return np.asarray(model.coefficients, dtype=np.float64)
        if record is not None and record.over:
            raise SessionAborted(f"{self._task.coordinator.name} ended the session: {record.reason or 'see its log'}")
        return None

    def _before_the_last(self, rounds: int) -> NDArray[np.float64] | None:
        record = self._look()
        if record is None or (not record.over and record.releases < rounds):
            return None
        if record.over:
            reason = record.reason or "it is over; a task is run once, give it a new name"
            raise SessionAborted(f"{self._task.coordinator.name} ended the session: {reason}")
        if self._training is None:
            self._training = Training(self._task, self._plan, record.ref, source=self._task.coordinator.name)
        with CoordinatorJournal(self._folder) as journal:
            for round_index in range(self._training.history.rounds, rounds):
                self._training.follow(round_index, journal.release(record.ref, round_index))
        return self._training.state.model

    def _look(self) -> CoordinatorRecord | None:
        if not (self._folder / DATABASE_FILE).exists():
            return None  # the coordinator has not been started yet
        with CoordinatorJournal(self._folder) as journal:
            return journal.stored(self._task.digest)
