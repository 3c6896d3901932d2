"""``mpcdp run``: all processes of a network, or one from its config."""

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil
import pytest
import tomli_w
from command_line import mpcdp
from rich.console import Console

from mpcdp.cli.session_progress import _refuse_second_run, run_network
from mpcdp.errors import PeerError, ProcessStopped
from mpcdp.learning.model import PrivacyStatement, TrainedModel
from mpcdp.local_network import LocalNetwork
from mpcdp.task import load_task

run_command = import_module("mpcdp.cli.run")
OWNERS = {"clinic-a": 50, "clinic-b": 30}


def _process(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from mpcdp.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=200)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    task = {
        "task": {"version": 1, "name": "run"},
        "model": {"kind": "logistic-regression", "regularization": 0.05},
        "method": {"kind": "gradient-perturbation", "rounds": 3},
        "privacy": {"epsilon": 8.0, "delta": 1e-5, "mechanism": "gaussian", "noise": "per-party"},
        "schema": {
            "label": {"column": "ill", "classes": ["no", "yes"]},
            "features": [{"name": "age", "lower": 0.0, "upper": 100.0}],
        },
        "deadlines": {"start_seconds": 240.0},
        "coordinator": {"name": "coordinator"},
        "compute_parties": [{"name": "party-1"}, {"name": "party-2"}],
        "owners": [{"name": name, "record_count": count} for name, count in OWNERS.items()],
    }
    (tmp_path / "task.toml").write_bytes(tomli_w.dumps(task).encode())
    assert mpcdp("network", "new", "net", "--task", "task.toml", "--quiet", cwd=tmp_path).stdout == ""
    for name, count in OWNERS.items():
        ages = np.linspace(0, 100, count)
        lines = [f"{age:.1f},{'yes' if age > 50 else 'no'}" for age in ages]
        (tmp_path / "net" / name / "table.csv").write_text("\n".join(["age,ill", *lines]) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either the folder of a network or --config"),
        (("net", "--config", "net/clinic-a/owner.toml"), "either the folder of a network or --config"),
        (("nowhere",), "mpcdp network new"),
        (("--config", "missing.toml"), "missing.toml: cannot be read"),
        (("--config", "task.toml"), "role"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    result = mpcdp("run", *arguments, cwd=folder)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_one_process_ends_with_its_own_exit_code(folder: Path) -> None:
    """An owner whose table is not the declared one stops before it joins, and the shell learns why."""
    (folder / "net" / "clinic-a" / "table.csv").write_text("age,ill\n1,no\n")
    result = _process("run", "--config", "net/clinic-a/owner.toml", cwd=folder)
    assert result.returncode == 2
    assert "1 records, but the task declares 50" in json.loads(result.stderr.splitlines()[-1])["problem"]


def test_ctrl_c_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "run_network", interrupted)
    with pytest.raises(ProcessStopped, match="net` goes on"):
        run_command.run(folder / "net")


def test_a_network_whose_task_was_run_says_so_at_once(folder: Path) -> None:
    """Only this task's model counts: one of an earlier task, or one that an owner still misses, stops nobody."""
    task = load_task(folder / "net" / "task.toml")
    _leave_models(folder / "net", task.digest.hex())
    result = mpcdp("run", "net", cwd=folder)
    assert result.returncode == 3
    assert "net/coordinator/state/model.json" in result.stderr
    assert "runs once only" in result.stderr
    with LocalNetwork(folder / "net") as network:
        (network.state("clinic-b") / "model.json").unlink()
        _refuse_second_run(network, task)
        _leave_models(folder / "net", "00" * 32)
        _refuse_second_run(network, task)


def _leave_models(net: Path, digest: str) -> None:
    """Put a model where a finished session leaves it."""
    task = load_task(net / "task.toml")
    model = TrainedModel(
        task=task.name,
        task_digest=digest,
        session="11" * 32,
        kind=task.model.kind,
        record_schema=task.schema_,
        coefficients=(0.5, 0.25),
        owners=tuple(OWNERS),
        privacy=PrivacyStatement(epsilon=8.0, delta=1e-5, relation="one record is replaced", text="a statement"),
    )
    for name in ("coordinator", *OWNERS):
        model.save(net / name / "state" / "model.json")


@pytest.mark.slow
def test_the_process_that_failed_is_named_once(folder: Path) -> None:
    for name in OWNERS:
        (folder / "net" / name / "table.csv").write_text("age,ill\n1,no\n")
    console = Console(quiet=True)
    with pytest.raises(PeerError) as caught:
        run_network(folder / "net", load_task(folder / "net" / "task.toml"), console, seconds=100, quiet=True)
    assert str(caught.value).count("clinic-a: ") + str(caught.value).count("clinic-b: ") == 1


@pytest.mark.slow
def test_when_it_is_terminated_no_process_is_left(folder: Path) -> None:
    command = [sys.executable, "-c", "from mpcdp.cli import main; main()", "run", "net", "--quiet"]
    with subprocess.Popen(command, cwd=folder) as process:
        end = time.monotonic() + 100
        while not (children := psutil.Process(process.pid).children(recursive=True)) and time.monotonic() < end:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == ProcessStopped.exit_code
    assert children
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


@pytest.mark.slow
def test_a_process_alone_ends_in_order_when_its_command_is_terminated(folder: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from mpcdp.cli import main; main()",
        "run",
        "--config",
        "net/party-1/compute.toml",
    ]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # it is up: it logs
        (child,) = psutil.Process(process.pid).children()
        time.sleep(1)
        process.terminate()
        assert process.wait(60) == ProcessStopped.exit_code, first + process.stderr.read()
    assert not child.is_running()


@pytest.mark.slow
def test_a_network_runs_and_its_second_run_is_refused(folder: Path) -> None:
    result = _process("run", "net", "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert set(figures["exit_codes"].values()) == {0}
    assert (figures["processes"], figures["owners"], figures["epsilon"]) == (5, ["clinic-a", "clinic-b"], 8.0)
    assert TrainedModel.load(folder / figures["model"]).task == "run"
    begin = time.monotonic()
    again = _process("run", "net", "--quiet", cwd=folder)
    assert again.returncode == 3
    assert "runs once only" in again.stderr
    assert time.monotonic() - begin < 60  # nobody waits for the 240 seconds of the task
