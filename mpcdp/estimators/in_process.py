"""Sessions between threads of one process: the product's own roles and messages, without processes or secrecy."""

import logging
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from mpcdp.errors import MpcdpError, PeerUnavailable, SessionAborted
from mpcdp.estimators.federation import Federation
from mpcdp.estimators.inputs import OwnerTable
from mpcdp.learning.model import TrainedModel
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.plan import Plan, make_plan
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.coordinator import Coordinator
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.owner import Owner
from mpcdp.roles.session import limits_of
from mpcdp.task import Task
from mpcdp.transport.channel import Member
from mpcdp.transport.in_process import InProcessNetwork, InProcessWorld

__all__ = ["InProcessFederationUnsafe", "quiet_logs"]


class InProcessFederationUnsafe(Federation):
    """Every session is a handful of threads; unsafe, because one process holds all tables and all shares.

    Args:
        folder: ``owners/NAME`` is an owner's state.
        parties: compute parties.
        limit: what an owner's records may pay in total.
    """

    def __init__(self, folder: Path, *, parties: int, limit: PrivacyBudget | None) -> None:
        super().__init__(limit)
        self.folder = folder
        self.parties = parties
        self.noise = "per-party"
        self.deadline_seconds = 30.0

    def __repr__(self) -> str:
        return f"Federation.in_process(parties={self.parties}, folder={str(self.folder)!r})"

    def ledger_files(self) -> Mapping[str, Path]:
        return {path.parent.name: path for path in sorted(self.folder.glob("owners/*/ledger.db"))}

    def train(self, task: Task, content: Mapping[str, Any], tables: Mapping[str, OwnerTable]) -> TrainedModel:
        quiet_logs()
        plan, world = make_plan(task), InProcessWorld()
        self.check_ledgers(plan, tables)
        members = task.members()
        with TemporaryDirectory(prefix="mpcdp-session-") as folder, ThreadPoolExecutor(len(members)) as pool:
            session = _Session(task, plan, world, tables, Path(folder), self.folder / "owners", self.limit)
            running = [pool.submit(session.run, member) for member in members]
            errors = [error for future in running if (error := future.exception()) is not None]
        if errors:
            # Those who merely heard of a failure are not its cause.
            raise min(errors, key=lambda error: isinstance(error, SessionAborted | PeerUnavailable))
        model = running[0].result()
        if not isinstance(model, TrainedModel):
            raise MpcdpError("the coordinator ended without a model: this is a bug, please report it")
        return model

    def statement(self) -> str:
        return (
            "All processes of this session were threads of one program, which could read every table and every share. "
            "The guarantee is for the owners' records against those who see the model."
        )


class _Session:
    """One session's roles."""

    def __init__(
        self,
        task: Task,
        plan: Plan,
        world: InProcessWorld,
        tables: Mapping[str, OwnerTable],
        folder: Path,
        owners: Path,
        limit: PrivacyBudget | None,
    ) -> None:
        self._task, self._plan, self._world = task, plan, world
        self._tables, self._folder, self._owners, self._limit = tables, folder, owners, limit
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)

    def run(self, member: Member) -> TrainedModel | None:
        """Run a member's role to its end; only the coordinator and the owners have a model then."""
        task, plan, name = self._task, self._plan, member.name
        network = InProcessNetwork(self._world, member, task.members(), self._limits, task_digest=task.digest)
        match member.role:
            case "coordinator":
                return Coordinator(task, plan, network, self._folder / name).run()
            case "owner":
                dataset = self._tables[name].dataset(task.schema_)
                with Ledger(self._owners / name / "ledger.db", limit=self._limit) as ledger:
                    return Owner(name, task, plan, dataset, network, ledger, self._owners / name).run()
            case _:
                with PartyJournal(self._folder / name) as journal:
                    ComputeParty(name, task, plan, network, journal, _plaintext_engine).run()
        return None


@contextmanager
def _plaintext_engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[Backend]:
    yield PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)


def quiet_logs() -> None:
    """Let roles that run in this program print warnings only, on standard error, unless it has set up its own logs."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        )
