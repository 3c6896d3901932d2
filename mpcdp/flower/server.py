"""At Flower's server: from the released sum to the next global model."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from mpcdp.config import CoordinatorConfig, load_config
from mpcdp.errors import InputError, ProtocolError, SessionAborted
from mpcdp.flower.arrays import flat, moved_by
from mpcdp.flower.task import load_task_of_updates
from mpcdp.plan import make_plan
from mpcdp.roles.releases import SessionReleases

__all__ = ["SecureFedAvg"]

_log = logging.getLogger("flwr")  # where Flower's own strategies log


class SecureFedAvg(FedAvg):
    """Flower's FedAvg over updates that nobody sees: the mean comes from an mpcdp session, noised.

    Every owner counts the same, whatever its number of examples. All of them train in every round of the session, and
    no round asks them for an evaluation: evaluate on public data, with ``evaluate_fn`` of ``start``.

    Args:
        coordinator: config file (TOML) of the session's coordinator, which runs on this host for this user.
        keys: ``arrayrecord_key``, ``configrecord_key`` of Flower's FedAvg, for apps that need others than its own.

    Raises:
        InputError: the config or its task cannot be read, or the task adds up no updates.
    """

    def __init__(self, coordinator: str | Path, **keys: Any) -> None:
        config = load_config(Path(coordinator), CoordinatorConfig)
        task = load_task_of_updates(config.task)
        owners = len(task.owners)
        super().__init__(fraction_evaluate=0.0, min_train_nodes=owners, min_available_nodes=owners, **keys)
        self._task = task
        self._plan = make_plan(task)
        self._releases = SessionReleases(task, self._plan, config.state)
        self._first = ArrayRecord()

    def summary(self) -> None:
        """Log FedAvg's summary and the guarantee."""
        super().summary()
        for line in self._plan.statement().splitlines():
            _log.info("\t%s", line)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every owner for its update of the next round.

        Raises:
            ProtocolError: the task has fewer rounds.
            SessionAborted: the session of this task is over.
            InputError: the model has another number of coordinates than the task says.
        """
        if server_round > self._plan.rounds:
            raise ProtocolError(f"round {server_round}: the task has {self._plan.rounds}; give num_rounds as many")
        if server_round == 1:
            if self._releases.over:
                raise SessionAborted(f"the session of task {self._task.name!r} is over; give the task a new name")
            if (size := flat(arrays).size) != self._plan.dimension:
                raise InputError(f"model.coordinates: the model has {size}, the task says {self._plan.dimension}")
            self._first = arrays
        return super().configure_train(server_round, arrays, config, grid)  # type: ignore[no-any-return]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Wait for the session's release, and move the model by the mean update.

        Raises:
            ProtocolError: a client replied with arrays: its app lacks the mod, and its update came in the clear.
            PeerTimeout: the release did not come in time.
            SessionAborted: the session failed.
        """
        # What failed at a client is logged; whether the round goes on without it is up to the session.
        received, _ = self._check_and_log_replies(replies, is_train=True, validate=False)
        for reply in received:
            if reply.content.array_records:
                raise ProtocolError(
                    f"node {reply.metadata.src_node_id} sent arrays in the clear: add ShareUpdates to its app's mods"
                )
        return moved_by(self._first, self._releases.model_after(server_round)), None
