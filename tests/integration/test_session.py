"""Whole sessions between real processes: right results, and clear ends when something is wrong."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from networks import TestNetwork, make_network, task_document, without_noise, write_table

from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import LocalNetwork, ProcessResult
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.simulation import simulate

DEADLINE = 100.0


def _wait_for(network: LocalNetwork, name: str, event: str) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if any(entry.get("event") == event for entry in network.events(name)):
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} never logged {event!r}: {network.log(name).read_text()}")


def _by_name(results: tuple[ProcessResult, ...]) -> dict[str, ProcessResult]:
    return {result.name: result for result in results}


def _all_succeeded(results: tuple[ProcessResult, ...]) -> None:
    for result in results:
        assert result.exit_code == 0, f"{result.name}: {result.log.read_text()}"


@pytest.mark.slow  # between threads: tests/roles
@pytest.mark.parametrize("parties", [2, 3, 5])
def test_model_without_noise_equals_the_run_in_the_clear(tmp_path: Path, parties: int) -> None:
    """With the noise vector replaced by zeros at an unchanged encoding, only the encoding's rounding is left."""
    made = make_network(tmp_path, task_document([20, 50, 31], parties=parties))
    with made.processes(command=without_noise) as network:
        network.start()
        _all_succeeded(network.wait(DEADLINE))
    plan = make_plan(made.task)
    released = np.asarray(TrainedModel.load(made.model_path("coordinator")).coefficients)
    exact = simulate(made.task, made.datasets, noise=False)
    # Not even the rounding differs: the simulation encodes the same contributions. The decoder's offset stays.
    offset = plan.noise_copies * 0.5 / plan.encoding.scale / 101
    np.testing.assert_allclose(released, exact + offset, rtol=1e-12, atol=1e-15)
    method = made.task.method()
    unrounded = (
        sum(method.contribution(table, method.initial_state(), key=bytes(32)) for table in made.datasets.values()) / 101
    )
    bound = (len(made.datasets) / 2 + plan.noise_copies / 2) / plan.encoding.scale / 101
    assert np.abs(released - unrounded).max() <= bound * (1 + 1e-9)


def _noised(folder: Path, mechanism: str, noise: str) -> TestNetwork:
    """Make a network whose model has 101 coordinates."""
    privacy = {"epsilon": 1.0, "delta": 1e-6, "mechanism": mechanism, "noise": noise}
    document = task_document([40, 25], parties=2, features=100, privacy=privacy, start_seconds=200.0)
    return make_network(folder, document)


@dataclass(frozen=True)
class _Session:
    """A session that is over, and where its processes listened while it waited for an owner."""

    made: TestNetwork
    listening: dict[str, list[str]]


@pytest.fixture(scope="module", name="session")
def _session(tmp_path_factory: pytest.TempPathFactory) -> _Session:
    made = _noised(tmp_path_factory.mktemp("session"), "gaussian", "joint")
    with made.processes() as network:
        servers = [name for name in network.names if not name.startswith("owner")]
        network.start(*servers, "owner-1")
        _wait_for(network, "coordinator", "owner joined")
        for name in servers:
            _wait_for(network, name, "waiting for owners" if name == "coordinator" else "waiting for a session")
        listening = {
            name: [
                connection.laddr.ip
                for connection in psutil.Process(network.process(name).pid).net_connections()
                if connection.status == psutil.CONN_LISTEN
            ]
            for name in (*servers, "owner-1")
        }
        network.start("owner-2")
        _all_succeeded(network.wait(DEADLINE))
    return _Session(made, listening)


def test_model_differs_from_the_clear_one_by_the_declared_noise(session: _Session) -> None:
    _check_noise(session.made, "gaussian")


@pytest.mark.slow
@pytest.mark.parametrize(("mechanism", "noise"), [("laplace", "joint"), ("gaussian", "per-party")])
def test_so_it_does_with_other_noise(tmp_path: Path, mechanism: str, noise: str) -> None:
    made = _noised(tmp_path, mechanism, noise)
    with made.processes() as network:
        network.start()
        _all_succeeded(network.wait(DEADLINE))
    _check_noise(made, mechanism)


def _check_noise(made: TestNetwork, mechanism: str) -> None:
    """Deviation over declared scale behaves like standardised noise of 101 coordinates, and the low bit is uniform."""
    plan = make_plan(made.task)
    models = [TrainedModel.load(made.model_path(name)) for name in ("coordinator", "owner-1", "owner-2")]
    assert models[0] == models[1] == models[2]
    assert models[0].privacy.epsilon == plan.cost.epsilon
    exact = simulate(made.task, made.datasets, noise=False)
    deviation = (np.asarray(models[0].coefficients) - exact) * 65 * plan.encoding.scale
    standard = plan.noise.scale * np.sqrt(plan.noise_copies * (2.0 if mechanism == "laplace" else 1.0))
    # 101 coordinates: the mean square is within a factor 2 of its expectation but for 1 run in 10^5.
    assert 0.5 < np.mean((deviation / standard) ** 2) < 2.2
    units = np.asarray(models[0].coefficients) * 65 * plan.encoding.scale - plan.noise_copies * 0.5
    np.testing.assert_allclose(units, np.rint(units), atol=0.05)
    odd = int(np.sum(np.rint(units).astype(np.int64) & 1))
    assert 25 <= odd <= 76  # 101 fair coins: outside with probability 5e-7


def test_processes_listen_on_one_loopback_port_each_and_owners_on_none(session: _Session) -> None:
    assert set(session.listening) == {"coordinator", "dealer", "party-1", "party-2", "owner-1"}
    for name, addresses in session.listening.items():
        assert len(addresses) == (name != "owner-1"), name
        # gRPC listens on IPv4 through a dual-stack socket.
        assert set(addresses) <= {"127.0.0.1", "::ffff:127.0.0.1"}, name


@pytest.mark.slow  # between threads: tests/roles
def test_a_task_runs_once(tmp_path: Path) -> None:
    """Everybody remembers a finished session on disk, and there is no second one of the same task."""
    made = make_network(tmp_path, task_document([10, 10], parties=2, start_seconds=8.0))
    with made.processes() as network:
        network.start()
        _all_succeeded(network.wait(DEADLINE))
    model = made.model_path("coordinator").read_bytes()
    with made.processes() as network:
        network.start()
        again = _by_name(network.wait(DEADLINE))
        said = [
            name for name in network.names if any("task is over" in str(e.get("event")) for e in network.events(name))
        ]
    assert set(said) == {"coordinator", "party-1", "party-2", "owner-1", "owner-2"}
    assert {name for name, result in again.items() if result.exit_code} == {"dealer"}
    assert "then all is well" in again["dealer"].problem()
    assert made.model_path("coordinator").read_bytes() == model
    # An owner that lost its model is stopped by its ledger, and one that lost its ledger by the parties' journals.
    for owner in ("owner-1", "owner-2"):
        made.model_path(owner).unlink()
    for file in (made.folder / "coordinator" / "state").iterdir():
        file.unlink()
    for file in (made.folder / "owner-2" / "state").glob("ledger.db*"):
        file.unlink()
    with made.processes() as network:
        network.start()
        third = _by_name(network.wait(DEADLINE))
    assert third["owner-1"].exit_code == 3
    assert "runs once" in third["owner-1"].problem()
    assert third["coordinator"].exit_code == 4
    assert not made.model_path("coordinator").exists()
    assert not made.model_path("owner-2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["party-2", "dealer", "owner-2"])
def test_a_process_missing_at_the_start_is_named(tmp_path: Path, missing: str) -> None:
    made = make_network(tmp_path, task_document([10, 10], parties=2, start_seconds=15.0))
    with made.processes() as network:
        network.start(*(name for name in network.names if name != missing))
        results = _by_name(network.wait(DEADLINE))
    assert results["coordinator"].exit_code == 4
    assert missing in results["coordinator"].problem()
    assert missing in results["owner-1"].problem()
    assert all(result.exit_code != 0 for result in results.values())
    assert not made.model_path("coordinator").exists()
    # Nothing was charged: the same task can be run once everybody is there.
    with made.processes() as network:
        network.start()
        _all_succeeded(network.wait(DEADLINE))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["party-1", "party-3", "coordinator"])
def test_a_process_killed_in_the_middle_ends_the_session_everywhere(tmp_path: Path, victim: str) -> None:
    deadlines = {"start_seconds": 10.0, "contribution_seconds": 10.0, "round_seconds": 10.0}
    made = make_network(tmp_path, task_document([10, 10, 10], parties=3, deadlines=deadlines))
    with made.processes() as network:
        network.start(*(name for name in network.names if name != "owner-3"))
        _wait_for(network, "coordinator", "owner joined")
        network.start("owner-3")
        _wait_for(network, "party-1", "prepared")
        os.kill(network.process(victim).pid, signal.SIGKILL)
        results = _by_name(network.wait(DEADLINE))
    assert results[victim].exit_code == -signal.SIGKILL
    # The dealer has done its part by then.
    survivors = [result for name, result in results.items() if name not in (victim, "dealer")]
    assert all(result.exit_code not in (0, 1) for result in survivors), {r.name: r.problem() for r in survivors}
    assert any(victim in result.problem() for result in survivors)
    assert not any(made.model_path(name).exists() for name in ("coordinator", "owner-1", "owner-2", "owner-3"))


@pytest.mark.slow  # the same with every message as the last one: tests/roles
def test_an_owner_that_is_killed_comes_back_to_its_session(tmp_path: Path) -> None:
    made = make_network(tmp_path, task_document([10, 10], parties=2, start_seconds=20.0))
    with made.processes() as network:
        network.start()
        _wait_for(network, "owner-1", "charged")
        os.kill(network.process("owner-1").pid, signal.SIGKILL)
        network.process("owner-1").wait(DEADLINE)
        network.start("owner-1")
        _all_succeeded(network.wait(DEADLINE))
    models = {made.model_path(name).read_bytes() for name in ("coordinator", "owner-1", "owner-2")}
    assert len(models) == 1
    with Ledger(made.folder / "owner-1" / "state" / "ledger.db") as ledger:
        assert ledger.total() == make_plan(made.task).cost


def _run_alone(made: TestNetwork, name: str) -> ProcessResult:
    with made.processes() as network:
        network.start(name)
        return network.wait(DEADLINE)[0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("fewer records", ("owner-1", "9 records", "declares 10")),
        pytest.param("no column", ("x1",), marks=pytest.mark.slow),
        pytest.param("no file", ("owner-1.csv",), marks=pytest.mark.slow),
        pytest.param("no label", ("label",), marks=pytest.mark.slow),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_joining(
    tmp_path: Path, damage: str, words: tuple[str, ...]
) -> None:
    made = make_network(tmp_path, task_document([10, 10], parties=2, start_seconds=2.0))
    table = tmp_path / "owner-1.csv"
    if damage == "fewer records":
        write_table(table, records=9, features=4, seed=0)
    elif damage == "no column":
        table.write_text(table.read_text().replace("x1", "y1"))
    elif damage == "no label":
        table.write_text(table.read_text().replace("label", "outcome"))
    else:
        table.unlink()
    result = _run_alone(made, "owner-1")
    assert result.exit_code == 2
    for word in words:
        assert word in result.problem()
    # No coordinator runs: had the owner tried to join, the error would be another one.


@pytest.mark.slow
def test_another_tasks_bytes_are_refused(tmp_path: Path) -> None:
    """One owner holds a task with a larger epsilon; everybody else goes on waiting for the right one."""
    made = make_network(tmp_path, task_document([10, 10], parties=2, start_seconds=6.0))
    task = made.folder / "owner-1" / "task.toml"
    shared = task if task.exists() else made.folder / "task.toml"
    text = shared.read_text()
    other = tmp_path / "other.toml"
    other.write_text(text.replace("epsilon = 1.0", "epsilon = 2.0"))
    config = made.folder / "owner-1" / "owner.toml"
    lines = [f'task = "{other}"' if line.startswith("task =") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines) + "\n")
    with made.processes() as network:
        network.start()
        results = _by_name(network.wait(DEADLINE))
    assert results["owner-1"].exit_code == 3
    assert "task" in results["owner-1"].problem()
    assert results["coordinator"].exit_code == 4
    assert "owner-1" in results["coordinator"].problem()


@pytest.mark.parametrize(
    "role", ["owner", *(pytest.param(role, marks=pytest.mark.slow) for role in ("compute", "dealer", "coordinator"))]
)
def test_a_bad_config_is_one_sentence_and_exit_code_2(tmp_path: Path, role: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text('role = "owner"\nunknown_key = 1\n')
    result = subprocess.run(
        [sys.executable, "-m", f"parties.{role}", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert "unknown_key" in result.stderr
    assert "Traceback" not in result.stderr
