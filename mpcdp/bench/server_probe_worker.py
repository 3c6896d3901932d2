"""One process of a probe: ``python -m mpcdp.bench.server_probe_worker FOLDER NAME``."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import cast

import numpy as np

from mpcdp.bench.constant_training import RECORD_COUNT, ConstantTask
from mpcdp.bench.processes import credentials_of, end_with_parent, log_as_processes_do, wait_without_looking
from mpcdp.bench.server_probe import COORDINATOR, OWNERS_HOST, PARTY, ProbeReport, ServerProbe
from mpcdp.errors import MpcdpError, PeerTimeout
from mpcdp.plan import Plan, make_plan
from mpcdp.roles.coordinator_journal import CoordinatorJournal
from mpcdp.roles.owner_desk import OwnerDesk
from mpcdp.roles.process import open_many_files
from mpcdp.roles.session import Deadline, limits_of, new_session
from mpcdp.secret_sharing.additive import NONCE_BYTES
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.channel import ComputePartyService
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.messages import Attendance, Enrolment, Finished, Outcome, Release, SessionRef, Upload
from mpcdp.transport.waiting import wait_with_caller

__all__ = ["main"]

_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 0.1


def main(folder: Path, name: str) -> int:
    """Run one process until all owners have gone.

    Args:
        folder: holds the probe, and a folder of each member's own for its credentials.
        name: the server, or `OWNERS_HOST`.

    Returns:
        The exit code; an error is written to standard error.
    """
    end_with_parent()
    log_as_processes_do(sys.stderr)
    open_many_files()
    try:
        world = _World(folder)
        report = _run_owners(world) if name == OWNERS_HOST else _run_server(world)
        report.save(folder / name / "report.json")
    except MpcdpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


class _World:
    """What both processes start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.probe = ServerProbe.load(folder / "setting.json")
        self.task: ConstantTask = self.probe.task
        self.plan = make_plan(self.task)
        self.members = self.probe.members

    def network(self, name: str) -> GrpcNetwork:
        """Connect a member."""
        return GrpcNetwork(
            me=next(member for member in self.members if member.name == name),
            members=self.members,
            addresses={} if name == self.probe.server else self.probe.addresses,
            tls=credentials_of(self.folder, name),
            limits=limits_of(self.task, dimension=self.plan.dimension, rounds=self.plan.rounds),
            listen=self.probe.addresses.get(name),
            task_digest=self.task.digest,
        )


class _Party:
    """A compute party that does nothing but answer: what it costs is the transport."""

    def __init__(self, owners: int) -> None:
        self._owners = owners
        self._lock = threading.Lock()
        self._uploads = 0
        self._bound: Future[None] = Future()
        self.left = threading.Semaphore(0)

    def enrol(self, caller: str, enrolment: Enrolment) -> None:
        """Take an owner for enrolled."""

    def upload(self, caller: str, upload: Upload) -> None:
        """Wait until all owners have uploaded, as uploads wait for their round."""
        with self._lock:
            self._uploads += 1
            last = self._uploads == self._owners
        if last:
            self._bound.set_result(None)
        wait_with_caller(self._bound, _WAIT_SECONDS)

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        """Tell an owner the end."""
        self.left.release()
        return Outcome(rounds=1, history=bytes(32))


class _Desk(OwnerDesk):
    """The coordinator's part with owners; what it releases, nobody computed."""

    def run(self, ref: SessionRef, journal: CoordinatorJournal, deadline: Deadline) -> bool:
        """Go through a session of one round, and tell whether all owners came and left."""
        everybody = OwnerSet.of(range(len(self._task.owners)))
        self._journal = journal
        journal.open_session(ref)
        if not self._monitor.wait_for(lambda: len(self._attending) == len(everybody), deadline):
            return False
        self._publish(ref)
        with self._monitor.changed:
            self._progress.open_round = 0
        self._publish(ref)
        # Each event by itself, as when parties take their time.
        while any(mailbox._told.open_round < 0 for mailbox in tuple(self._mailboxes.values())):
            if not deadline.remaining():
                return False
            self._monitor.pause(_LOOK_SECONDS)
        with self._monitor.changed:
            self._last = Release(values=np.zeros(self._plan.dimension, dtype=np.int64), owners=everybody)
            self._progress.releases, self._progress.open_round = 1, None
        self._tell_owners(Finished(ref=ref, last=None))
        self._wait_until_served(everybody)
        return len(self._served) == len(everybody)


def _run_server(world: _World) -> ProbeReport:
    owners, seconds = world.probe.owners, world.probe.total_seconds
    party, desk = _Party(owners), _Desk(world.task, world.plan)
    with world.network(world.probe.server) as network, CoordinatorJournal(world.folder / "state") as journal:
        at_desk = world.probe.server == COORDINATOR
        with network.serve(desk if at_desk else cast(ComputePartyService, party)):
            begin = time.process_time()
            deadline = Deadline(seconds)
            if at_desk:
                complete = desk.run(new_session(world.task), journal, deadline)
            else:
                complete = all(party.left.acquire(timeout=deadline.remaining()) for _ in range(owners))
        if not complete:
            raise PeerTimeout(OWNERS_HOST, f"some did not come within {seconds:g} s")
        return ProbeReport(time.process_time() - begin)


def _run_owners(world: _World) -> ProbeReport:
    """Run all owners at once, each on a thread and with a connection of its own."""
    wait_without_looking()
    ref = new_session(world.task)
    names = [owner.name for owner in world.task.owners]
    call: Callable[[GrpcNetwork, str, SessionRef, Task, Plan], None] = (
        _attend if world.probe.server == COORDINATOR else _contribute
    )

    def run(name: str) -> None:
        with world.network(name) as network:
            call(network, name, ref, world.task, world.plan)

    with ThreadPoolExecutor(len(names)) as pool:
        for done in [pool.submit(run, name) for name in names]:
            done.result()
    return ProbeReport()


def _contribute(network: GrpcNetwork, name: str, ref: SessionRef, task: Task, plan: Plan) -> None:
    party = network.compute_party(PARTY)
    party.enrol(name, Enrolment(ref=ref, owner=name, key=b""))
    party.upload(
        name,
        Upload(
            ref=ref,
            owner=name,
            round_index=0,
            history=bytes(32),
            nonce=bytes(NONCE_BYTES),
            values=np.zeros(plan.dimension, dtype=np.int64),
        ),
    )
    party.outcome(name, ref)


def _attend(network: GrpcNetwork, name: str, ref: SessionRef, task: Task, plan: Plan) -> None:
    coordinator = network.coordinator(COORDINATOR)
    attendance = Attendance(ref.task_digest, name, RECORD_COUNT)
    with closing(coordinator.attend(name, attendance)) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Finished):
                break
        coordinator.leave(name, attendance)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), sys.argv[2])
    sys.stderr.flush()
    os._exit(code)  # as `mpcdp.bench.rounds_worker` ends
