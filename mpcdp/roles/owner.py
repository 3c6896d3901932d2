"""A data owner: computes contributions from its own table and sends them out as shares only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.table import read_dataset
from mpcdp.errors import DataError, PeerUnavailable, ProtocolError, SessionAborted
from mpcdp.learning.model import TrainedModel
from mpcdp.plan import Plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.session import SessionMonitor, trained_model
from mpcdp.secret_sharing.additive import last_share, mask_nonce
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import (
    Aborted,
    Attendance,
    Enrolment,
    Finished,
    RoundStarted,
    SessionRef,
    SessionStarted,
    Upload,
)

__all__ = ["Owner", "check_table"]

_log = structlog.get_logger("mpcdp.owner")


def check_table(task: Task, name: str, table: Path) -> Dataset:
    """Read an owner's table and check it against the task, before the owner joins anything.

    Raises:
        DataError: the table cannot be read, does not fit the schema, or has another number of records than declared.
    """
    dataset = read_dataset(table, task.schema_)
    declared = task.owner(name).record_count
    if dataset.record_count != declared:
        raise DataError(
            f"{name}: {table} has {dataset.record_count} records, but the task declares {declared}: "
            "record counts are public and agreed on; give the table that was declared or agree on a new task"
        )
    return dataset


class Owner:
    """Take part in one session as a data owner. An owner only dials out.

    Args:
        name: this owner in the task.
        task: what everybody agreed on.
        plan: the task's plan.
        dataset: the owner's records, as `check_table` returned them.
        network: this process's access to the others.
        ledger: charged for the whole plan before the first upload.
        output: where the released model is written.

    Reveals:
        To any k - 1 compute parties, the dealer and the coordinator together: nothing but the releases of the plan
        (and when this owner is on line).
    """

    def __init__(
        self, name: str, task: Task, plan: Plan, dataset: Dataset, network: Network, ledger: Ledger, output: Path
    ) -> None:
        self._name = name
        self._task = task
        self._plan = plan
        self._dataset = dataset
        self._network = network
        self._ledger = ledger
        self._output = output
        self._method = task.method()
        self._monitor = SessionMonitor(task)
        self._parties = tuple(party.name for party in task.compute_parties)
        self._secret = random_key()
        self._keys = tuple(random_key() for _ in self._parties[:-1])
        self._round = 0
        self._first = np.zeros(0)

    def run(self) -> TrainedModel:
        """Attend the task's session until its end.

        Returns:
            The released model, which is also written to ``output``.

        Raises:
            BudgetError: the ledger refuses the task; nothing was sent.
            SessionAborted: the coordinator ended the session without a model.
            PeerError: another process failed.
        """
        self._ledger.check(self._task.digest, task_name=self._task.name, cost=self._plan.cost)
        # The first model is public. Training on it now keeps a table that trains slowly from missing a deadline later:
        # once an owner has joined, nothing it does or fails to do may depend on a record.
        self._first = self._method.contribution(self._dataset, self._method.initial_state(), key=self._secret)
        attendance = Attendance(self._task.digest, self._name, self._dataset.record_count)
        _log.info("joining", coordinator=self._task.coordinator.name)
        for event in self._network.coordinator(self._task.coordinator.name).attend(self._name, attendance):
            match event:
                case SessionStarted():
                    self._start(event.ref)
                case RoundStarted():
                    self._monitor.check(event.ref)
                    self._contribute(event)
                case Finished():
                    self._monitor.check(event.ref)
                    return self._finish(event)
                case Aborted():
                    raise SessionAborted(f"{self._task.coordinator.name} ended the session: {event.reason}")
        raise PeerUnavailable(self._task.coordinator.name, "it left before the session's end: see its log")

    def _start(self, ref: SessionRef) -> None:
        self._monitor.open(ref)
        self._ledger.charge(
            self._task.digest,
            ref.session,
            task_name=self._task.name,
            cost=self._plan.cost,
            releases=self._plan.rounds,
        )
        _log.info("charged", epsilon=self._plan.cost.epsilon, delta=self._plan.cost.delta)
        for party, key in zip(self._parties, (*self._keys, b""), strict=True):
            self._network.compute_party(party).enrol(self._name, Enrolment(ref=ref, owner=self._name, key=key))

    def _contribute(self, event: RoundStarted) -> None:
        if event.round_index != self._round or event.round_index >= self._plan.rounds:
            raise ProtocolError(
                f"{self._task.coordinator.name} asks for round {event.round_index}, but round {self._round} of "
                f"{self._plan.rounds} is next"
            )
        if event.model.shape != (self._plan.dimension,):
            raise ProtocolError(
                f"{self._task.coordinator.name} sent {event.model.size} coordinates, not {self._plan.dimension}"
            )
        if self._round == 0 and not np.array_equal(event.model, self._method.initial_state().point):
            raise ProtocolError(f"{self._task.coordinator.name} starts from another model than the method's first one")
        later = self._round > 0
        self._round += 1
        state = replace(self._method.initial_state(), round_index=event.round_index, point=event.model)
        contribution = self._method.contribution(self._dataset, state, key=self._secret) if later else self._first
        upload = self._share(event.ref, event.round_index, contribution)
        self._network.compute_party(self._parties[-1]).upload(self._name, upload)
        _log.info("uploaded", round=event.round_index)

    def _share(self, ref: SessionRef, round_index: int, contribution: NDArray[np.float64]) -> Upload:
        encoded = self._plan.encoding.encode(contribution)
        nonce = mask_nonce(self._secret, session=ref.session, round_index=round_index, encoded=encoded)
        return Upload(
            ref=ref,
            owner=self._name,
            round_index=round_index,
            nonce=nonce,
            values=last_share(encoded, self._keys, nonce=nonce),
        )

    def _finish(self, event: Finished) -> TrainedModel:
        known = {owner.name for owner in self._task.owners}
        complete = self._round == len(event.owners) == self._plan.rounds
        if not complete or not all(owners and set(owners) <= known for owners in event.owners):
            raise ProtocolError(
                f"{self._task.coordinator.name} ends the session before all of its rounds were released"
            )
        if event.model.shape != (self._plan.dimension,) or not np.isfinite(event.model).all():
            raise ProtocolError(f"{self._task.coordinator.name} sent a model that does not fit the task")
        for round_index, owners in enumerate(event.owners):
            self._ledger.record_release(event.ref.session, round_index, owners)
        model = trained_model(self._task, self._plan, event)
        model.save(self._output / "model.json")
        _log.info("finished", model=str(self._output / "model.json"))
        return model
