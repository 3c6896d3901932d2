"""Sessions of real processes on this machine."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from mpcdp.errors import BudgetError, PeerError
from mpcdp.estimators.federation import Federation, NoiseMode
from mpcdp.estimators.inputs import OwnerTable
from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import AFTERMATH_SECONDS, LocalNetwork, ProcessResult, create_network, first_cause
from mpcdp.plan import Plan, make_plan
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.private_files import make_private_folder
from mpcdp.roles.session import limits_of
from mpcdp.task import Task

__all__ = ["LocalFederation"]


class LocalFederation(Federation):
    """Every session is a fresh network of processes on loopback; the owners' states outlive it.

    Args:
        folder: ``owners/NAME`` is an owner's state; a session's own folder is removed at its end.
        parties: compute parties.
        noise: who samples it.
        limit: what an owner's records may pay in total.
    """

    def __init__(self, folder: Path, *, parties: int, noise: NoiseMode, limit: PrivacyBudget | None) -> None:
        super().__init__(limit)
        self.folder = folder
        self.parties = parties
        self.noise = noise

    def __repr__(self) -> str:
        return f"Federation.local(parties={self.parties}, noise={self.noise!r}, folder={str(self.folder)!r})"

    def ledger_files(self) -> Mapping[str, Path]:
        return {path.parent.name: path for path in sorted(self.folder.glob("owners/*/ledger.db"))}

    def train(self, task: Task, content: Mapping[str, Any], tables: Mapping[str, OwnerTable]) -> TrainedModel:
        plan = make_plan(task)
        self.check_ledgers(plan, tables)
        session = self.folder / "sessions" / task.name
        make_private_folder(session)
        try:
            return self._train(session, task, plan, content, tables)
        finally:
            shutil.rmtree(session, ignore_errors=True)  # the owners' rows are in it

    def _train(
        self, session: Path, task: Task, plan: Plan, content: Mapping[str, Any], tables: Mapping[str, OwnerTable]
    ) -> TrainedModel:
        files = {name: session / f"{name}.parquet" for name in tables}
        for name, table in tables.items():
            table.write(files[name], task.schema_)
        (session / "task.toml").write_bytes(tomli_w.dumps(content).encode())
        create_network(
            session / "network",
            session / "task.toml",
            tables=files,
            owner_states={name: self.folder / "owners" / name for name in tables},
            ledger_limit=self.limit,
        )
        longest = limits_of(task, dimension=plan.dimension, rounds=plan.rounds).session_seconds
        with LocalNetwork(session / "network") as network:
            network.start()
            results = network.wait(longest, after_failure=AFTERMATH_SECONDS)
            _check(results)
            return TrainedModel.load(network.state(task.coordinator.name) / "model.json")

    def statement(self) -> str:
        return (
            "All processes of this session ran on one machine: whoever runs it could read every table. The guarantee "
            "is for the owners' records against those who see the model."
        )


def _check(results: tuple[ProcessResult, ...]) -> None:
    """Raise the cause if a process failed.

    Raises:
        BudgetError: an owner's ledger refused.
        PeerError: anything else.
    """
    cause = first_cause(results)
    if cause is not None and (cause.role, cause.exit_code) == ("owner", BudgetError.exit_code):
        raise BudgetError(cause.problem())
    if cause is not None:
        raise PeerError(cause.name, cause.problem())
