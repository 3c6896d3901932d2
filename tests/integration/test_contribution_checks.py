"""The contribution check between real processes: CrypTen, mutual TLS, a dealer, and an owner that cheats."""

import sys
from pathlib import Path

import numpy as np
import pytest
from networks import make_network, task_document, without_noise

from mpcdp.learning.model import TrainedModel
from mpcdp.plan import make_plan
from mpcdp.simulation import simulate
from mpcdp.transport.channel import Role

DEADLINE = 240.0
ROUNDS = 4


def _cheating(role: Role, config: Path) -> list[str]:
    if config.stem == "owner" and config.parent.name == "owner-2":
        return [sys.executable, str(Path(__file__).with_name("owner_that_cheats.py")), "--config", str(config)]
    return without_noise(role, config)


@pytest.mark.slow
@pytest.mark.parametrize("parties", [2, 3])
def test_a_cheat_is_left_out_of_every_round_and_named(tmp_path: Path, parties: int) -> None:
    method = {"kind": "gradient-perturbation", "rounds": ROUNDS, "learning_rate": 2.0, "clipping_norm": 0.5}
    session = {"contribution_check": True, "minimum_owners": 2}
    document = task_document([20, 50, 31], parties=parties, method=method, session=session)
    document["model"] = {"kind": "logistic-regression", "regularization": 0.01}
    made = make_network(tmp_path, document)
    with made.processes(command=_cheating) as network:
        network.start()
        for result in network.wait(DEADLINE):
            assert result.exit_code == 0, f"{result.name}: {result.log.read_text()}"
        named = {
            name: [entry["owners"] for entry in network.events(name) if str(entry.get("event")).startswith("left out:")]
            for name in (party.name for party in made.task.compute_parties)
        }
        batches = [entry["batch"] for entry in network.events("dealer") if entry.get("event") == "dealing"]
    assert named == {party.name: ["owner-2"] * ROUNDS for party in made.task.compute_parties}
    assert len({batch for batch in batches if str(batch).startswith("check-")}) == ROUNDS
    models = [
        np.asarray(TrainedModel.load(made.model_path(name)).coefficients)
        for name in ("coordinator", *(owner.name for owner in made.task.owners))
    ]
    assert all(np.array_equal(model, models[0]) for model in models)
    plan = make_plan(made.task)
    honest = {name: made.datasets[name] for name in ("owner-1", "owner-3")}
    step = 2.0 * plan.decode_offset / plan.encoding.scale / 51
    np.testing.assert_allclose(models[0], simulate(made.task, honest, noise=False), atol=2 * ROUNDS * step)
    without_the_check = simulate(made.task, made.datasets, noise=False)
    assert np.abs(models[0] - without_the_check).max() > 1e-3  # the test can fail
