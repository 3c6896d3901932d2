"""The network of the process tests: cheap tasks of every kind, and what must hold of every end."""

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from evidence import check_evidence, model_in_the_clear, models
from farmed_network import FarmedNetwork
from networks import TestNetwork, make_network, task_document
from witness import Testimony

from mpcdp.local_network import ProcessResult

__all__ = ["SECONDS", "check_ends", "check_result", "make", "note", "states_of", "succeeded"]

SECONDS = 75.0
"""No process of these tasks may live longer, whatever happens."""

_ROUNDS = 3
_log = logging.getLogger(__name__)


def make(folder: Path, setting: str, *, start_seconds: float = 12.0) -> TestNetwork:
    """Write a network of two owners.

    Args:
        folder: for it.
        setting: such as ``"gradient joint 3"``: method, noise, number of compute parties.
        start_seconds: for how long processes wait for each other at the start.
    """
    method, noise, parties = setting.split()
    document = task_document(
        [20, 20],
        parties=int(parties),
        privacy={"epsilon": 1.0, "delta": 1e-6, "mechanism": "gaussian", "noise": noise},
        deadlines={"start_seconds": start_seconds, "contribution_seconds": 6.0, "round_seconds": 6.0},
    )
    if method == "gradient":
        document["model"] = {"kind": "logistic-regression", "regularization": 0.1}
        document["method"] = {
            "kind": "gradient-perturbation",
            "rounds": _ROUNDS,
            "learning_rate": 2.0,
            "clipping_norm": 0.5,
        }
    return make_network(folder, document)


def states_of(made: TestNetwork) -> dict[str, Path]:
    """Return the state folders by process."""
    return {member.name: made.folder / member.name / "state" for member in made.task.members()}


def succeeded(results: Mapping[str, ProcessResult]) -> bool:
    """Tell whether every process ended well."""
    return all(result.exit_code == 0 for result in results.values())


def check_ends(network: FarmedNetwork, results: Mapping[str, ProcessResult]) -> None:
    """Check that every process ended by itself: well, or with one sentence that names a process.

    Raises:
        AssertionError: what is wrong.
    """
    names = re.compile("|".join(map(re.escape, network.names)))
    for name, result in results.items():
        log = result.log.read_text()
        assert "Traceback" not in log, f"{name}: {log}"
        assert "internal error" not in log, f"{name}: {log}"
        if result.exit_code == 0:
            continue
        problem = result.problem()
        assert "stopped by" not in problem, f"{name} did not end: {log}"
        assert result.exit_code in (2, 3, 4, 5), f"{name} ended with {result.exit_code}: {log}"
        assert names.search(problem), f"{name} names nobody: {problem}"
        assert "\n" not in problem


def check_result(made: TestNetwork, results: Mapping[str, ProcessResult]) -> None:
    """Check what the state folders prove, and that the models that exist are the undisturbed one, without noise.

    Raises:
        AssertionError: what is wrong.
    """
    states = states_of(made)
    check_evidence(made.task, states, _testimonies(made))
    exact = model_in_the_clear(made.task, made.datasets)
    found = models(states)
    for name, model in found.items():
        assert np.array_equal(np.asarray(model.coefficients), exact), f"{name} has another model"
    for name, result in results.items():
        if result.exit_code == 0 and name in ("coordinator", *made.datasets):
            assert name in found, f"{name} ended well without a model"


def _testimonies(made: TestNetwork) -> list[Testimony]:
    return [
        Testimony(**json.loads(line))
        for party in made.task.compute_parties
        if (path := made.folder / party.name / "testimonies.jsonl").exists()
        for line in path.read_text().splitlines()
    ]


def note(what: object, start: float, results: Mapping[str, ProcessResult]) -> None:
    """Log how long a session took and how it ended, for who looks (``-o log_cli=1 --log-cli-level=INFO``)."""
    problems = [f"{name}: {result.problem()}" for name, result in results.items() if result.exit_code != 0]
    _log.info("%s: %.1f s, %s", what, time.monotonic() - start, "\n    ".join(problems) or "well")
