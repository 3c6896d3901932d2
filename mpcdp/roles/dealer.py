"""The dealer: hands correlated randomness to the compute parties and never sees a share, a vector or noise."""

from collections.abc import Callable, Iterator, Sequence

import structlog

from mpcdp.errors import PeerTimeout, ProcessStopped, ProtocolError
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.contribution_check import check_schedule
from mpcdp.mpc.noise_bank import whole_blocks
from mpcdp.plan import Plan
from mpcdp.roles.dealing_desk import DealingDesk
from mpcdp.roles.session import Deadline, SessionMonitor, limits_of, waiting_seconds
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import DealRequest, SessionRef

__all__ = ["Dealer"]

_log = structlog.get_logger("mpcdp.dealer")


class Dealer:
    """Serve one session as its dealer (fits `mpcdp.transport.channel.DealerService`).

    The compute parties ask for a batch whenever they begin to prepare their noise, and, in a task with a contribution
    check, in every round, under a name that they have just drawn: a batch that was interrupted is never continued. So
    there is nothing to remember, and a dealer that is started again goes on with whatever it is asked.

    Args:
        task: what everybody agreed on.
        plan: the task's plan, which fixes how much randomness is dealt.
        network: this process's access to the others.

    Guarantees:
        Every batch is dealt once, from a secret drawn for it alone and from all parties' nonces; nothing is stored.
    """

    def __init__(self, task: Task, plan: Plan, network: Network) -> None:
        self._task = task
        self._plan = plan
        self._network = network
        self._monitor = SessionMonitor(task)
        self._desk = DealingDesk(
            [party.name for party in task.compute_parties],
            self._monitor,
            seconds=task.deadlines.start_seconds,
        )
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        self._asked = 0

    def run(self) -> None:
        """Serve until the coordinator says that the rest of the session needs no dealer.

        That is when every party has its noise; with a contribution check, it is the session's end.

        Raises:
            PeerTimeout: no session needed a dealer, or it did not get on, in time.
            SessionAborted: the coordinator ended the session before.
        """
        coordinator = self._task.coordinator.name
        with self._network.serve(self):
            try:
                _log.info("waiting for a session")
                if not self._wait_for_change(lambda: self._monitor.opened, waiting_seconds(self._task)):
                    raise PeerTimeout(
                        coordinator,
                        "it opened no session in time: see its log; a session whose noise is prepared needs no dealer, "
                        "and then all is well",
                    )
                while not self._monitor.closed:
                    longest = max(self._limits.prepare_seconds, self._limits.message_seconds)
                    seconds = waiting_seconds(self._task) + longest
                    if not self._wait_for_change(lambda: self._monitor.closed, seconds):
                        raise PeerTimeout(coordinator, "it did not say that the compute parties are ready: see its log")
            except ProcessStopped as error:
                self._monitor.stop(error)
                raise
        _log.info("session finished")

    def _wait_for_change(self, happened: Callable[[], bool], seconds: float) -> bool:
        """Wait for something, or for a party to ask for a batch."""
        with self._monitor.changed:
            asked = self._asked
        return self._monitor.wait_for(lambda: happened() or self._asked != asked, Deadline(seconds))

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Bind the dealer to a session; again, it changes nothing."""
        self._monitor.open(ref)
        _log.info("session opened", session=ref.session.hex()[:16])

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Wait for every party's request, then return this party's seed and, for rank 0, the corrections.

        A dealer that was started again is bound to the session by the first request.

        Raises:
            ProtocolError: another session, batch or schedule, more samples than the plan needs, or a second request.
            PeerTimeout: a party did not ask in time.
            BegunAnew: a party asks for another batch.
        """
        self._monitor.open(request.ref)
        schedule = self._schedule(caller, request)
        with self._monitor.changed:
            self._asked += 1
        self._desk.forget_taken(but=request.batch)
        return self._desk.deal(caller, request, schedule)

    def _schedule(self, caller: str, request: DealRequest) -> Sequence[CorrelationRequest]:
        """Return what is dealt for a request, if the task has a use for it."""
        purpose, _, name = request.batch.partition("-")
        check, samples = self._plan.contribution_check, request.samples
        if purpose == "noise" and name:
            largest = whole_blocks(self._plan.dimension * self._plan.rounds)
            if samples > largest:
                raise ProtocolError(f"{caller} asks for {samples} samples of noise, the task needs {largest}")
            return self._plan.noise.schedule(samples) if samples else ()
        if purpose == "check" and name and check is not None:
            if not 1 <= samples <= len(self._task.owners):
                raise ProtocolError(f"{caller} wants to check {samples} owners, of {len(self._task.owners)}")
            return check_schedule(check, samples)
        raise ProtocolError(f"there is no batch named {request.batch!r} in this task")

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session: it failed, or it needs no dealer any more."""
        self._monitor.end(ref, reason)
