"""Following a session: everybody who is told its releases, in order, has the same history and the same model."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import ProtocolError
from mpcdp.learning.method import TrainingState
from mpcdp.learning.model import ModuleSource, PrivacyStatement, TrainedModel
from mpcdp.plan import Plan
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.messages import Outcome, Release, SessionRef

__all__ = ["History", "Training", "owner_names", "record_count"]


def owner_names(task: Task, owners: OwnerSet) -> tuple[str, ...]:
    """Return the names of a set of owners, in the task's order."""
    return tuple(task.owners[position].name for position in owners)


def record_count(task: Task, owners: OwnerSet) -> int:
    """Return N, the number of records of a set of owners together."""
    return sum(task.owners[position].record_count for position in owners)


class History:
    """What a session has released so far, as one running digest.

    h_0 = SHA-256(domain, task, session, plan) and h_(t+1) = SHA-256(h_t, owners_t, release_t). It is made of public
    values alone. Two processes with equal digests have seen the same releases of the same owners in the same order.

    Args:
        ref: the session.
        plan_digest: of the plan, 32 bytes.
        outcome: of an earlier process or of another party, to go on from; from the beginning when absent.
    """

    def __init__(self, ref: SessionRef, plan_digest: bytes, outcome: Outcome | None = None) -> None:
        self._rounds = 0
        self._digest = hashlib.sha256(b"mpcdp/history/1\0" + ref.task_digest + ref.session + plan_digest).digest()
        if outcome is not None:
            self._rounds, self._digest = outcome.rounds, outcome.history

    @property
    def rounds(self) -> int:
        """Number of releases."""
        return self._rounds

    @property
    def digest(self) -> bytes:
        """The running digest, 32 bytes."""
        return self._digest

    @property
    def outcome(self) -> Outcome:
        """Both, to tell others."""
        return Outcome(rounds=self._rounds, history=self._digest)

    def append(self, release: Release) -> None:
        """Take the next release in."""
        bitmap = release.owners.to_bytes()
        following = hashlib.sha256(self._digest + len(bitmap).to_bytes(4, "big") + bitmap)
        following.update(np.ascontiguousarray(release.values, dtype="<i8").data)
        self._digest = following.digest()
        self._rounds += 1


def _module_source(task: Task) -> ModuleSource | None:
    asked = task.model
    if asked.factory is None or asked.loss is None or asked.seed is None:
        return None
    return ModuleSource(factory=asked.factory, loss=asked.loss, seed=asked.seed)


class Training:
    """A session as its owners and its coordinator follow it.

    Args:
        task: what everybody agreed on.
        plan: the task's plan.
        ref: the session.
        source: who tells the releases, for errors.
    """

    def __init__(self, task: Task, plan: Plan, ref: SessionRef, *, source: str) -> None:
        self._task = task
        self._plan = plan
        self._ref = ref
        self._source = source
        self._method = task.method()
        self._state = self._method.initial_state()
        self._history = History(ref, plan.digest)
        self._everybody = OwnerSet.of(range(len(task.owners)))
        self._owners: list[OwnerSet] = []
        self._counted = OwnerSet(), 0

    @property
    def state(self) -> TrainingState:
        """Where the training stands."""
        return self._state

    @property
    def history(self) -> History:
        """What was released so far."""
        return self._history

    @property
    def owners(self) -> tuple[OwnerSet, ...]:
        """The owners of each release so far."""
        return tuple(self._owners)

    @property
    def complete(self) -> bool:
        """Whether all of the plan's rounds were released."""
        return self._history.rounds == self._plan.rounds

    def follow(self, round_index: int, release: Release) -> None:
        """Take the release of the next round in.

        Raises:
            ProtocolError: it is of another round, of another shape, or of owners that the task does not allow.
        """
        if round_index != self._history.rounds or self.complete:
            raise ProtocolError(
                f"{self._source}: a release of round {round_index} does not follow {self._history.rounds} releases "
                f"of {self._plan.rounds}"
            )
        if release.values.shape != (self._plan.dimension,):
            raise ProtocolError(
                f"{self._source}: the release of round {round_index} has {release.values.size} coordinates, not "
                f"{self._plan.dimension}"
            )
        if not release.owners <= self._everybody or not self._enough(release.owners):
            raise ProtocolError(
                f"{self._source}: the release of round {round_index} is of owners that the task does not allow"
            )
        total: NDArray[np.float64] = self._plan.decode(release.values)
        self._state = self._method.next_state(
            self._state,
            total,
            record_count=self._record_count(release.owners),
            noise_deviation=self._plan.noise_deviation,
        )
        self._history.append(release)
        self._owners.append(release.owners)

    def _enough(self, owners: OwnerSet) -> bool:
        return len(owners) >= self._plan.minimum_owners and self._record_count(owners) >= self._plan.minimum_records

    def _record_count(self, owners: OwnerSet) -> int:
        """Count once for owners that stay the same, as they do in most rounds."""
        if self._counted[0] != owners:
            self._counted = owners, record_count(self._task, owners)
        return self._counted[1]

    def model(self) -> TrainedModel:
        """Put the model together with its schema and its privacy statement."""
        task, plan = self._task, self._plan
        return TrainedModel(
            task=task.name,
            task_digest=self._ref.task_digest.hex(),
            session=self._ref.session.hex(),
            kind=task.model.kind,
            record_schema=task.schema_section,
            module=_module_source(task),
            coefficients=tuple(self._state.model.tolist()),
            owners=owner_names(task, self._owners[-1]),
            privacy=PrivacyStatement(
                epsilon=plan.cost.epsilon,
                delta=plan.cost.delta,
                relation=plan.sensitivity.relation.value,
                text=plan.statement(),
            ),
        )
