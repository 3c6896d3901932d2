"""An estimator in an owner's place: the other processes are real and run elsewhere."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomli_w

from mpcdp.errors import BudgetError, ConfigError, SessionAborted
from mpcdp.estimators import Federation, PrivateLinearSVC, PrivateLogisticRegression
from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import LocalNetwork, create_network
from mpcdp.private_files import alone_in
from mpcdp.roles.owner import Owner

COUNTS = {"clinic-a": 60, "clinic-b": 40}


def _frame(count: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": generator.uniform(0, 100, count), "dose": generator.uniform(-1, 1, count)})
    frame["ill"] = np.where(frame["age"] > 50, "yes", "no")
    return frame


@pytest.fixture(name="network")
def _network(tmp_path: Path) -> Path:
    task = {
        "task": {"version": 1, "name": "connected"},
        "model": {"kind": "logistic-regression", "regularization": 0.05, "certificate": 1e-7},
        "method": {"kind": "output-perturbation"},
        "privacy": {"epsilon": 8.0, "delta": 1e-5, "mechanism": "gaussian", "noise": "per-party"},
        "schema": {
            "row_radius": 1.5,
            "label": {"column": "ill", "classes": ["no", "yes"]},
            "features": [
                {"name": "age", "lower": 0.0, "upper": 100.0},
                {"name": "dose", "lower": -1.0, "upper": 1.0},
            ],
        },
        "coordinator": {"name": "coordinator"},
        "compute_parties": [{"name": "party-1"}, {"name": "party-2"}],
        "owners": [{"name": name, "record_count": count} for name, count in COUNTS.items()],
    }
    (tmp_path / "task.toml").write_bytes(tomli_w.dumps(task).encode())
    _frame(40, 2).to_csv(tmp_path / "b.csv", index=False)
    create_network(tmp_path / "net", tmp_path / "task.toml", tables={"clinic-b": tmp_path / "b.csv"})
    return tmp_path / "net"


def test_what_contradicts_the_agreed_task_is_refused(network: Path) -> None:
    federation = Federation.connect(network / "clinic-a" / "owner.toml")
    frame = _frame(60, 1)
    rows, labels = frame[["age", "dose"]], frame["ill"]
    with pytest.raises(ValueError, match="the task of this federation says 8"):
        PrivateLogisticRegression(epsilon=1.0, federation=federation).fit(rows, labels)
    with pytest.raises(ValueError, match="trains huber-svm, but the task says logistic-regression"):
        PrivateLinearSVC(federation=federation).fit(rows, labels)
    with pytest.raises(ConfigError, match="59 rows, but the task declares 60"):
        PrivateLogisticRegression(federation=federation).fit(rows[1:], labels[1:])
    with pytest.raises(ConfigError, match="role"):
        Federation.connect(network / "coordinator" / "coordinator.toml")
    assert federation.ledger.sessions == 0


def test_a_state_folder_that_another_process_uses_is_left_alone(network: Path) -> None:
    federation = Federation.connect(network / "clinic-a" / "owner.toml")
    frame = _frame(60, 1)
    model = PrivateLogisticRegression(federation=federation)
    with (
        alone_in(network / "clinic-a" / "state"),
        pytest.raises(ConfigError, match="another process uses it; wait for its end or stop it"),
    ):
        model.fit(frame[["age", "dose"]], frame["ill"])
    assert not federation.ledger_files()


def test_it_keeps_others_out_of_its_state_folder(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Owner] = []

    def run(owner: Owner) -> TrainedModel:
        with pytest.raises(BlockingIOError), alone_in(network / "clinic-a" / "state"):
            pass
        entered.append(owner)
        raise SessionAborted("enough")

    monkeypatch.setattr(Owner, "run", run)
    frame = _frame(60, 1)
    model = PrivateLogisticRegression(federation=Federation.connect(network / "clinic-a" / "owner.toml"))
    with pytest.raises(SessionAborted, match="enough"):
        model.fit(frame[["age", "dose"]], frame["ill"])
    assert entered
    with alone_in(network / "clinic-a" / "state"):
        pass  # and it leaves the folder at its end


@pytest.mark.slow
def test_it_trains_with_processes_that_run_elsewhere(network: Path) -> None:
    federation = Federation.connect(network / "clinic-a" / "owner.toml")
    frame = _frame(60, 1)
    with LocalNetwork(network) as others:
        others.start(*(name for name in others.names if name != "clinic-a"))
        model = PrivateLogisticRegression(federation=federation).fit(frame[["age", "dose"]], frame["ill"])
        results = others.wait(60)
    assert not any(result.exit_code for result in results)
    assert model.model_ == TrainedModel.load(network / "clinic-b" / "state" / "model.json")
    assert list(model.classes_) == ["no", "yes"]
    assert set(model.predict(frame[["age", "dose"]])) <= {"no", "yes"}
    assert "owner 'clinic-a'" in model.privacy_statement_
    assert federation.ledger.total.epsilon == 8.0
    with pytest.raises(BudgetError, match="runs once only"):
        model.fit(frame[["age", "dose"]], frame["ill"])
