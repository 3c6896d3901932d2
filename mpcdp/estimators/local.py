"""Sessions of real processes on this machine."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from mpcdp.errors import BudgetError, PeerError
from mpcdp.estimators.federation import Federation, NoiseMode
from mpcdp.estimators.inputs import OwnerTable
from mpcdp.estimators.own_folder import own_folder, sweep
from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import AFTERMATH_SECONDS, LocalNetwork, ProcessResult, create_network, first_cause
from mpcdp.plan import Plan, make_plan
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.roles.session import limits_of
from mpcdp.task import Task

__all__ = ["LocalFederation"]

_QUOTED_LINES = 5


class LocalFederation(Federation):
    """Every session is a fresh network of processes on loopback; the owners' states outlive it.

    Args:
        folder: ``owners/NAME`` is an owner's state; a session's own folder is removed at its end, or when the next
            federation is made for this folder if the program was killed.
        parties: compute parties.
        noise: who samples it.
        limit: what an owner's records may pay in total.
    """

    def __init__(self, folder: Path, *, parties: int, noise: NoiseMode, limit: PrivacyBudget | None) -> None:
        super().__init__(limit)
        self.folder = folder
        self.parties = parties
        self.noise = noise
        sweep(folder.glob("sessions/*"))

    def __repr__(self) -> str:
        return f"Federation.local(parties={self.parties}, noise={self.noise!r}, folder={str(self.folder)!r})"

    def ledger_files(self) -> Mapping[str, Path]:
        return {path.parent.name: path for path in sorted(self.folder.glob("owners/*/ledger.db"))}

    def train(self, task: Task, content: Mapping[str, Any], tables: Mapping[str, OwnerTable]) -> TrainedModel:
        plan = make_plan(task)
        self.check_ledgers(plan, tables)
        session = self.folder / "sessions" / task.name
        with own_folder(session):  # the owners' rows are in it
            return self._train(session, task, plan, content, tables)

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


def _check(results: Sequence[ProcessResult]) -> None:
    """Raise the cause if a process failed, with what the logs say: they are gone with the session's folder.

    Raises:
        BudgetError: an owner's ledger refused.
        PeerError: anything else.
    """
    cause = first_cause(results)
    if cause is None:
        return
    if (cause.role, cause.exit_code) == ("owner", BudgetError.exit_code):
        raise BudgetError(cause.problem())
    problem = cause.problem().removesuffix(f": see {cause.log}")
    raise PeerError(cause.name, "\n".join([problem, *_last_lines(cause, results)]))


def _last_lines(cause: ProcessResult, results: Sequence[ProcessResult]) -> Iterator[str]:
    """Quote the end of the log of the process that failed, and of those that its error names."""
    problem = cause.problem()
    for result in (cause, *(each for each in results if each is not cause)):
        if result is cause or re.search(rf"(?<![\w.-]){re.escape(result.name)}(?![\w-])", problem):
            yield f"The log of {result.name} ends with:"
            yield from (f"  {line}" for line in result.last_lines(_QUOTED_LINES))
