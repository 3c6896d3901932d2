"""Processes that are killed, stopped or frozen in the middle of a session, and go on with it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import TestNetwork, make_network, task_document, without_noise

from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import LocalNetwork, ProcessResult
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.simulation import simulate

DEADLINE = 200.0
ROUNDS = 60


def _network(folder: Path, *, rounds: int = ROUNDS, noise: str = "joint", **deadlines: float) -> TestNetwork:
    method = {"kind": "gradient-perturbation", "rounds": rounds, "learning_rate": 2.0, "clipping_norm": 0.5}
    privacy = {"epsilon": 2.0, "delta": 1e-6, "mechanism": "gaussian", "noise": noise}
    seconds = {"start_seconds": 60.0, "contribution_seconds": 60.0, "round_seconds": 60.0, **deadlines}
    document = task_document([20, 50], parties=2, method=method, privacy=privacy, deadlines=seconds)
    document["model"] = {"kind": "logistic-regression", "regularization": 0.01}
    return make_network(folder, document)


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def _events(network: LocalNetwork, name: str, event: str) -> list[Any]:
    return [entry for entry in network.events(name) if entry.get("event") == event]


def _wait_for(network: LocalNetwork, name: str, event: str, count: int = 1) -> None:
    _wait_until(lambda: len(_events(network, name, event)) >= count, f"{name} never logged {event!r}")


def _kill(network: LocalNetwork, *names: str) -> None:
    for name in names:
        os.kill(network.process(name).pid, signal.SIGKILL)
    for name in names:
        network.process(name).wait(DEADLINE)


def _check(made: TestNetwork, results: tuple[ProcessResult, ...], network: LocalNetwork) -> None:
    """Every process ended well, and the model is the one of rounds that each happened once, with everybody in it."""
    for result in results:
        assert result.exit_code == 0, f"{result.name}: {result.problem()}\n{result.log.read_text()}"
    names = ("coordinator", *(owner.name for owner in made.task.owners))
    models = [np.asarray(TrainedModel.load(made.model_path(name)).coefficients) for name in names]
    assert all(np.array_equal(model, models[0]) for model in models)
    plan = make_plan(made.task)
    step = 2.0 * plan.decode_offset / plan.encoding.scale / 70
    exact = simulate(made.task, made.datasets, noise=False)
    np.testing.assert_allclose(models[0], exact, atol=2 * plan.rounds * step)
    assert [entry["round"] for entry in _events(network, "coordinator", "round released")] == list(range(plan.rounds))
    for owner in made.task.owners:
        with Ledger(made.folder / owner.name / "state" / "ledger.db") as ledger:
            assert ledger.total() == plan.cost
    for name in network.names:  # nothing of a session that is over is left
        assert not list((made.folder / name / "state").glob("*.secret"))


@pytest.mark.slow  # at every point where they may die: tests/hostile
@pytest.mark.parametrize("victim", ["party-2", "coordinator", "everybody"])
def test_a_killed_process_goes_on_with_its_session(tmp_path: Path, victim: str) -> None:
    made = _network(tmp_path)
    with made.processes(command=without_noise) as network:
        network.start()
        _wait_for(network, "coordinator", "round released", 5)
        victims = [name for name in network.names if name != "dealer"] if victim == "everybody" else [victim]
        _kill(network, *victims)
        network.start(*victims)
        _check(made, network.wait(DEADLINE), network)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["dealer", "party-1", "coordinator"])
def test_a_process_killed_while_noise_is_prepared_begins_again(tmp_path: Path, victim: str) -> None:
    made = _network(tmp_path, rounds=800)
    with made.processes(command=without_noise) as network:
        network.start()
        _wait_for(network, "dealer", "dealing")
        _kill(network, victim)
        network.start(victim)
        _check(made, network.wait(DEADLINE), network)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["party-1", "coordinator"])
def test_a_stopped_process_goes_on_with_its_session(tmp_path: Path, victim: str) -> None:
    """As an administrator would restart it."""
    made = _network(tmp_path)
    with made.processes(command=without_noise) as network:
        network.start()
        _wait_for(network, "coordinator", "round released", 5)
        network.process(victim).terminate()
        assert network.process(victim).wait(DEADLINE) == 6
        network.start(victim)
        _check(made, network.wait(DEADLINE), network)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["party-1"])
def test_a_frozen_party_is_noticed_and_comes_back_by_itself(tmp_path: Path, victim: str) -> None:
    made = _network(tmp_path, start_seconds=90.0)
    other = "party-2" if victim == "party-1" else "party-1"
    with made.processes(command=without_noise) as network:
        network.start()
        _wait_for(network, "coordinator", "round released", 5)
        os.kill(network.process(victim).pid, signal.SIGSTOP)
        try:
            _wait_for(network, other, "another process is away, trying again")
        finally:
            os.kill(network.process(victim).pid, signal.SIGCONT)
        _check(made, network.wait(DEADLINE), network)


@pytest.mark.slow
def test_a_process_that_does_not_come_back_is_named_within_the_deadlines(tmp_path: Path) -> None:
    made = _network(tmp_path, start_seconds=20.0, contribution_seconds=5.0, round_seconds=5.0)
    with made.processes(command=without_noise) as network:
        network.start()
        _wait_for(network, "coordinator", "round released", 5)
        begin = time.monotonic()
        _kill(network, "party-1")
        results = {result.name: result for result in network.wait(DEADLINE)}
        assert time.monotonic() - begin < 20 + 15 + 20
        for name in ("coordinator", "party-2", "owner-1", "owner-2"):
            assert results[name].exit_code in (4, 5), results[name].problem()
            assert "party-1" in results[name].problem()
        # What is over stays over, also for the one that was away.
        network.start("party-2", "coordinator")
        again = {result.name: result for result in network.wait(DEADLINE)}
        assert (again["party-2"].exit_code, again["coordinator"].exit_code) == (5, 5)


@pytest.mark.slow
def test_two_processes_never_share_a_state_folder(tmp_path: Path) -> None:
    made = _network(tmp_path)
    with made.processes() as network:
        network.start("party-1")
        _wait_for(network, "party-1", "waiting for a session")
        first = network.process("party-1")
        network.start("party-1")
        assert network.process("party-1").wait(DEADLINE) == 2
        first.terminate()
        assert first.wait(DEADLINE) == 6
        assert "another process uses it" in network.log("party-1").read_text()
