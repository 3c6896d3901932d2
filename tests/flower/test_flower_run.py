"""Flower with mpcdp as its aggregator: a simulation of a Flower app beside real mpcdp processes."""

import itertools
import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from extra_environment import ROOT, extra, make_environment
from networks import task_document, without_noise
from simulated_training import FIRST, model_trained_by

from mpcdp.learning.model import TrainedModel
from mpcdp.learning.update_aggregation import clip_update
from mpcdp.local_network import LocalNetwork, create_network
from mpcdp.plan import Plan, make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.task import load_task

OWNERS, ROUNDS, CLIPPING_NORM = 3, 2, 2.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [flower] = extra("flower")
    return make_environment(tmp_path_factory.mktemp("flower"), flower.replace("flwr", "flwr[simulation]", 1))


def _environment() -> dict[str, str]:
    # The simulation's Ray listens to other machines; this keeps them out.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {**os.environ, **token, "PYTHONPATH": str(ROOT), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def _run(python: Path, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [python, Path(__file__).with_name(script), *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=400, env=_environment()
    )


def _network(folder: Path) -> Plan:
    coordinates = sum(values.size for values in FIRST.values())
    document = task_document(
        [1] * OWNERS,
        parties=2,
        start_seconds=300.0,
        privacy={"epsilon": 15.0, "delta": 1e-6, "mechanism": "gaussian", "noise": "per-party"},
    )
    document["model"] = {"kind": "update", "coordinates": coordinates}
    document["method"] = {"kind": "update-aggregation", "rounds": ROUNDS, "clipping_norm": CLIPPING_NORM}
    document["deadlines"]["contribution_seconds"] = 120.0
    del document["schema"]
    (folder / "task.toml").write_bytes(tomli_w.dumps(document).encode())
    create_network(folder / "network", folder / "task.toml")
    return make_plan(load_task(folder / "task.toml"))


def _flat(model: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(values, dtype=np.float64).ravel() for values in model.values()])


def _mean_of_clipped_updates(model: dict[str, Any]) -> np.ndarray:
    """FedAvg with equal weights and clipped updates, in the clear."""
    before = {name: np.asarray(values, dtype=FIRST[name].dtype) for name, values in model.items()}
    updates = [_flat(model_trained_by(partition, before)) - _flat(before) for partition in range(OWNERS)]
    assert any(np.linalg.norm(update) > CLIPPING_NORM for update in updates)
    return np.mean([clip_update(update, CLIPPING_NORM) for update in updates], axis=0)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("noisy", [False, True], ids=["without noise", "with noise"])
def test_the_global_model_is_that_of_fedavg_and_the_server_sees_no_update(
    tmp_path: Path, python: Path, noisy: bool
) -> None:
    plan = _network(tmp_path)
    arguments: dict[str, Any] = {} if noisy else {"command": without_noise}
    with LocalNetwork(tmp_path / "network", **arguments) as network:
        network.start()
        flower = _run(python, "simulated_app.py", tmp_path / "network", tmp_path / "result.json", str(ROUNDS))
        assert flower.returncode == 0, flower.stderr[-4000:]
        for process in network.wait(120.0):
            assert process.exit_code == 0, process.problem()
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))

    # What reached Flower's server is the same whatever was trained on.
    told = {"metrics": {"type": "MetricRecord", "num-examples": 1}}
    assert result["replies"] == [told] * (OWNERS * ROUNDS)

    models = result["models"]
    assert len(models) == ROUNDS + 1
    np.testing.assert_array_equal(_flat(models[0]), _flat(FIRST))
    noise = [
        _flat(after) - _flat(before) - _mean_of_clipped_updates(before) for before, after in itertools.pairwise(models)
    ]
    if noisy:
        deviation = float(np.sqrt(np.mean(np.square(noise)))) / (plan.noise_deviation / OWNERS)
        assert 0.7 < deviation < 1.3  # of 74 samples, which stray by 8 %
    else:
        assert np.abs(noise).max() < 2e-6  # of the float32 in which the app keeps its weights
    released = TrainedModel.load(network.state("coordinator") / "model.json")
    np.testing.assert_allclose(_flat(FIRST) + released.coefficients, _flat(models[-1]), atol=1e-6)
    assert "everything that one owner has is replaced" in released.privacy.text
    with Ledger(network.state("owner-1") / "ledger.db") as ledger:
        assert ledger.charged(plan.task_digest)
    assert plan.statement().splitlines()[0] in flower.stderr + flower.stdout  # summary() shows it


@pytest.mark.slow
def test_what_the_mod_and_the_strategy_refuse(tmp_path: Path, python: Path) -> None:
    _network(tmp_path)
    checked = _run(python, "adapter_checks.py", tmp_path / "network")
    assert checked.returncode == 0, checked.stderr[-4000:]
    assert checked.stdout.splitlines()[-1] == "7 checks"


def test_without_flower_the_import_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install \"mpcdp\[flower\]\""):
        import mpcdp.flower  # noqa: F401
