"""What very many owners cost the last compute party, transport left out: its own code and its journal, in one process.

The party is the product's. Only its callers are not: one thread does what a thread for each call would do, so an upload
does not wait until its round is bound.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, cast

import numpy as np
import structlog

from mpcdp.bench.constant_training import ConstantTask, make_task
from mpcdp.bench.processes import log_as_processes_do
from mpcdp.bench.report import peak_memory_mib
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.plan import make_plan
from mpcdp.roles.journal import Bound, PartyJournal
from mpcdp.roles.party_rounds import PartyRounds
from mpcdp.roles.session import new_session
from mpcdp.secret_sharing.additive import NONCE_BYTES
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import NoisedVector, SharedVector
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import Aggregate, Enrolment, SessionRef, Upload

__all__ = ["PartySimulation", "simulate_party"]

_T = TypeVar("_T")
_PARTIES = ("party-1", "party-2")
_DEADLINE_SECONDS = 3600.0
_BATCH = 1000
_MOST_WRITTEN = 100_000
"""Enrolments that are written to the journal; those of further owners are only put where it would put them."""


@dataclass(frozen=True)
class PartySimulation:
    """What owners cost the last party in one session; times are a processor's, whatever else it does.

    Args:
        owners: number of owners m.
        dimension: number of coordinates d.
        enrolments_written: owners whose enrolment was carried out; that of all is extrapolated from it.
        enrolment_seconds: for all owners: checked and written to the journal.
        upload_seconds: for all owners: checked, and kept until all are there; and afterwards the outcome is asked for.
        sum_seconds: settling the round's owners, adding up, and binding the round in the journal.
        peak_memory_mib: largest size of this process, all uploads kept.
    """

    owners: int
    dimension: int
    enrolments_written: int
    enrolment_seconds: float
    upload_seconds: float
    sum_seconds: float
    peak_memory_mib: float

    @property
    def seconds(self) -> float:
        """All together."""
        return self.enrolment_seconds + self.upload_seconds + self.sum_seconds


class _Party(PartyRounds):
    """A compute party whose uploads wait for nobody: it takes every round for bound, with all owners in it."""

    everybody: OwnerSet

    def prepare(self, ref: SessionRef) -> None:
        """Open a session whose noise is there."""
        self._take(ref)
        self._ready.set_result(None)

    def enrol_unwritten(self, position: int, enrolment: Enrolment) -> None:
        """Do what `enrol` does, without the journal."""
        self._enrolments[position] = enrolment

    def add_up(self, request: Aggregate) -> tuple[RoundAgreement, SharedVector]:
        """Do what a round does before noise is added."""
        agreement = self._collect(request)
        self._journal.sync_enrolments()
        self._check_owner_set(agreement.owners)
        return agreement, self._share_of_sum(agreement)

    def _wait_for(self, answer: "Future[_T]") -> _T:
        return answer.result() if answer.done() else cast(_T, self.everybody)


def simulate_party(*, owners: int, dimension: int) -> PartySimulation:
    """Let the last compute party go through a session of one round with very many owners.

    Args:
        owners: number of owners m.
        dimension: number of coordinates d.

    Raises:
        ValueError: what was added up is not the sum of what was sent.
    """
    with TemporaryDirectory(prefix="mpcdp-bench-") as folder, PartyJournal(Path(folder)) as journal, _no_log():
        names = [f"owner-{number}" for number in range(owners)]
        task = make_task(
            dimension=dimension, rounds=1, owners=names, parties=_PARTIES, noise="per-party", seconds=_DEADLINE_SECONDS
        )
        return _Simulated(task, journal, dimension).run()


class _Simulated:
    """One simulation.

    Args:
        task: of as many owners.
        journal: of the last party.
        dimension: number of coordinates d.
    """

    def __init__(self, task: ConstantTask, journal: PartyJournal, dimension: int) -> None:
        plan = make_plan(task)
        self._names = [owner.name for owner in task.owners]
        self._values = np.arange(dimension, dtype=np.int64)
        self._journal = journal
        self._ref = new_session(task)
        # It calls nobody.
        self._party = _Party(_PARTIES[-1], task, plan, cast(Network, object()), journal)
        self._party.everybody = OwnerSet.of(range(len(self._names)))
        self._party.prepare(self._ref)
        self._history = self._party.outcome("", self._ref).history

    def run(self) -> PartySimulation:
        """Let all owners come, and add up what they send."""
        owners, dimension = len(self._names), len(self._values)
        written = min(owners, _MOST_WRITTEN)
        enrolling = sum(map(self._enrol, self._batches(0, written))) * owners / written
        for position in range(written, owners):
            self._party.enrol_unwritten(position, self._enrolment(position))
        uploading = sum(map(self._upload, self._batches(0, owners)))
        return PartySimulation(
            owners, dimension, written, enrolling, uploading, self._processor_seconds(self._add_up), peak_memory_mib()
        )

    @staticmethod
    def _batches(first: int, end: int) -> Iterator[range]:
        return (range(start, min(start + _BATCH, end)) for start in range(first, end, _BATCH))

    @staticmethod
    def _processor_seconds(work: Callable[[], None]) -> float:
        begin = time.process_time()
        work()
        return time.process_time() - begin

    def _enrolment(self, position: int) -> Enrolment:
        return Enrolment(ref=self._ref, owner=self._names[position], key=b"")

    def _enrol(self, positions: range) -> float:
        # What owners do is not measured.
        enrolments = [self._enrolment(position) for position in positions]

        def enrol() -> None:
            for enrolment in enrolments:
                self._party.enrol(enrolment.owner, enrolment)

        return self._processor_seconds(enrol)

    def _upload(self, positions: range) -> float:
        uploads = [
            Upload(
                ref=self._ref,
                owner=self._names[position],
                round_index=0,
                history=self._history,
                nonce=secrets.token_bytes(NONCE_BYTES),
                values=self._values.copy(),
            )
            for position in positions
        ]

        def upload() -> None:
            for each in uploads:
                self._party.upload(each.owner, each)
                self._party.outcome(each.owner, self._ref)

        return self._processor_seconds(upload)

    def _add_up(self) -> None:
        request = Aggregate(ref=self._ref, round_index=0, owners=self._party.everybody)
        agreement, total = self._party.add_up(request)
        if not np.array_equal(total.values, len(self._names) * self._values):
            raise ValueError("the uploads do not add up to what was sent: this is a bug")
        # Noise is left out: it costs the same for one owner. Nothing here is secret.
        share = NoisedVector(total.values.copy())
        self._journal.bind_round(self._ref, Bound(0, request.owners, agreement.to_bytes(), share))


@contextmanager
def _no_log() -> Iterator[None]:
    """Let the party write its log, but to nowhere."""
    before = structlog.get_config()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        log_as_processes_do(nowhere)
        try:
            yield
        finally:
            structlog.configure(**before)
