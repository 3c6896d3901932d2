"""A session whose other processes run elsewhere: this one takes an owner's place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpcdp.config import OwnerConfig, load_config
from mpcdp.errors import ConfigError
from mpcdp.estimators.federation import Federation
from mpcdp.estimators.in_process import quiet_logs
from mpcdp.estimators.inputs import OwnerTable
from mpcdp.learning.model import TrainedModel
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.owner import Owner
from mpcdp.roles.process import open_process, own_state
from mpcdp.task import Task, load_task

__all__ = ["ConnectedFederation"]


class ConnectedFederation(Federation):
    """An owner's place in a network.

    Args:
        config: the owner's config file.

    Raises:
        ConfigError: it is not an owner's config.
        TaskError: its task is malformed.
    """

    def __init__(self, config: Path) -> None:
        self._path = config.absolute()
        self._config = load_config(self._path, OwnerConfig)
        granted = self._config.ledger
        super().__init__(
            None if granted is None else PrivacyBudget(epsilon=granted.epsilon_limit, delta=granted.delta_limit)
        )
        self.owner = self._config.name
        self.task = load_task(self._config.task)
        self.noise = self.task.privacy.noise
        self.parties = len(self.task.compute_parties)

    def __repr__(self) -> str:
        return f"Federation.connect({str(self._path)!r})"

    def ledger_files(self) -> Mapping[str, Path]:
        path = self._config.state / "ledger.db"
        return {self.owner: path} if path.exists() else {}

    def train(self, task: Task, content: Mapping[str, Any], tables: Mapping[str, OwnerTable]) -> TrainedModel:
        (table,) = tables.values()
        declared = task.owner(self.owner).record_count
        if table.record_count != declared:
            raise ConfigError(
                f"{self.owner}: fit was given {table.record_count} rows, but the task declares {declared}: give all of "
                "them, or agree on a new task"
            )
        quiet_logs()
        process = open_process(OwnerConfig, self._path)
        state = self._config.state
        with own_state(state), process.network, Ledger(state / "ledger.db", limit=self.limit) as ledger:
            dataset = table.dataset(task.schema_)
            owner = Owner(self.owner, task, process.plan, dataset, process.network, ledger, state)
            return owner.run()

    def statement(self) -> str:
        return f"This program took the place of owner {self.owner!r}; it saw that owner's rows and the releases."
