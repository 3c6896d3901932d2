"""A Flower app of three clients, run by Flower's simulation; started by a test in an environment that has Flower.

Usage: simulated_app.py NETWORK RESULT ROUNDS
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from simulated_training import FIRST, model_trained_by

from mpcdp.flower import SecureFedAvg, ShareUpdates

PRIVATE = "what-only-the-client-knows"


def record_of(model: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord(OrderedDict((name, Array(values)) for name, values in model.items()))


def model_of(record: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in record.items()}


def client_app(network: Path) -> ClientApp:
    def config(context: Context) -> Path:
        return network / f"owner-{int(context.node_config['partition-id']) + 1}" / "owner.toml"

    app = ClientApp()

    @app.train(mods=[ShareUpdates(config)])
    def train(message: Message, context: Context) -> Message:
        model = model_of(next(iter(message.content.array_records.values())))
        after = record_of(model_trained_by(int(context.node_config["partition-id"]), model))
        metrics = MetricRecord({"num-examples": 417, "loss": 0.125})
        told = {"arrays": after, "metrics": metrics, "config": ConfigRecord({PRIVATE: PRIVATE})}
        return Message(RecordDict(told), reply_to=message)

    return app


class Recorded(SecureFedAvg):
    """Writes down what the clients' replies hold."""

    replies: list[Any]

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        received = list(replies)
        self.replies = [*getattr(self, "replies", []), *(described(reply) for reply in received)]
        return super().aggregate_train(server_round, received)


def described(reply: Message) -> dict[str, Any]:
    if reply.has_error():
        return {"error": reply.error.reason}
    return {name: {"type": type(record).__name__, **record} for name, record in reply.content.items()}


def main(network: Path, result: Path, rounds: int) -> None:
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        strategy = Recorded(network / "coordinator" / "coordinator.toml")
        models = []

        def remember(server_round: int, arrays: ArrayRecord) -> None:
            models.append({name: values.tolist() for name, values in model_of(arrays).items()})

        strategy.start(grid, record_of(FIRST), num_rounds=rounds, timeout=120.0, evaluate_fn=remember)
        result.write_text(json.dumps({"models": models, "replies": strategy.replies}), encoding="utf-8")

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
    run_simulation(server, client_app(network), num_supernodes=3, backend_config=resources)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
