"""At an owner: from the app's training to the owner's own mpcdp process, past Flower's server."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from mpcdp.config import OwnerConfig, load_config
from mpcdp.data.updates import UpdateFolder
from mpcdp.errors import ConfigError, InputError, ProtocolError, RefusedError
from mpcdp.flower.arrays import flat
from mpcdp.flower.task import load_task_of_updates

__all__ = ["ShareUpdates"]

_KEY = "mpcdp-owner"
_FAILED = "training failed and counts as an update of zeros"
_CURE = (
    "it has to return one ArrayRecord, the model, with the arrays that it was given, in the same order and of the same "
    "sizes, of floating-point numbers"
)
_log = structlog.get_logger("mpcdp.flower")


def _config_of_node(context: Context) -> Path:
    if _KEY not in context.node_config:
        raise ConfigError(f"node config: there is no {_KEY}; start the SuperNode with --node-config '{_KEY}=\"FILE\"'")
    return Path(str(context.node_config[_KEY]))


class ShareUpdates:
    """A Flower mod: the update goes to the owner's mpcdp process instead of into the reply.

    Args:
        config: says where the owner's config file (TOML) is; by default what ``mpcdp-owner`` of the node config names.

    Raises:
        RefusedError: when called for a message other than one to train, whose answer would not be protected.
        ProtocolError: when called for a round that the task does not have.
        InputError: when called with a config, a task or arrays that do not fit each other; never for what the app
            returns.

    Reveals:
        To Flower's server: that this owner is there, when it is ready, and the constant 1 as its number of examples.
    """

    def __init__(self, config: Callable[[Context], Path] = _config_of_node) -> None:
        self._config = config

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Train for one round."""
        kind = message.metadata.message_type
        if kind.partition(".")[0] != "train":
            raise RefusedError(
                f"mpcdp: a reply to {kind!r} would leave in the clear; use SecureFedAvg, which asks none"
            )
        config = load_config(self._config(context), OwnerConfig)
        task = load_task_of_updates(config.task)
        folder = UpdateFolder(config.table, dimension=task.method().dimension, patience_seconds=0.0)
        round_index = _round_index(message, task.method().rounds)
        if not folder.stored(round_index):  # else the round is repeated, and has its update
            folder.store(round_index, _update(message, context, call_next))
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _round_index(message: Message, rounds: int) -> int:
    numbers = [
        int(config["server-round"]) for config in message.content.config_records.values() if "server-round" in config
    ]
    if len(numbers) != 1 or not 1 <= numbers[0] <= rounds:
        raise ProtocolError(f"mpcdp: expected one server-round from 1 to {rounds}, got {numbers}: use SecureFedAvg")
    return numbers[0] - 1


def _update(message: Message, context: Context, call_next: ClientAppCallable) -> NDArray[np.float64]:
    """Train, and return what it moved; zeros if it failed, which a record's value may have caused.

    Whatever the app does or returns, an error of it would tell Flower's server something of what the owner has.
    """
    before, names = flat(_arrays(message.content)), list(_arrays(message.content))
    try:
        reply = call_next(message, context)
        if reply.has_error():
            _log.error(_FAILED, code=reply.error.code)
            return np.zeros(before.shape)
        arrays = _arrays(reply.content)
        after = flat(arrays)
        if list(arrays) != names or after.shape != before.shape:
            raise InputError("mpcdp: other arrays than were given")
    except Exception as error:  # noqa: BLE001 (whatever it is: nobody may notice)
        _log.error(_FAILED, error=type(error).__name__, problem=_CURE)
        return np.zeros(before.shape)
    with np.errstate(all="ignore"):  # what is not finite counts as zero later
        return after - before


def _arrays(content: RecordDict) -> ArrayRecord:
    records = list(content.array_records.values())
    if len(records) != 1:
        raise InputError(
            f"mpcdp: expected one ArrayRecord, the model, got {len(records)}; send and return the model alone"
        )
    return records[0]
