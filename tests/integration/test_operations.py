"""What an IT department runs besides sessions: health checks, status and metrics of real processes, and sessions that
end well although a member and strangers attack every server."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attackers import attackers
from networks import TestNetwork, make_network, task_document

from mpcdp.config import load_any_config
from mpcdp.local_network import LocalNetwork, free_ports
from mpcdp.plan import make_plan

DEADLINE = 150.0
_SERVICES = {"coordinator": "Coordinator", "dealer": "Dealer", "compute": "ComputeParty"}


def _health(config: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from mpcdp.cli import main; main()", "health", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _config_of(made: TestNetwork, name: str) -> Path:
    (path,) = (made.folder / name).glob("*.toml")
    return path


def _with_status(made: TestNetwork, names: tuple[str, ...]) -> Mapping[str, int]:
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    for name, port in ports.items():
        with _config_of(made, name).open("a") as config:
            config.write(f'\n[status]\nlisten = "127.0.0.1:{port}"\n')
    return ports


def _look(port: int, path: str = "/status.json") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        content: bytes = answer.read()
    return content


def _wait_for_state(port: int, state: str) -> dict[str, Any]:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            document: dict[str, Any] = json.loads(_look(port))
        except OSError:
            document = {}
        if document.get("state") == state:
            return document
        time.sleep(0.1)
    raise AssertionError(f"it was never {state}, but {document}")


def _listening(network: LocalNetwork, name: str) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if any(str(entry.get("event")).startswith("waiting for") for entry in network.events(name)):
            return
        time.sleep(0.05)
    raise AssertionError(network.log(name).read_text())


@pytest.mark.slow
def test_every_process_answers_for_its_health_and_shows_its_status(tmp_path: Path) -> None:
    """While the session waits for its second owner; then it is run to its end."""
    made = make_network(tmp_path, task_document([10, 10], parties=2, start_seconds=100.0))
    with made.processes() as network:
        ports = _with_status(made, network.names)
        first = tuple(name for name in network.names if name != "owner-2")
        assert _health(_config_of(made, "party-1")).returncode == 4  # it is not up yet
        assert _health(_config_of(made, "owner-1")).returncode == 4
        network.start(*first)
        documents = {name: _wait_for_state(ports[name], "waiting") for name in first}
        for name in first:
            healthy = _health(_config_of(made, name))
            assert healthy.returncode == 0, healthy.stderr
            assert name in healthy.stdout
        end = time.monotonic() + DEADLINE
        while documents["coordinator"]["owners"]["present"] != ["owner-1"] and time.monotonic() < end:
            documents["coordinator"] = json.loads(_look(ports["coordinator"]))
        assert documents["coordinator"]["owners"] == {"present": ["owner-1"], "expected": 2}
        plan = make_plan(made.task)
        for name, document in documents.items():
            assert document["name"] == name
            assert document["task"] == {"name": "test", "digest": made.task.digest.hex()}
            assert document["epsilon"] == {"spent": 0.0, "planned": plan.cost.epsilon, "delta": plan.cost.delta}
            assert document["rounds"] == {"done": 0, "planned": 1}
            assert b"mpcdp_session_state" in _look(ports[name], "/metrics")
        assert documents["party-1"]["noise"] == {"free": 0, "used": 0}
        network.start("owner-2")
        results = network.wait(DEADLINE)
    for result in results:
        assert result.exit_code == 0, f"{result.name}: {result.log.read_text()}"
    shown = [entry for result in results for entry in _entries(result.log) if entry["event"] == "status"]
    assert len(shown) == len(results)


def _entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
def test_a_session_ends_well_while_a_member_and_strangers_attack_every_server(tmp_path: Path) -> None:
    """Everything at once, from before the first process listens until after the last one has ended. The attacker has
    the certificate of an owner that takes no part."""
    document = task_document(
        [10, 10, 10],
        parties=2,
        session={"minimum_owners": 2},
        deadlines={"start_seconds": 30.0, "contribution_seconds": 60.0, "round_seconds": 60.0},
    )
    made = make_network(tmp_path, document)
    files = tmp_path / "attacker"
    files.mkdir()
    shutil.copy(made.folder / "owner-3" / "owner-3.crt", files / "certificate.pem")
    shutil.copy(made.folder / "owner-3" / "owner-3.key", files / "key.pem")
    targets = []
    with made.processes() as network:
        names = tuple(name for name in network.names if name != "owner-3")
        for name in names:
            config = load_any_config(_config_of(made, name))
            if config.role != "owner":
                targets.append(("127.0.0.1", int(config.listen.rpartition(":")[2]), _SERVICES[config.role]))
        assert len(targets) == 4
        with attackers(targets, files):
            network.start(*names)
            results = network.wait(2 * DEADLINE)
    for result in results:
        assert result.exit_code == 0, f"{result.name}: {result.log.read_text()[-3000:]}"
    assert len({made.model_path(name).read_bytes() for name in ("coordinator", "owner-1", "owner-2")}) == 1
    for result in results:
        if result.role != "owner":
            assert any(entry.get("caller") == "owner-3" for entry in _entries(result.log)), result.name
        assert result.log.stat().st_size < 100_000
