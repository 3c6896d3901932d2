"""A data owner: computes contributions from its own table and sends them out as shares only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from mpcdp.config import DataConfig
from mpcdp.data.records import Records, open_records
from mpcdp.data.updates import UpdateFolder
from mpcdp.errors import (
    ConfigError,
    DataError,
    LateUpload,
    MpcdpError,
    PeerError,
    PeerUnavailable,
    ProtocolError,
    SessionAborted,
)
from mpcdp.learning.method import TrainingState
from mpcdp.learning.model import TrainedModel
from mpcdp.plan import Plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.owner_secret import OwnerSecret
from mpcdp.roles.session import Patience, SessionMonitor, limits_of, persistently, waiting_seconds
from mpcdp.roles.training import History, Training, owner_names
from mpcdp.secret_sharing.additive import last_share, mask_nonce
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import (
    Aborted,
    Attendance,
    Enrolment,
    Finished,
    NoiseUse,
    Release,
    Released,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
    Upload,
)

__all__ = ["Owner", "check_table"]

_T = TypeVar("_T")
_log = structlog.get_logger("mpcdp.owner")


def check_table(task: Task, name: str, table: Path, data: DataConfig | None = None) -> Records:
    """Open an owner's table and check it against the task, before the owner joins anything.

    With update aggregation it is the folder into which other software puts this owner's updates.

    Args:
        task: what everybody agreed on.
        name: the owner.
        table: of its config.
        data: who goes over the records; this process when absent.

    Raises:
        DataError: the table cannot be read, does not fit the schema, or has another number of records than declared.
        ConfigError: the method or the table are not for the engine that ``data`` names, or it is not there.
    """
    if task.method_.kind == "update-aggregation":
        seconds = max(task.deadlines.start_seconds, task.deadlines.contribution_seconds)
        return UpdateFolder(table, dimension=task.method().dimension, patience_seconds=seconds)
    if data is not None and data.address is not None:
        dataset = _open_with_ray(task, table, data.address)
    else:
        dataset = open_records(table, task.schema_)
    declared = task.owner(name).record_count
    if dataset.record_count != declared:
        raise DataError(
            f"{name}: {table} has {dataset.record_count} records, but the task declares {declared}: "
            "record counts are public and agreed on; give the table that was declared or agree on a new task"
        )
    return dataset


def _open_with_ray(task: Task, table: Path, address: str) -> Records:
    from mpcdp.data.ray_records import RayRecords

    if task.method_.kind == "output-perturbation":
        raise ConfigError(
            'data.engine: "ray" computes sums over records, output perturbation trains on all at once: use "local"'
        )
    if not table.is_dir():
        raise ConfigError(f'data.engine: "ray" reads a folder of Parquet files, and {table} is none; use "local"')
    return RayRecords(table, task.schema_, address=address)


class Owner:
    """Take part in one session as a data owner. An owner only dials out.

    Args:
        name: this owner in the task.
        task: what everybody agreed on.
        plan: the task's plan.
        dataset: the owner's records, as `check_table` returned them.
        network: this process's access to the others.
        ledger: charged for the whole plan before the first upload.
        output: the owner's state folder, where the released model is written too.

    Reveals:
        To any k - 1 compute parties, the dealer and the coordinator together: nothing but the releases of the plan
        (and when this owner is on line).
    """

    def __init__(
        self, name: str, task: Task, plan: Plan, dataset: Records, network: Network, ledger: Ledger, output: Path
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
        self._coordinator = task.coordinator.name
        self._parties = tuple(party.name for party in task.compute_parties)
        self._secret = OwnerSecret(output, task.digest)
        self._first = np.zeros(0)
        self._training: Training | None = None
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        self._patience = Patience(waiting_seconds(task))

    def run(self) -> TrainedModel:
        """Attend the task's session until its end; an earlier process may have been there before.

        Returns:
            The released model, which is also written to ``output``.

        Raises:
            BudgetError: the ledger refuses the task; nothing was sent.
            ProtocolError: the coordinator does not follow the plan, or told something else than was released.
            SessionAborted: the coordinator ended the session without a model.
            PeerError: another process failed.
        """
        if (model := self._finished_before()) is not None:
            return model
        if not (self._secret.kept and self._ledger.charged(self._task.digest)):  # else it comes back to its session
            self._ledger.check(
                self._task.digest,
                task_name=self._task.name,
                cost=self._plan.cost,
                gaussian=self._plan.gaussian_cost,
            )
        # The first state is public. Training on it now keeps a table that trains slowly from missing a deadline later:
        # once an owner has joined, nothing it does or fails to do may depend on a record.
        self._first = self._contribution(self._method.initial_state())
        # What is released while the connection is broken is told when it is back.
        return persistently(self._attend, self._patience)

    def _finished_before(self) -> TrainedModel | None:
        """Return the model of this task if an earlier process has written it: then nothing is left to do."""
        with suppress(MpcdpError):
            model = TrainedModel.load(self._model_path)
            if model.task_digest == self._task.digest.hex():
                self._secret.destroy()
                _log.info("the session of this task is over", model=str(self._model_path))
                return model
        return None

    @property
    def _model_path(self) -> Path:
        return self._output / "model.json"

    @property
    def _attendance(self) -> Attendance:
        return Attendance(self._task.digest, self._name, self._dataset.record_count)

    def _ask(self, call: Callable[[], _T]) -> _T:
        """Call a compute party, and again when it was away: it has been started again, and knows what it was told."""
        seconds = waiting_seconds(self._task) + 2 * self._limits.message_seconds
        try:
            return persistently(call, Patience(seconds))
        except PeerError as error:
            error.final = True  # it was waited for; attending the session again would not help
            raise

    def _attend(self) -> TrainedModel:
        _log.info("joining", coordinator=self._coordinator)
        with _leaving(self._network.coordinator(self._coordinator).attend(self._name, self._attendance)) as events:
            for event in events:
                self._patience.renew()
                match event:
                    case SessionStarted():
                        self._start(event.ref)
                    case Released():
                        self._follow(event.ref, event.round_index, event.release)
                    case RoundStarted():
                        self._follow(event.ref, event.round_index - 1, event.previous)
                        self._contribute(event)
                    case Finished():
                        self._follow(event.ref, self._plan.rounds - 1, event.last)
                        return self._finish(event.ref)
                    case Aborted():
                        self._secret.destroy()
                        raise SessionAborted(f"{self._coordinator} ended the session: {event.reason}")
        raise PeerUnavailable(self._coordinator, "it left before the session's end: see its log")

    def _start(self, ref: SessionRef) -> None:
        """Pay for the whole plan, then enrol; after a broken connection, both change nothing."""
        self._monitor.open(ref)
        if self._training is None:
            self._training = Training(self._task, self._plan, ref, source=self._coordinator)
        self._ledger.charge(
            self._task.digest,
            ref.session,
            task_name=self._task.name,
            cost=self._plan.cost,
            releases=self._plan.rounds,
            gaussian=self._plan.gaussian_cost,
        )
        _log.info("charged", epsilon=self._plan.cost.epsilon, delta=self._plan.cost.delta)
        uses = [
            self._ask(partial(self._network.compute_party(party).enrol, self._name, self._enrolment(ref, key)))
            for party, key in zip(self._parties, (*self._mask_keys(ref), b""), strict=True)
        ]
        self._record_noise(ref, uses)

    def _enrolment(self, ref: SessionRef, key: bytes) -> Enrolment:
        return Enrolment(ref=ref, owner=self._name, key=key)

    def _record_noise(self, ref: SessionRef, uses: list[NoiseUse | None]) -> None:
        """Remember which noise the session gets: parties that were all restored would use it again."""
        for party, use in zip(self._parties, uses, strict=True):
            if use != uses[0]:
                raise ProtocolError(f"{party} and {self._parties[0]} speak of different noise: see their logs")
            if (use is not None) != (self._plan.noise_mode == "joint"):
                raise ProtocolError(f"{party} has no joint noise, or has some that the task does not ask for")
        if (use := uses[0]) is not None:
            self._ledger.record_noise(ref.session, use.bank, use.start, use.end)

    def _mask_keys(self, ref: SessionRef) -> list[bytes]:
        """Return the keys of all parties but the last, in rank order."""
        return [self._secret.mask_key(ref.session, party) for party in self._parties[:-1]]

    def _session(self, ref: SessionRef) -> Training:
        self._monitor.check(ref)
        if self._training is None:
            raise ProtocolError(f"{self._coordinator} speaks of a session that it has not started")
        return self._training

    def _follow(self, ref: SessionRef, round_index: int, release: Release | None) -> None:
        training = self._session(ref)
        if release is not None and round_index >= training.history.rounds:  # else it is told again
            training.follow(round_index, release)

    def _contribute(self, event: RoundStarted) -> None:
        training = self._session(event.ref)
        if event.round_index != training.history.rounds or training.complete:
            raise ProtocolError(
                f"{self._coordinator} asks for round {event.round_index}, but round {training.history.rounds} of "
                f"{self._plan.rounds} is next"
            )
        if event.round_index < self._secret.answered:
            return  # asked again after a broken connection, or after this process was started again
        first = event.round_index == 0
        contribution = self._first if first else self._contribution(training.state)
        upload = self._share(event.ref, training.history, contribution)
        try:
            self._ask(partial(self._network.compute_party(self._parties[-1]).upload, self._name, upload))
        except LateUpload as error:
            _log.warning("left out of a round", round=event.round_index, problem=str(error))
        else:
            _log.info("uploaded", round=event.round_index)
        # From here on no share for this round leaves this owner, whatever state the parties are in.
        self._secret.note_answered(event.round_index + 1)

    def _contribution(self, state: TrainingState) -> NDArray[np.float64]:
        return self._method.contribution(self._dataset, state, key=self._secret.round_key(state.round_index))

    def _share(self, ref: SessionRef, history: History, contribution: NDArray[np.float64]) -> Upload:
        encoded = self._plan.encoding.encode(contribution)
        nonce = mask_nonce(self._secret.nonce_key, session=ref.session, round_index=history.rounds, encoded=encoded)
        return Upload(
            ref=ref,
            owner=self._name,
            round_index=history.rounds,
            history=history.digest,
            nonce=nonce,
            values=last_share(encoded, self._mask_keys(ref), nonce=nonce),
        )

    def _finish(self, ref: SessionRef) -> TrainedModel:
        training = self._session(ref)
        try:
            self._compare(ref, training)
            self._ledger.record_releases(ref.session, [owner_names(self._task, owners) for owners in training.owners])
            model = training.model()
            model.save(self._model_path)
        except MpcdpError:
            self._leave()
            raise
        self._leave()
        self._secret.destroy()
        _log.info("finished", model=str(self._model_path))
        return model

    def _compare(self, ref: SessionRef, training: Training) -> None:
        """Make sure that what the coordinator told is what every party released."""
        if not training.complete:
            raise ProtocolError(f"{self._coordinator} ends the session before all of its rounds were released")
        for party in self._parties:
            outcome = self._ask(partial(self._network.compute_party(party).outcome, self._name, ref))
            if outcome != training.history.outcome:
                raise ProtocolError(
                    f"{party} released something else than {self._coordinator} told: do not use its model, and ask "
                    "both organisations for their logs"
                )

    def _leave(self) -> None:
        """Tell the coordinator not to wait for this owner; it does so for a while in any case."""
        try:
            self._network.coordinator(self._coordinator).leave(self._name, self._attendance)
        except PeerError as error:
            _log.warning("could not take leave", problem=str(error))


@contextmanager
def _leaving(events: Iterator[SessionEvent]) -> Iterator[Iterator[SessionEvent]]:
    """Leave the attendance at the end, whatever the reason."""
    try:
        yield events
    finally:
        if (close := getattr(events, "close", None)) is not None:
            close()
