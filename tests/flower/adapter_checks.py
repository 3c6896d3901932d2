"""What the adapter refuses and what it hides, checked where Flower is installed.

Usage: adapter_checks.py NETWORK
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
from simulated_training import FIRST

from mpcdp.data.updates import UpdateFolder
from mpcdp.errors import ConfigError, InputError, MpcdpError, ProtocolError, RefusedError
from mpcdp.flower import SecureFedAvg, ShareUpdates

COUNT = sum(values.size for values in FIRST.values())
Train = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def model() -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in FIRST.items()})


def asked(server_round: int, kind: str = "train") -> Message:
    content = RecordDict({"arrays": model(), "config": ConfigRecord({"server-round": server_round})})
    return Message(content=content, message_type=kind, dst_node_id=1)


def app(owner: Path, train: Train) -> ClientApp:
    made, share = ClientApp(), ShareUpdates()

    @made.train(mods=[share])
    def _train(message: Message, context: Context) -> Message:
        before = {name: array.numpy() for name, array in message.content["arrays"].items()}
        after = ArrayRecord({name: Array(values) for name, values in train(before).items()})
        return Message(RecordDict({"arrays": after}), reply_to=message)

    @made.evaluate(mods=[share])
    def _evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"loss": 0.5})}), reply_to=message)

    return made


def context(owner: Path | None) -> Context:
    config = {} if owner is None else {"mpcdp-owner": str(owner / "owner.toml")}
    return Context(run_id=1, node_id=1, node_config=config, state=RecordDict(), run_config={})


def updates(owner: Path) -> UpdateFolder:
    return UpdateFolder(owner / "updates", dimension=COUNT, patience_seconds=0.0)


def refused(error: type[MpcdpError], words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=re.escape(words)):
        call()


def moved(before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values + 1 for name, values in before.items()}


def failed(before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    raise ValueError("the record 4711 is strange")


def fewer(before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"weights": before["weights"]}


def renamed(before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"my {name}": values for name, values in before.items()}


def counted(before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**before, "bias": np.zeros(before["bias"].shape, dtype=np.int64)}


def main(network: Path) -> int:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # what Flower sets in its processes
    one, two = network / "owner-1", network / "owner-2"
    # 1. An update is handed over whole, and the reply says nothing; asked again, nothing is trained again.
    reply = app(one, moved)(asked(1), context(one))
    assert dict(reply.content["metrics"]) == {"num-examples": 1}
    assert list(reply.content) == ["metrics"]
    assert np.array_equal(updates(one).update(0), np.ones(COUNT))
    again = app(one, failed)(asked(1), context(one))
    assert dict(again.content["metrics"]) == {"num-examples": 1}
    assert np.array_equal(updates(one).update(0), np.ones(COUNT))
    # 2. Training that fails looks like any other.
    reply = app(two, failed)(asked(1), context(two))
    assert not reply.has_error()
    assert dict(reply.content["metrics"]) == {"num-examples": 1}
    assert np.array_equal(updates(two).update(0), np.zeros(COUNT))
    # 3. Evaluations would tell how well a model fits an owner's table.
    refused(RefusedError, "in the clear", lambda: app(one, moved)(asked(1, "evaluate"), context(one)))
    # 4. Rounds the task does not have; a node that does not know its owner.
    refused(ProtocolError, "from 1 to 2", lambda: app(one, moved)(asked(3), context(one)))
    refused(ConfigError, "mpcdp-owner", lambda: app(one, moved)(asked(1), context(None)))
    # 5. Nor does the server learn of other arrays than were sent, or of numbers that noise cannot be added to: an app
    # may return them because of what its records are.
    for owner, train in ((one, fewer), (two, renamed), (network / "owner-3", counted)):
        reply = app(owner, train)(asked(2), context(owner))
        assert not reply.has_error()
        assert dict(reply.content["metrics"]) == {"num-examples": 1}
        assert list(reply.content) == ["metrics"]
        assert np.array_equal(updates(owner).update(1), np.zeros(COUNT))
    # 6. A client without the mod.
    strategy = SecureFedAvg(network / "coordinator" / "coordinator.toml")
    clear = Message(RecordDict({"arrays": model()}), reply_to=asked(1))
    refused(ProtocolError, "in the clear", lambda: strategy.aggregate_train(1, [clear]))
    # 7. A model of another size, and rounds the task does not have.
    short = ArrayRecord({"bias": Array(FIRST["bias"])})
    refused(InputError, "the model has 7", lambda: strategy.configure_train(1, short, ConfigRecord(), None))
    refused(ProtocolError, "the task has 2", lambda: strategy.configure_train(3, model(), ConfigRecord(), None))
    return 7


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))} checks\n")
