"""The coordinator: times the session and hands the releases on, which everybody turns into the model.

It sees sizes, timing and releases. It can stop a run; it cannot weaken privacy, which owners and parties enforce.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog

from mpcdp.data.dataset import Dataset
from mpcdp.errors import (
    MpcdpError,
    PeerError,
    PeerTimeout,
    ProcessStopped,
    ProtocolError,
    RefusedError,
    SessionAborted,
)
from mpcdp.learning.model import TrainedModel
from mpcdp.learning.scores import quality, scores
from mpcdp.plan import Plan
from mpcdp.roles.coordinator_journal import CoordinatorJournal, CoordinatorRecord
from mpcdp.roles.owner_desk import OwnerDesk
from mpcdp.roles.session import (
    Deadline,
    Patience,
    new_session,
    persistently,
    waiting_seconds,
)
from mpcdp.roles.training import Training, owner_names
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.task.methods import linear_model_of
from mpcdp.transport.channel import ComputePartyService, DealerService, Network
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Finished,
    Release,
    SessionRef,
)

__all__ = ["Coordinator"]

_T = TypeVar("_T")
_log = structlog.get_logger("mpcdp.coordinator")


class Coordinator(OwnerDesk):
    """Run the session of a task, from its beginning or from where an earlier process was.

    Fits `mpcdp.transport.channel.CoordinatorService`.

    Args:
        task: what everybody agreed on.
        plan: the task's plan.
        network: this process's access to the others.
        output: the coordinator's state folder, where the released model is written too.
        validation: public records on which the model is judged after every round, if there are any.
    """

    def __init__(
        self, task: Task, plan: Plan, network: Network, output: Path, *, validation: Dataset | None = None
    ) -> None:
        super().__init__(task, plan)
        self._network = network
        self._output = output
        self._validation = validation
        self._parties = tuple(party.name for party in task.compute_parties)
        self._dealer_waits = False
        self.seconds: dict[str, float] = {}
        """How long each phase took: joining, preparing, rounds."""

    def run(self) -> TrainedModel:
        """Wait for the owners, run the plan's rounds and release the model.

        Returns:
            The released model, which is also written to ``output``.

        Raises:
            PeerTimeout: too few owners joined, or a process did not answer in time.
            PeerUnavailable: a process is gone, and did not come back in time.
            ProtocolError: the compute parties' answers contradict each other.
            SessionAborted: the task's session failed before this process was started.
            ProcessStopped: this process was asked to end; it goes on when it is started again.
        """
        with CoordinatorJournal(self._output) as journal:
            self._journal = journal
            record = journal.stored(self._task.digest)
            if record is not None and record.over:
                return self._finished_before(record)
            if record is None:
                record = CoordinatorRecord(new_session(self._task), False, False, None, 0, None, frozenset())
                journal.open_session(record.ref)
            with self._network.serve(self):
                return self._run_session(journal, record)

    def _finished_before(self, record: CoordinatorRecord) -> TrainedModel:
        if record.reason is not None:
            raise SessionAborted(f"the session of this task is over, it failed: {record.reason}")
        _log.info("the session of this task is over", model=str(self._model_path))
        return TrainedModel.load(self._model_path)

    @property
    def _model_path(self) -> Path:
        return self._output / "model.json"

    def _run_session(self, journal: CoordinatorJournal, record: CoordinatorRecord) -> TrainedModel:
        ref = record.ref
        self._dealer_waits = not record.started or self._plan.contribution_check is not None
        try:
            training = self._go_on(journal, record)
            if not record.started:
                with self._timed("joining"):
                    self._wait_for_owners()
            if not training.complete:
                with self._timed("preparing"):
                    self._open_session(ref)
                with self._timed("rounds"):
                    self._run_rounds(journal, record, training)
            model = training.model()
            model.save(self._model_path)
            self._tell_owners(Finished(ref=ref, last=None))
            self._wait_until_served(training.owners[-1])
            self._close_session(ref, None)
            journal.end(ref, None)
            self._monitor.close(None)
        except BaseException as error:
            self._leave_session(journal, ref, error)
            raise
        _log.info("finished", model=str(self._model_path))
        return model

    def _leave_session(self, journal: CoordinatorJournal, ref: SessionRef, error: BaseException) -> None:
        """End the session for everybody, unless this process can go on with it when it is started again."""
        if not isinstance(error, RefusedError | PeerError | SessionAborted):
            known = error if isinstance(error, ProcessStopped) else ProcessStopped("it failed: see its log")
            self._monitor.stop(known)
            self._tell_owners(known)
            self._network.give_up(known)
            return
        reason = str(error)
        self._tell_owners(Aborted(reason))
        # First the parties: owners may be waiting there for an answer.
        self._close_session(ref, reason, gone=error.peer if isinstance(error, PeerError) else "")
        self._network.give_up(error)
        self._monitor.wait_for(lambda: not self._attending, Deadline(self._limits.call_seconds))
        journal.end(ref, reason)
        self._monitor.close(None)

    def _go_on(self, journal: CoordinatorJournal, record: CoordinatorRecord) -> Training:
        """Follow the releases that an earlier process has stored, and let owners hear of them."""
        training = Training(self._task, self._plan, record.ref, source=self._task.compute_parties[0].name)
        for round_index in range(record.releases):
            self._last = journal.release(record.ref, round_index)
            training.follow(round_index, self._last)
        if record.started:
            _log.info("going on", session=record.ref.session.hex()[:16], rounds=record.releases)
            with self._monitor.changed:
                self._served |= record.served
                self._progress.releases = record.releases
            self._publish(record.ref)
        return training

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - start

    # -- the session -----------------------------------------------------------------------------------------------

    def _wait_for_owners(self) -> None:
        """Wait for all owners; when rounds were released, for those of the last one: they may be on their way back."""
        everybody = {owner.name for owner in self._task.owners}
        if self._last is not None:
            everybody = {owner for owner in everybody if self._positions[owner] in self._last.owners}
        _log.info("waiting for owners", expected=len(everybody))
        deadline = Deadline(self._task.deadlines.start_seconds)
        self._monitor.wait_for(lambda: self._attending >= everybody, deadline)
        with self._monitor.changed:
            missing = sorted(everybody - self._attending)
        if len(everybody) - len(missing) < self._plan.minimum_owners:
            raise PeerTimeout(
                ", ".join(missing),
                f"did not join within {self._task.deadlines.start_seconds:g} s, and the task needs "
                f"{self._plan.minimum_owners} owners: see the owner's log",
            )

    def _patience(self) -> Patience:
        """How long a process may be away; each waits for it, so that what it says about others comes first."""
        return Patience(waiting_seconds(self._task) + 2 * self._limits.message_seconds)

    def _open_session(self, ref: SessionRef) -> None:
        """Open the session everywhere at once: parties prepare their noise together, if that is not done."""
        dealer = self._network.dealer(self._task.dealer.name) if self._task.dealer is not None else None
        if dealer is not None and self._dealer_waits:
            # The dealer first: it only takes note, and the parties will ask it at once.
            persistently(partial(dealer.open_session, "", ref), self._patience())
        parties = [self._network.compute_party(party) for party in self._parties]
        _together([partial(persistently, partial(party.open_session, "", ref), self._patience()) for party in parties])
        _log.info("session opened", session=ref.session.hex()[:16])

    def _let_dealer_go(self, ref: SessionRef) -> None:
        """Tell the dealer that it is not needed any more; it may be away, and the session does not wait for it.

        Not before the session's start is written down: until then a coordinator that dies opens it at the dealer again.
        Always after that: one that died may have written it down and told the dealer nothing.
        """
        if self._task.dealer is None or self._plan.contribution_check is not None:
            return
        dealer = self._network.dealer(self._task.dealer.name)

        def tell() -> None:
            try:
                persistently(partial(dealer.close_session, "", ref, None), self._patience())
                self._dealer_waits = False
            except MpcdpError as error:
                _log.warning("could not tell the dealer that it is not needed any more", problem=str(error))

        threading.Thread(target=tell, name="let-dealer-go", daemon=True).start()

    def _run_rounds(self, journal: CoordinatorJournal, record: CoordinatorRecord, training: Training) -> None:
        ref, asked = record.ref, record.asked
        if not record.started:
            journal.start(ref)
        self._let_dealer_go(ref)
        self._publish(ref)
        alone = record.started  # a process that was started again has no owners yet
        for round_index in range(record.releases, self._plan.rounds):
            if asked is None and (alone or len(self._attending) < self._plan.minimum_owners):
                self._wait_for_owners()
                alone = False
            begin = time.monotonic()
            release = self._run_round(ref, round_index, asked)
            asked = None
            journal.record_release(ref, round_index, release)
            with self._monitor.changed:
                self._last = release
                self._progress.releases, self._progress.open_round = round_index + 1, None
            training.follow(round_index, release)
            _log.info(
                "round released",
                round=round_index,
                rounds=self._plan.rounds,
                owners=len(release.owners),
                epsilon=self._plan.spent(round_index + 1),
                **self._judged(training),
                seconds=round(time.monotonic() - begin, 4),
            )

    def _run_round(self, ref: SessionRef, round_index: int, asked: OwnerSet | None) -> Release:
        """Ask for a round, as often as it takes, always for the same owners."""
        with self._monitor.changed:
            expected = OwnerSet.of(self._positions[owner] for owner in self._attending) if asked is None else asked
        if asked is None:
            # Before owners hear of the round: from then on they wait for it, and attend again only afterwards.
            self._open_journal().ask(ref, round_index, expected)
        with self._monitor.changed:
            self._progress.open_round = round_index
        self._publish(ref)
        request = Aggregate(ref=ref, round_index=round_index, owners=expected)
        parties = [self._network.compute_party(party) for party in self._parties]
        releases = _together(
            [partial(persistently, partial(party.aggregate, "", request), self._patience()) for party in parties]
        )
        for party, release in zip(self._parties, releases, strict=True):
            if release.owners != releases[0].owners or not np.array_equal(release.values, releases[0].values):
                raise ProtocolError(f"{party} and {self._parties[0]} released different sums in round {round_index}")
        if left_out := expected - releases[0].owners:
            _log.warning("owners left out", round=round_index, owners=", ".join(owner_names(self._task, left_out)))
        return releases[0]

    def _judged(self, training: Training) -> dict[str, float | None]:
        """Return how good the model is by now on the public validation records, to be logged.

        Their quality, and their mean loss as it is trained with, without the regulariser; None where that is no finite
        number, which JSON does not have.
        """
        if self._validation is None:
            return {}
        label, labels = self._task.schema_.label, self._validation.labels
        module = self._task.module()
        values = scores(training.state.model, self._validation.features, label=label, module=module)
        trained = module or linear_model_of(self._task)
        loss = float(np.mean(trained.losses(values.reshape(len(labels), -1), labels)))
        return {
            "validation": round(quality(values, labels, label=label), 6),
            "validation_loss": round(loss, 6) if math.isfinite(loss) else None,
        }

    def _close_session(self, ref: SessionRef, reason: str | None, *, gone: str = "") -> None:
        """Tell the parties and the dealer that it is over; who is gone does not matter."""
        processes: dict[str, DealerService | ComputePartyService] = {
            name: self._network.compute_party(name) for name in self._parties
        }
        if self._task.dealer is not None and self._dealer_waits:
            processes[self._task.dealer.name] = self._network.dealer(self._task.dealer.name)

        def close(name: str) -> None:
            call = partial(processes[name].close_session, "", ref, reason)
            try:
                # A party that must not take the session for a failed one is worth waiting for.
                call() if reason is not None else persistently(call, Patience(self._limits.call_seconds))
            except MpcdpError as error:
                _log.warning("could not close the session", at=name, problem=str(error))

        _together([partial(close, name) for name in processes if name != gone])


def _together(calls: "list[Callable[[], _T]]") -> "list[_T]":
    """Run calls at the same time; when one fails, raise its error without waiting for the others to time out."""
    pool = ThreadPoolExecutor(len(calls))
    try:
        futures = [pool.submit(call) for call in calls]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [future for future in futures if future in done and future.exception() is not None]
        for future in failed:
            future.result()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
