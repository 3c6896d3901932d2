"""Flower adds owners' vectors up: ``python flower_sum.py OWNERS DIMENSION RUNS``, with a Python that has ``flwr``.

Its SecAgg+ workflow and its client mod, as its secure-aggregation example uses them (all owners share keys with all
others, a threshold of two thirds). Only the carriage is ours: messages pass within one process, one owner after
another, so the time is everybody's computing and nothing else. Noise is added by the server, in the clear, after
unmasking, as its central-DP strategies do.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import count
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

DEVIATION = 0.01
THRESHOLD = 2 / 3
CLIPPING_RANGE = 1.0


def vector(owner: int, dimension: int) -> NDArray[np.float64]:
    """Return an owner's vector."""
    return np.random.default_rng(owner).uniform(-1, 1, dimension)


class _Grid:
    """Carries the server's messages to the owners' mods and back, and counts their bytes (fits Flower's ``Grid``)."""

    def __init__(self, vectors: Sequence[NDArray[np.float64]]) -> None:
        self._vectors = vectors
        self._contexts = {node: _context(node) for node in range(1, len(vectors) + 1)}
        self._numbers = count(1)
        self.bytes_sent = 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Deliver messages and return the answers."""
        return [self._ask(message) for message in messages]

    def _ask(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        vars(message.metadata)["_message_id"] = str(next(self._numbers))
        message = self._carried(message)

        def fit(message: Message, context: Context) -> Message:
            result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self._vectors[node - 1]]), 1, {})
            return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)

        return self._carried(secaggplus_mod(message, self._contexts[node], fit))

    def _carried(self, message: Message) -> Message:
        data = message_to_proto(message)
        self.bytes_sent += data.ByteSize()
        return message_from_proto(data)


def _context(node: int) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def _sum(vectors: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], float, int]:
    """Run one aggregation; return the sum, the seconds and the bytes."""
    grid: Any = _Grid(vectors)
    manager = SimpleClientManager()
    for node in range(1, len(vectors) + 1):
        manager.register(GridClientProxy(node, grid, 1))
    everybody = len(vectors)
    strategy = FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=everybody,
        min_available_clients=everybody,
        initial_parameters=ndarrays_to_parameters([np.zeros_like(vectors[0])]),
    )
    context = LegacyContext(
        context=_context(0), config=ServerConfig(num_rounds=1), strategy=strategy, client_manager=manager
    )
    context.state.config_records["config"] = ConfigRecord({"current_round": 1})
    context.state.array_records["parameters"] = compat.parameters_to_arrayrecord(
        ndarrays_to_parameters([np.zeros_like(vectors[0])]), True
    )
    begin = time.perf_counter()
    SecAggPlusWorkflow(1.0, THRESHOLD, max_weight=1.0, clipping_range=CLIPPING_RANGE)(grid, context)
    seconds = time.perf_counter() - begin
    if not context.history.metrics_distributed_fit and grid.bytes_sent == 0:
        raise SystemExit("Flower halted the aggregation")
    mean = parameters_to_ndarrays(compat.arrayrecord_to_parameters(context.state.array_records["parameters"], True))[0]
    return everybody * np.asarray(mean, dtype=np.float64), seconds, grid.bytes_sent


def _main(owners: int, dimension: int, runs: int) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
    logging.getLogger("flwr").setLevel(logging.ERROR)
    vectors = [vector(owner, dimension) for owner in range(owners)]
    results = [_sum(vectors) for _ in range(runs + 1)][1:]  # the first one warms everything up
    opened = results[-1][0]
    released = opened + np.random.default_rng().normal(0, DEVIATION, dimension)
    exact = np.sum(vectors, axis=0)
    answer = {
        "version": version("flwr"),
        "seconds_by_run": [seconds for _, seconds, _ in results],
        "bytes_sent": results[-1][2],
        "largest_error": float(np.abs(opened - exact).max()),
        "noise_ratio": float(np.sqrt(np.mean((released - exact) ** 2)) / DEVIATION),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:4]))
