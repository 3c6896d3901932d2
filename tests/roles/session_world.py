"""A whole session between threads of one process: the real roles, an in-process network, noise without a dealer.

Every message is recorded, and a test may tamper with each.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.errors import MpcdpError
from mpcdp.learning.model import TrainedModel
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.coordinator import Coordinator
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.owner import Owner
from mpcdp.roles.session import limits_of
from mpcdp.task import Task
from mpcdp.transport.channel import Member
from mpcdp.transport.in_process import InProcessNetwork, InProcessWorld, Parcel

__all__ = ["SessionWorld", "make_dataset", "make_task"]

JOIN_SECONDS = 60.0


def make_task(
    records: Mapping[str, int],
    *,
    parties: int = 3,
    features: int = 63,
    minimum: int | None = None,
    seconds: float = 20.0,
) -> Task:
    """Return a task with per-party noise, which needs no dealer."""
    return Task.model_validate(
        {
            "task": {"version": 1, "name": "threads"},
            "model": {"kind": "logistic-regression", "regularization": 0.1, "certificate": 1e-7},
            "method": {"kind": "output-perturbation"},
            "privacy": {"epsilon": 1.0, "delta": 1e-6, "mechanism": "gaussian", "noise": "per-party"},
            "schema": {
                "label": {"column": "label", "classes": ["no", "yes"]},
                "features": [{"name": f"x{i}", "lower": -1.0, "upper": 1.0} for i in range(features)],
            },
            "session": {} if minimum is None else {"minimum_owners": minimum},
            "deadlines": {"start_seconds": seconds, "contribution_seconds": seconds, "round_seconds": seconds},
            "coordinator": {"name": "coordinator"},
            "compute_parties": [{"name": f"party-{i + 1}"} for i in range(parties)],
            "owners": [{"name": name, "record_count": count} for name, count in records.items()],
        }
    )


def make_dataset(task: Task, owner: str, *, seed: int) -> Dataset:
    """Return random records of an owner's declared number."""
    generator = np.random.default_rng(seed)
    count = task.owner(owner).record_count
    rows = clip_rows(generator.normal(size=(count, task.schema_.dimension)))
    return Dataset(rows, np.where(generator.random(count) < 0.5, -1.0, 1.0))


@contextmanager
def _plaintext_engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[Backend]:
    yield PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)


@dataclass
class SessionWorld:
    """Runs the roles of a task, each on a thread of its own.

    Args:
        folder: state of all processes.
        task: what they agreed on.
        datasets: the owners' records.
        fault: what happens to every message before it is recorded; see `Parcel`.
    """

    folder: Path
    task: Task
    datasets: Mapping[str, Dataset]
    fault: Callable[[Parcel], bytes | None] = lambda parcel: parcel.message
    parcels: list[Parcel] = field(default_factory=list)
    models: dict[str, TrainedModel] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = make_plan(self.task)
        self.world = InProcessWorld(self._deliver)

    def _deliver(self, parcel: Parcel) -> bytes | None:
        self.parcels.append(parcel)
        return self.fault(parcel)

    def network(self, name: str, *, task: Task | None = None) -> InProcessNetwork:
        """Return a process's access to the others."""
        me = next(member for member in self.task.members() if member.name == name)
        limits = limits_of(self.task, dimension=self.plan.dimension, rounds=self.plan.rounds)
        return InProcessNetwork(self.world, me, (task or self.task).members(), limits, task_digest=self.task.digest)

    def run(self, *, without: tuple[str, ...] = ()) -> None:
        """Run the session to its end; models and errors are kept by process."""
        threads = [
            Thread(target=self._guard, args=(member,), name=member.name, daemon=True)
            for member in self.task.members()
            if member.name not in without
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _guard(self, member: Member) -> None:
        try:
            result = self._run_role(member)
        except MpcdpError as error:
            self.errors[member.name] = error
        except BaseException as error:
            self.errors[member.name] = error
            raise
        else:
            if isinstance(result, TrainedModel):
                self.models[member.name] = result

    def _run_role(self, member: Member) -> Any:
        name, state = member.name, self.folder / member.name
        network = self.network(name)
        match member.role:
            case "coordinator":
                return Coordinator(self.task, self.plan, network, state).run()
            case "compute":
                with PartyJournal(state) as journal:
                    return ComputeParty(name, self.task, self.plan, network, journal, _plaintext_engine).run()
            case _:
                with Ledger(state / "ledger.db") as ledger:
                    return Owner(name, self.task, self.plan, self.datasets[name], network, ledger, state).run()
