"""Where an estimator's sessions run, and what they cost: a federation of owners with a ledger each."""

import shutil
import tempfile
from abc import ABC, abstractmethod
from atexit import register
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from mpcdp.errors import BudgetError, ConfigError
from mpcdp.estimators.inputs import OwnerTable
from mpcdp.learning.model import TrainedModel
from mpcdp.plan import Plan
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.ledger import Charge, Ledger
from mpcdp.task import Task

__all__ = ["Federation", "FederationLedger"]

NoiseMode = Literal["joint", "per-party"]


class FederationLedger:
    """What the sessions of a federation have cost, owner by owner; read from the owners' own ledgers.

    Args:
        ledgers: each owner's ledger file by name, found anew at every question.
        limit: what each owner's records may pay in total; enforced by the owners, not here.
    """

    def __init__(self, ledgers: "Federation", limit: PrivacyBudget | None) -> None:
        self._federation = ledgers
        self.limit = limit

    @property
    def charges(self) -> dict[str, tuple[Charge, ...]]:
        """Every owner's charges, oldest first."""
        found = {}
        for name, path in self._federation.ledger_files().items():
            with Ledger(path) as ledger:
                found[name] = tuple(entry for entry in ledger.entries() if isinstance(entry, Charge))
        return found

    @property
    def by_owner(self) -> dict[str, PrivacyBudget]:
        """What every owner's records have paid so far."""
        return {name: PrivacyBudget.sum(charge.cost for charge in paid) for name, paid in self.charges.items()}

    @property
    def total(self) -> PrivacyBudget:
        """The most that any record has paid: records are in one owner's table, so owners do not add up."""
        paid = list(self.by_owner.values())
        return PrivacyBudget(
            epsilon=max((cost.epsilon for cost in paid), default=0.0),
            delta=max((cost.delta for cost in paid), default=0.0),
        )

    @property
    def sessions(self) -> int:
        """Number of sessions that were charged to any owner."""
        return len({charge.session for paid in self.charges.values() for charge in paid})

    def __repr__(self) -> str:
        limit = "no limit" if self.limit is None else f"limit {self.limit}"
        return f"FederationLedger({self.sessions} sessions, {self.total} paid by the owner who paid most, {limit})"


class Federation(ABC):
    """Where sessions run; made by `Federation.local`, `Federation.in_process` or `Federation.connect`.

    Copies of an estimator share their federation, so that a grid search is charged to one set of ledgers.
    """

    noise: NoiseMode = "joint"
    parties: int = 3
    task: Task | None = None
    """What was agreed, if this federation serves one task only."""
    deadline_seconds: float = 300.0
    """How long processes wait for each other; one machine runs all of them, and may be busy."""

    def __init__(self, limit: PrivacyBudget | None) -> None:
        self.limit = limit

    @staticmethod
    def local(
        *,
        parties: int = 3,
        noise: NoiseMode = "joint",
        folder: str | Path | None = None,
        epsilon_limit: float | None = None,
        delta_limit: float | None = None,
    ) -> "Federation":
        """Run every session as real processes on this machine, mutual TLS between them.

        Args:
            parties: compute parties, 2 to 5.
            noise: ``"joint"`` (one copy that nobody knows, with a dealer) or ``"per-party"``.
            folder: where the owners keep their ledgers; give one to be charged across restarts of this program. A
                temporary folder, removed when the program ends, when left out.
            epsilon_limit: what an owner's records may pay in total; no limit when left out.
            delta_limit: likewise; given together with ``epsilon_limit``.

        Reveals:
            All tables to whoever runs this machine; to whoever sees the model only, what the guarantee allows.
        """
        from mpcdp.estimators.local import LocalFederation

        return LocalFederation(_folder(folder), parties=parties, noise=noise, limit=_limit(epsilon_limit, delta_limit))

    @staticmethod
    def in_process(
        *,
        parties: int = 2,
        folder: str | Path | None = None,
        epsilon_limit: float | None = None,
        delta_limit: float | None = None,
    ) -> "Federation":
        """Run every session's real roles in threads of this process, for tests: fast, and no secrecy inside.

        Args: as `Federation.local`; the noise is per-party, which needs no dealer.

        Reveals:
            Everything to this process. The model's noise is real, and ledgers are charged.
        """
        from mpcdp.estimators.in_process import InProcessFederationUnsafe

        return InProcessFederationUnsafe(_folder(folder), parties=parties, limit=_limit(epsilon_limit, delta_limit))

    @staticmethod
    def connect(config: str | Path) -> "Federation":
        """Take an owner's place in a network: `fit` joins its session with this owner's rows, and runs once.

        The other processes run elsewhere (``mpcdp run --config``). What was agreed comes from the config's task, and an
        estimator whose parameters contradict it is refused. An owner's place is the one that has rows to fit on; a
        coordinator has none, and runs by itself.

        Args:
            config: the owner's own config file (TOML).

        Raises:
            ConfigError: the file is not an owner's config, or the task is malformed.
        """
        from mpcdp.estimators.connected import ConnectedFederation

        return ConnectedFederation(Path(config))

    @property
    def ledger(self) -> FederationLedger:
        """What all sessions so far have cost."""
        return FederationLedger(self, self.limit)

    @abstractmethod
    def ledger_files(self) -> Mapping[str, Path]:
        """Return the ledger of every owner that has one by now."""

    @abstractmethod
    def train(self, task: Task, content: Mapping[str, Any], tables: Mapping[str, OwnerTable]) -> TrainedModel:
        """Run one session.

        Args:
            task: what the estimator asks for.
            content: the same as tables of a TOML file.
            tables: every owner's rows.

        Raises:
            BudgetError: an owner's ledger refuses it; nothing was released.
            MpcdpError: a process failed.
        """

    def check_ledgers(self, plan: Plan, owners: Iterable[str]) -> None:
        """Refuse a session that an owner's ledger would refuse, before anything is started for it.

        The owners' own processes check and charge again: this only spares the others a wait.

        Raises:
            BudgetError: an owner's ledger refuses it.
        """
        files = self.ledger_files()
        for name in owners:
            if name in files:
                with Ledger(files[name], limit=self.limit) as ledger:
                    ledger.check(plan.task_digest, plan.task_name, plan.cost, gaussian=plan.gaussian_cost)
            elif self.limit is not None and not plan.cost.fits(self.limit):
                raise BudgetError(
                    f"{name}: {plan.cost} would exceed the limit {self.limit}: ask for less, or raise epsilon_limit "
                    "and delta_limit of the federation"
                )

    @abstractmethod
    def statement(self) -> str:
        """Say who could see what while the session ran, to accompany a model."""

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __copy__(self) -> Self:
        return self


def _folder(folder: str | Path | None) -> Path:
    if folder is not None:
        return Path(folder).absolute()
    temporary = tempfile.mkdtemp(prefix="mpcdp-federation-")
    register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)


def _limit(epsilon: float | None, delta: float | None) -> PrivacyBudget | None:
    if (epsilon is None) != (delta is None):
        raise ConfigError("epsilon_limit and delta_limit go together: give both or none")
    return None if epsilon is None or delta is None else PrivacyBudget(epsilon=epsilon, delta=delta)
