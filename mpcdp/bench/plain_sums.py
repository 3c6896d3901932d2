"""The same session without protection: owners send their vectors as they are, one process adds them up, no noise.

For comparison only: these are the roles and the transport of the product with everything left out that protects.
"""

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import PeerTimeout, ProtocolError
from mpcdp.plan import Plan
from mpcdp.roles.owner import Owner
from mpcdp.roles.session import Deadline, SessionMonitor, waiting_seconds
from mpcdp.roles.training import History
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import Aggregate, Enrolment, Outcome, Release, SessionRef, Upload

__all__ = ["PlainAggregatorUnsafe", "PlainOwnerUnsafe"]


class PlainOwnerUnsafe(Owner):
    """An owner that hides nothing from the one process that adds up."""

    def _share(self, ref: SessionRef, history: History, contribution: NDArray[np.float64]) -> Upload:
        return Upload(
            ref=ref,
            owner=self._name,
            round_index=history.rounds,
            history=history.digest,
            nonce=bytes(32),
            values=self._plan.encoding.encode(contribution),
        )


class PlainAggregatorUnsafe:
    """Adds the vectors up (fits `mpcdp.transport.channel.ComputePartyService`).

    Args:
        task: what everybody agreed on.
        plan: the task's plan, of which only the encoding counts.
        network: this process's access to the others.
    """

    def __init__(self, task: Task, plan: Plan, network: Network) -> None:
        self._task = task
        self._plan = plan
        self._network = network
        self._monitor = SessionMonitor(task)
        self._positions = {owner.name: position for position, owner in enumerate(task.owners)}
        self._uploads: dict[int, Upload] = {}
        self._history: History | None = None

    def run(self) -> None:
        """Serve until the coordinator closes the session.

        Raises:
            PeerTimeout: it opened none in time, or did not end it.
        """
        with self._network.serve(self):
            seconds = waiting_seconds(self._task) + self._plan.rounds * self._task.deadlines.round_seconds
            if not self._monitor.wait_for(lambda: self._monitor.closed, Deadline(seconds)):
                raise PeerTimeout(self._task.coordinator.name, "it did not end the session in time: see its log")

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Take note of the session."""
        self._monitor.open(ref)
        with self._monitor.changed:
            self._history = History(ref, self._plan.digest)

    def enrol(self, caller: str, enrolment: Enrolment) -> None:
        """Nothing: there is no key."""
        self._monitor.check(enrolment.ref)

    def upload(self, caller: str, upload: Upload) -> None:
        """Take an owner's vector."""
        self._monitor.check(upload.ref)
        with self._monitor.changed:
            if upload.round_index != self._releases.rounds or upload.values.shape != (self._plan.dimension,):
                raise ProtocolError(f"{caller}: the vector does not fit the round")
            self._uploads[self._positions[caller]] = upload
            self._monitor.changed.notify_all()

    def aggregate(self, caller: str, request: Aggregate) -> Release:
        """Wait for the vectors of all owners and add them up."""
        expected = set(request.owners)
        deadline = Deadline(self._task.deadlines.contribution_seconds)
        if not self._monitor.wait_for(lambda: self._uploads.keys() >= expected, deadline):
            raise PeerTimeout("owners", "some did not upload in time: see their logs")
        with self._monitor.changed:
            uploads, self._uploads = self._uploads, {}
        total = np.zeros(self._plan.dimension, dtype=np.int64)
        for upload in uploads.values():
            total += upload.values
        release = Release(values=total, owners=OwnerSet.of(uploads))
        with self._monitor.changed:
            self._releases.append(release)
        return release

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        """Tell what was added up so far."""
        with self._monitor.changed:
            return self._releases.outcome

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session."""
        self._monitor.end(ref, reason)

    @property
    def _releases(self) -> History:
        if self._history is None:
            raise ProtocolError("no session is open here")
        return self._history
