"""Training by gradients between real processes: many rounds, joint noise, owners that come and go."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import TestNetwork, make_network, task_document, without_noise, write_table

from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import LocalNetwork, ProcessResult
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger, NoiseRecord
from mpcdp.simulation import simulate

DEADLINE = 120.0
ROUNDS = 25


def _document(records: list[int], **sections: Any) -> dict[str, Any]:
    method = {"kind": "gradient-perturbation", "rounds": ROUNDS, "learning_rate": 2.0, "clipping_norm": 0.5}
    document = task_document(records, parties=2, method={**method, **sections.pop("method", {})}, **sections)
    document["model"] = {"kind": "logistic-regression", "regularization": 0.01}
    return document


def _succeeded(results: tuple[ProcessResult, ...]) -> None:
    for result in results:
        assert result.exit_code == 0, f"{result.name}: {result.log.read_text()}"


def _models(made: TestNetwork) -> list[np.ndarray]:
    names = ("coordinator", *(owner.name for owner in made.task.owners))
    return [np.asarray(TrainedModel.load(made.model_path(name)).coefficients) for name in names]


def _released(network: LocalNetwork) -> list[dict[str, Any]]:
    return [dict(entry) for entry in network.events("coordinator") if entry.get("event") == "round released"]


@pytest.mark.slow  # between threads: tests/roles/test_rounds.py
def test_rounds_without_noise_are_those_in_the_clear(tmp_path: Path) -> None:
    made = make_network(tmp_path, _document([20, 50, 31]))
    with made.processes(command=without_noise) as network:
        network.start()
        _succeeded(network.wait(DEADLINE))
    plan = make_plan(made.task)
    models = _models(made)
    assert all(np.array_equal(model, models[0]) for model in models)
    # Each round's decoding adds the noise's offset of half a unit, which the next rounds can only keep.
    step = 2.0 * plan.decode_offset / plan.encoding.scale / 101
    np.testing.assert_allclose(models[0], simulate(made.task, made.datasets, noise=False), atol=2 * ROUNDS * step)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["joint", "per-party"])
def test_every_round_is_noised_and_what_was_spent_is_told(tmp_path: Path, noise: str) -> None:
    privacy = {"epsilon": 2.0, "delta": 1e-6, "mechanism": "gaussian", "noise": noise}
    made = make_network(tmp_path, _document([60, 45], privacy=privacy, method={"sampling_rate": 0.5}))
    write_table(tmp_path / "public.csv", records=200, features=4, seed=99)
    config = made.folder / "coordinator" / "coordinator.toml"
    config.write_text(f'validation = "{tmp_path / "public.csv"}"\n' + config.read_text())
    with made.processes() as network:
        network.start()
        _succeeded(network.wait(DEADLINE))
        released = _released(network)
    assert [entry["round"] for entry in released] == list(range(ROUNDS))
    assert released[-1]["epsilon"] == pytest.approx(2.0)
    assert {entry["owners"] for entry in released} == {2}
    assert all(0.3 < entry["validation"] <= 1 for entry in released)
    models = _models(made)
    assert all(np.array_equal(model, models[0]) for model in models)
    if noise == "joint":
        _check_pools(made)
    # 105 records at epsilon 2: the noise on a coordinate of the model is far larger than any rounding.
    assert np.abs(models[0] - simulate(made.task, made.datasets, noise=False)).max() > 1e-3


def _check_pools(made: TestNetwork) -> None:
    """Owners know which noise was used, and the parties have nothing left of it."""
    ranges = set()
    for owner in made.task.owners:
        with Ledger(made.folder / owner.name / "state" / "ledger.db") as ledger:
            ranges |= {
                (entry.bank, entry.start, entry.end) for entry in ledger.entries() if isinstance(entry, NoiseRecord)
            }
    ((_, start, end),) = ranges
    assert end - start >= ROUNDS * 5
    for party in made.task.compute_parties:
        for path in (made.folder / party.name / "state" / "noise").rglob("*"):
            assert path.suffix == ".db" or not path.is_file() or not any(path.read_bytes()), path


def _wait_for_release(network: LocalNetwork, *, owners: int) -> None:
    end = time.monotonic() + DEADLINE
    while not any(entry["owners"] == owners for entry in _released(network)):
        assert time.monotonic() < end, f"no round was released with {owners} owners"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_network_is_trained_and_predicts(tmp_path: Path) -> None:
    document = _document([60, 45])
    factory = "mpcdp.learning.modules:small_mlp"
    document["model"] = {
        "kind": "module",
        "regularization": 0.01,
        "factory": factory,
        "loss": "cross-entropy",
        "seed": 1,
    }
    made = make_network(tmp_path, document)
    with made.processes() as network:
        network.start()
        _succeeded(network.wait(DEADLINE))
    model = TrainedModel.load(made.model_path("owner-1"))
    assert model == TrainedModel.load(made.model_path("coordinator"))
    assert len(model.coefficients) == 5 * 16 + 16 + 1
    predicted = model.predict(made.datasets["owner-1"].features)
    assert len(predicted) == 60
    assert set(predicted) <= {"no", "yes"}


@pytest.mark.slow
def test_an_owner_that_is_killed_is_left_out_and_comes_back(tmp_path: Path) -> None:
    deadlines = {"start_seconds": 20.0, "contribution_seconds": 1.0, "round_seconds": 20.0}
    # So many rounds that the last ones come long after a process has started again.
    document = _document([20, 50, 31], session={"minimum_owners": 2}, deadlines=deadlines, method={"rounds": 800})
    made = make_network(tmp_path, document)
    with made.processes() as network:
        network.start()
        _wait_for_release(network, owners=3)
        victim = network.process("owner-3")
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(DEADLINE)
        _wait_for_release(network, owners=2)
        network.start("owner-3")
        _succeeded(network.wait(DEADLINE))
        released = _released(network)
    owners = [entry["owners"] for entry in released]
    assert len(owners) == 800
    assert set(owners) == {2, 3}
    assert owners[-1] == 3
    models = _models(made)
    assert all(np.array_equal(model, models[0]) for model in models)
