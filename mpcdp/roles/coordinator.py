"""The coordinator: times the session and hands the releases on, which everybody turns into the model.

It sees sizes, timing and releases. It can stop a run; it cannot weaken privacy, which owners and parties enforce.
"""

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog

from mpcdp.data.dataset import Dataset
from mpcdp.errors import MpcdpError, PeerError, PeerTimeout, ProtocolError
from mpcdp.learning.model import TrainedModel
from mpcdp.learning.scores import quality, scores
from mpcdp.plan import Plan
from mpcdp.roles.session import Deadline, SessionMonitor, limits_of, new_session
from mpcdp.roles.training import Training
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.channel import ComputePartyService, DealerService, Network
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Attendance,
    Finished,
    Release,
    Released,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
)

__all__ = ["Coordinator"]

_T = TypeVar("_T")
_log = structlog.get_logger("mpcdp.coordinator")


class Coordinator:
    """Run one session of a task (fits `mpcdp.transport.channel.CoordinatorService`).

    Args:
        task: what everybody agreed on.
        plan: the task's plan.
        network: this process's access to the others.
        output: where the released model is written.
        validation: public records on which the model is judged after every round, if there are any.
    """

    def __init__(
        self, task: Task, plan: Plan, network: Network, output: Path, *, validation: Dataset | None = None
    ) -> None:
        self._task = task
        self._plan = plan
        self._network = network
        self._output = output
        self._validation = validation
        self._parties = tuple(party.name for party in task.compute_parties)
        self._monitor = SessionMonitor(task)
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        self._mailboxes: dict[str, _Mailbox] = {}
        self._attending: set[str] = set()
        self._positions = {owner.name: position for position, owner in enumerate(task.owners)}
        self._told: list[SessionEvent] = []
        self._ended = False
        self._dealt = False
        self.seconds: dict[str, float] = {}
        """How long each phase took: joining, preparing, rounds."""

    def run(self) -> TrainedModel:
        """Wait for the owners, run the plan's rounds and release the model.

        Returns:
            The released model, which is also written to ``output``.

        Raises:
            PeerTimeout: too few owners joined, or a process did not answer in time.
            PeerUnavailable: a process is gone.
            ProtocolError: the compute parties' answers contradict each other.
        """
        ref = new_session(self._task)
        training = Training(self._task, self._plan, ref, source=self._task.compute_parties[0].name)
        with self._network.serve(self):
            try:
                with self._timed("joining"):
                    self._wait_for_owners()
                with self._timed("preparing"):
                    self._open_session(ref)
                with self._timed("rounds"):
                    last = self._run_rounds(ref, training)
            except BaseException as error:
                known = isinstance(error, MpcdpError)
                reason = str(error) if known else "internal error at the coordinator: see its log"
                self._tell_owners(Aborted(reason))
                self._close_session(ref, reason, gone=error.peer if isinstance(error, PeerError) else "")
                raise
            self._tell_owners(Finished(ref=ref, last=last))
            self._close_session(ref, None)
        model = training.model()
        model.save(self._output / "model.json")
        _log.info("finished", model=str(self._output / "model.json"))
        return model

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - start

    def _wait_for_owners(self) -> None:
        everybody = {owner.name for owner in self._task.owners}
        _log.info("waiting for owners", expected=len(everybody))
        deadline = Deadline(self._task.deadlines.start_seconds)
        self._monitor.wait_for(lambda: self._attending == everybody, deadline)
        with self._monitor.changed:
            missing = sorted(everybody - self._attending)
        if len(everybody) - len(missing) < self._plan.minimum_owners:
            raise PeerTimeout(
                ", ".join(missing),
                f"did not join within {self._task.deadlines.start_seconds:g} s, and the task needs "
                f"{self._plan.minimum_owners} owners: see the owner's log",
            )

    def _run_rounds(self, ref: SessionRef, training: Training) -> Release:
        self._dealt = True
        self._publish(SessionStarted(ref))
        release: Release | None = None
        for round_index in range(self._plan.rounds):
            begin = time.monotonic()
            release = self._run_round(ref, round_index, previous=release)
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
        if release is None:
            raise ProtocolError("the plan has no rounds")
        return release

    def _judged(self, training: Training) -> dict[str, float]:
        """Return how good the model is by now on the public validation records, to be logged."""
        if self._validation is None:
            return {}
        label = self._task.schema_.label
        module = self._task.module()
        values = scores(training.state.model, self._validation.features, label=label, module=module)
        return {"validation": round(quality(values, self._validation.labels, label=label), 6)}

    def _open_session(self, ref: SessionRef) -> None:
        """Open the session everywhere at once: parties prepare their noise together."""
        if self._task.dealer is not None:
            # The dealer first: it only takes note, and the parties will ask it at once.
            self._network.dealer(self._task.dealer.name).open_session("", ref)
        _together([partial(self._network.compute_party(party).open_session, "", ref) for party in self._parties])
        _log.info("session opened", session=ref.session.hex()[:16])

    def _run_round(self, ref: SessionRef, round_index: int, *, previous: Release | None) -> Release:
        with self._monitor.changed:
            expected = OwnerSet.of(self._positions[owner] for owner in self._attending)
        self._publish(RoundStarted(ref=ref, round_index=round_index, previous=previous))
        request = Aggregate(ref=ref, round_index=round_index, owners=expected)
        releases = _together(
            [partial(self._network.compute_party(party).aggregate, "", request) for party in self._parties]
        )
        for party, release in zip(self._parties, releases, strict=True):
            if release.owners != releases[0].owners or not np.array_equal(release.values, releases[0].values):
                raise ProtocolError(f"{party} and {self._parties[0]} released different sums in round {round_index}")
        return releases[0]

    def _close_session(self, ref: SessionRef, reason: str | None, *, gone: str = "") -> None:
        """Tell the parties that it is over, and the dealer if it may still be waiting; who is gone does not matter."""
        processes: dict[str, DealerService | ComputePartyService] = {
            name: self._network.compute_party(name) for name in self._parties
        }
        if self._task.dealer is not None and not self._dealt:
            processes[self._task.dealer.name] = self._network.dealer(self._task.dealer.name)

        def close(name: str) -> None:
            try:
                processes[name].close_session("", ref, reason)
            except MpcdpError as error:
                _log.warning("could not close the session", at=name, problem=str(error))

        _together([partial(close, name) for name in processes if name != gone])

    # -- owners ----------------------------------------------------------------------------------------------------

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        """Register an owner and yield the session's events until its end.

        An owner may come back, or come late: it is first told everything that was released before.
        """
        self._monitor.check_task(attendance.task_digest)
        declared = self._task.owner(caller).record_count
        if attendance.record_count != declared:
            raise ProtocolError(f"{caller} joins with {attendance.record_count} records, the task declares {declared}")
        mailbox = _Mailbox(
            partial(self._leave, caller),
            event_seconds=self._limits.session_seconds,
            leaving_seconds=self._limits.call_seconds,
        )
        with self._monitor.changed:
            if self._monitor.closed or self._ended:
                raise ProtocolError("the session is over")
            if (earlier := self._mailboxes.get(caller)) is not None:
                if not self._told:
                    raise ProtocolError(f"{caller} is already attending: stop the other process of this owner")
                earlier.close()  # its connection broke, and this side has not noticed yet
            for event in self._told:
                mailbox.put(event)
            self._mailboxes[caller] = mailbox
            self._attending.add(caller)
            self._monitor.changed.notify_all()
        _log.info("owner joined", owner=caller)
        return mailbox

    def _leave(self, owner: str, mailbox: "_Mailbox") -> None:
        with self._monitor.changed:
            if self._mailboxes.get(owner) is not mailbox:
                return  # it left before and has come back since
            del self._mailboxes[owner]
            self._attending.discard(owner)
            self._monitor.changed.notify_all()
        _log.info("owner left", owner=owner)

    def _publish(self, event: SessionEvent) -> None:
        with self._monitor.changed:
            self._remember(event)
            for mailbox in self._mailboxes.values():
                mailbox.put(event)

    def _remember(self, event: SessionEvent) -> None:
        """Keep what an owner has to be told that comes later: every release, and the last call for contributions."""
        if self._told and isinstance(self._told[-1], RoundStarted):
            self._told.pop()
        if isinstance(event, RoundStarted) and event.previous is not None:
            self._told.append(Released(event.ref, event.round_index - 1, event.previous))
            event = replace(event, previous=None)
        self._told.append(event)

    def _tell_owners(self, event: SessionEvent) -> None:
        """Publish the last event and wait until every owner that is still there has left."""
        with self._monitor.changed:
            self._ended = True
        self._publish(event)
        self._monitor.wait_for(lambda: not self._attending, Deadline(self._limits.call_seconds))
        self._monitor.close(None)


class _Mailbox(Iterator[SessionEvent]):
    """The events of one owner's attendance, until the owner leaves.

    Args:
        leave: called with this mailbox when the attendance is over, perhaps more than once, on any thread.
        event_seconds: how long to wait for an event.
        leaving_seconds: how long the owner may stay after the last one, to compare it with the compute parties.
    """

    def __init__(self, leave: Callable[["_Mailbox"], None], *, event_seconds: float, leaving_seconds: float) -> None:
        self._events: queue.SimpleQueue[SessionEvent | None] = queue.SimpleQueue()
        self._leave = leave
        self._event_seconds = event_seconds
        self._leaving_seconds = leaving_seconds
        self._over = False

    def put(self, event: SessionEvent) -> None:
        """Append an event."""
        self._events.put(event)

    def close(self) -> None:
        """End the attendance: the owner is gone."""
        self._leave(self)
        self._events.put(None)

    def __next__(self) -> SessionEvent:
        if self._over:
            with suppress(queue.Empty):
                while self._events.get(timeout=self._leaving_seconds) is not None:
                    pass
            self._leave(self)
            raise StopIteration
        try:
            event = self._events.get(timeout=self._event_seconds)
        except queue.Empty:
            event = Aborted("the session took longer than the task allows: raise its deadlines")
        if event is None:
            raise StopIteration
        self._over = isinstance(event, Finished | Aborted)
        return event


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
