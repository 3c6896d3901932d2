"""The same points by real processes: does a session give what the simulation says?

A session of coordinator, dealer, compute parties and owners on loopback, every connection mutual TLS, trains on the
table's records. Its model is compared with simulations of the same task in two ways: by its distance from the model
without noise, whose spread is small (the noise has many coordinates), and by its optimality gap on the training
records, which weighs the directions that matter. Both have to lie within the interval in which a further simulation
would lie with a probability of 99.9 %, were their logarithms normal: gaps are skewed, and accuracies even more so (with
output perturbation on Adult, one session in a hundred is six deviations below the mean of twenty).
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from mpcdp.errors import PeerError
from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import LocalNetwork, create_network
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.looks import LOOKS
from mpcdp.reproduce.our_points import owner_shares
from mpcdp.reproduce.ours import (
    gradient_sections,
    make_task,
    output_sections,
    statistics_sections,
    task_document,
    train_by_gradients,
    train_by_output,
)
from mpcdp.reproduce.settings import DELTA, PAPER_EPSILON, REGULARIZATION
from mpcdp.simulation import simulate
from mpcdp.task import Task

__all__ = ["REAL_HEADER", "RealRun", "disagreements", "real_methods", "run_for_real"]

REAL_HEADER = ("table", "method", "m", "epsilon", "quantity", "real session", "simulated", "log sd", "agrees")
"""Columns of the table."""

_OWNERS = 4
_SIMULATED_RUNS = 20
_CONFIDENCE = 0.999
_SECONDS = 900.0
_ROUNDS = 100
"""Of gradient perturbation: enough to be a path, few enough to be quick."""


@dataclass(frozen=True, kw_only=True)
class RealRun:
    """A real session beside simulations of its task.

    Args:
        table: name of the data set.
        method: key of the method.
        owners: m.
        epsilon: asked for.
        quantity: what is compared; positive.
        real: of the session's model.
        simulated: geometric mean of the simulations.
        deviation: of a single simulation's logarithm.
        runs: number of simulations.
    """

    table: str
    method: str
    owners: int
    epsilon: float
    quantity: str
    real: float
    simulated: float
    deviation: float
    runs: int

    @property
    def agrees(self) -> bool:
        """Tell whether the session lies in the prediction interval of the simulations."""
        from scipy.stats import t

        quantile = float(t.ppf((1 + _CONFIDENCE) / 2, self.runs - 1))
        return abs(math.log(self.real / self.simulated)) <= quantile * self.deviation * math.sqrt(1 + 1 / self.runs)

    def cells(self) -> list[str]:
        """Return the run for people, as `REAL_HEADER` says."""
        return [
            self.table,
            LOOKS[self.method].title,
            f"{self.owners}",
            f"{self.epsilon:g}",
            self.quantity,
            f"{self.real:.4g}",
            f"{self.simulated:.4g}",
            f"{self.deviation:.2g}",
            "yes" if self.agrees else "NO",
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the run as one JSON object."""
        return {**asdict(self), "agrees": self.agrees}


def real_methods(*, regression: bool) -> Mapping[str, Mapping[str, Any]]:
    """Return the sections of the tasks that are run for real, by method."""
    gradient = gradient_sections(REGULARIZATION, regression=regression)
    by_gradient = {**gradient, "method": {**gradient["method"], "rounds": _ROUNDS}}
    if regression:
        return {"our_statistics": statistics_sections(), "our_gradient": by_gradient}
    return {
        "our_output": output_sections(REGULARIZATION),
        "our_laplace_output": output_sections(REGULARIZATION, mechanism="laplace"),
        "our_gradient": by_gradient,
    }


def run_for_real(experiment: Experiment, method: str) -> list[RealRun]:
    """Run one session of real processes, and compare it with simulations.

    Args:
        experiment: the table's.
        method: one of `real_methods`.

    Raises:
        PeerError: a process failed.
    """
    table = experiment.table
    sections = real_methods(regression=table.regression)[method]
    task = make_task(table, _OWNERS, epsilon=PAPER_EPSILON, delta=DELTA, **sections)
    model = _session(experiment, task, sections)
    simulated, exact = _simulations(experiment, task, method)
    compared: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "distance from the model without noise": partial(_distances, exact),
        "optimality gap": experiment.judge.gaps,
    }
    runs = []
    for quantity, measured in compared.items():
        logarithms = np.log(measured(simulated))
        runs.append(
            RealRun(
                table=table.name,
                method=method,
                owners=_OWNERS,
                epsilon=PAPER_EPSILON,
                quantity=quantity,
                real=float(measured(model[np.newaxis])[0]),
                simulated=math.exp(logarithms.mean()),
                deviation=float(logarithms.std(ddof=1)),
                runs=len(logarithms),
            )
        )
    return runs


def _distances(exact: NDArray[np.float64], models: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(models - exact, axis=1))


def _session(experiment: Experiment, task: Task, sections: Mapping[str, Any]) -> NDArray[np.float64]:
    """Run real processes, and return the model that the coordinator wrote."""
    counts = task.record_counts
    document = task_document(experiment.table, counts, epsilon=PAPER_EPSILON, delta=DELTA, **sections)
    with tempfile.TemporaryDirectory(prefix="mpcdp-real-") as name:
        folder = Path(name)
        (folder / "task.toml").write_bytes(tomli_w.dumps(document).encode())
        tables = dict(_tables(experiment, task, folder))
        create_network(folder / "network", folder / "task.toml", tables=tables)
        with LocalNetwork(folder / "network") as network:
            network.start()
            failed = [result for result in network.wait(_SECONDS) if result.exit_code != 0]
        if failed:
            raise PeerError(failed[0].name, f"{failed[0].problem()}; run it again when the machine has less to do")
        model = TrainedModel.load(folder / "network" / "coordinator" / "state" / "model.json")
    return np.asarray(model.coefficients, dtype=np.float64)


def _tables(experiment: Experiment, task: Task, folder: Path) -> Iterator[tuple[str, Path]]:
    start = 0
    for owner in task.owners:
        path = folder / f"{owner.name}.csv"
        experiment.table.write(path, start, start + owner.record_count)
        start += owner.record_count
        yield owner.name, path


def _simulations(experiment: Experiment, task: Task, method: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the models of simulated sessions, shape (R, d), and the one without noise, shape (d,)."""
    training = experiment.table.training
    if method == "our_statistics":
        shares = owner_shares(experiment, task)
        noised = np.stack([simulate(task, shares) for _ in range(_SIMULATED_RUNS)])
        return noised, simulate(task, shares, noise=False)
    if method == "our_gradient":
        noised = train_by_gradients(task, training, runs=_SIMULATED_RUNS)
        return noised, train_by_gradients(task, training, runs=1, noise=False)[0]
    owners = experiment.split(len(task.owners))
    noised = train_by_output(task, owners, runs=_SIMULATED_RUNS)
    return noised, train_by_output(task, owners, runs=1, noise=False)[0]


def disagreements(runs: Sequence[RealRun]) -> list[RealRun]:
    """Return the runs that do not agree."""
    return [run for run in runs if not run.agrees]
