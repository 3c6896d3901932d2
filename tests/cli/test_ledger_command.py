"""``mpcdp ledger``: what was paid, for people and programs; and a changed row is named with exit code 3."""

import json
import sqlite3
from pathlib import Path

import pytest
from command_line import Done, mpcdp

from mpcdp.privacy.accountant import gaussian_mu
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost, composed_epsilon
from mpcdp.privacy.ledger import Charge, Ledger

_SAMPLE = Path(__file__).parents[2] / "parties" / "owner" / "owner.toml"
_COST = PrivacyBudget(epsilon=1.0, delta=1e-6)
_GAUSSIAN = GaussianCost(mu_squared=gaussian_mu(epsilon=1.0, delta=1e-6) ** 2, distance=1e-13)


def run(command: str, place: Path, *options: str) -> Done:
    return mpcdp("ledger", command, place, *options)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An owner that took part in two Gaussian tasks and a Laplace one; the sample's limit is (4, 1e-5)."""
    (tmp_path / "owner.toml").write_text(_SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    with Ledger(tmp_path / "state" / "ledger.db") as ledger:
        for number, gaussian in ((1, _GAUSSIAN), (2, _GAUSSIAN), (3, None)):
            cost = _COST if gaussian else PrivacyBudget(epsilon=0.5, delta=1e-12)
            key = bytes([number]) * 32
            ledger.charge(key, key[::-1], f"task-{number}", cost, releases=2, gaussian=gaussian)
        ledger.record_releases(b"\1" * 32, [["hospital-1"], ["hospital-1"]])
    return tmp_path / "owner.toml"


def test_it_shows_tasks_both_totals_and_the_limit(config: Path) -> None:
    done = run("show", config, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert [task["task"] for task in shown["tasks"]] == ["task-1", "task-2", "task-3"]
    assert [task["releases"] for task in shown["tasks"]] == [2, 0, 0]
    assert [task["mu_squared"] for task in shown["tasks"]] == [_GAUSSIAN.mu_squared] * 2 + [None]
    assert shown["added_up"] == {"epsilon": 2.5, "delta": pytest.approx(2.000001e-6)}
    with Ledger(config.parent / "state" / "ledger.db") as ledger:
        costs = [entry.task_cost for entry in ledger.entries() if isinstance(entry, Charge)]
    assert shown["composed"] == {"epsilon": composed_epsilon(costs, delta=1e-5), "delta": 1e-5}
    assert shown["composed"]["epsilon"] < 0.8 * 2.5
    assert (shown["limit"]["epsilon"], shown["limit"]["delta"]) == (4.0, 1e-5)
    assert 0 < shown["limit"]["used"] < 1
    assert shown["limit"]["used_up"] is False


def test_people_read_the_same(config: Path) -> None:
    done = run("show", config)
    assert done.returncode == 0, done.stderr
    for part in ("task-2", "2 of 2 release(s)", "added up  epsilon = 2.5", "composed  epsilon = 1.", "% used"):
        assert part in done.stdout
    state_only = run("show", config.parent / "state")
    assert "limit" not in state_only.stdout
    assert "task-3" in state_only.stdout


def test_an_intact_ledger_verifies_by_config_and_by_folder(config: Path) -> None:
    for place in (config, config.parent / "state"):
        done = run("verify", place, "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["ok"], report["rows"], len(report["hash"])) == (True, 5, 64)
    assert report["hash"] in run("verify", config).stdout


def test_a_changed_row_is_named(config: Path) -> None:
    connection = sqlite3.connect(config.parent / "state" / "ledger.db")
    connection.execute("DROP TRIGGER no_update")
    connection.execute(
        "UPDATE entries SET content = replace(content, '\"mu_squared\":0', '\"mu_squared\":1') WHERE number = 2"
    )
    connection.commit()
    connection.close()
    for command in ("verify", "show"):
        done = run(command, config)
        assert done.returncode == 3
        assert "row 2 was edited or moved" in " ".join(done.stderr.split())
    assert json.loads(run("verify", config, "--json").stdout)["ok"] is False


def test_a_place_without_a_ledger_stays_without_one(tmp_path: Path) -> None:
    done = run("show", tmp_path)
    assert done.returncode == 2
    assert "there is no ledger" in done.stderr
    assert list(tmp_path.iterdir()) == []
