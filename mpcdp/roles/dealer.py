"""The dealer: hands correlated randomness to the compute parties and never sees a share, a vector or noise."""

from collections.abc import Iterator

import structlog

from mpcdp.errors import PeerTimeout, ProtocolError
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
            plan.noise,
            [party.name for party in task.compute_parties],
            self._monitor,
            seconds=task.deadlines.start_seconds,
        )
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)

    def run(self) -> None:
        """Serve until every party has been dealt everything: the rest of the session needs no dealer.

        Raises:
            PeerTimeout: no session was opened, or it was not used, in time.
            SessionAborted: the coordinator ended the session before.
        """
        with self._network.serve(self):
            _log.info("waiting for a session")
            if not self._monitor.wait_for(lambda: self._monitor.opened, Deadline(waiting_seconds(self._task))):
                raise PeerTimeout(self._task.coordinator.name, "it opened no session in time: see its log")
            self._desk.wait_until_dealt("noise", seconds=self._limits.prepare_seconds)
        _log.info("session finished")

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Bind the dealer to a session."""
        self._monitor.open(ref)
        _log.info("session opened", session=ref.session.hex()[:16])

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Wait for every party's request, then return this party's seed and, for rank 0, the corrections.

        Raises:
            ProtocolError: another session, batch or schedule, more samples than the plan needs, or a second request.
            PeerTimeout: a party did not ask in time.
        """
        self._monitor.check(request.ref)
        if request.batch != "noise":
            raise ProtocolError(f"there is no batch named {request.batch!r} in this task")
        largest = whole_blocks(self._plan.dimension * self._plan.rounds)
        if request.samples > largest:
            raise ProtocolError(f"{caller} asks for {request.samples} samples of noise, the task needs {largest}")
        return self._desk.deal(caller, request)

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session."""
        self._monitor.end(ref, reason)
