"""``mpcdp noise`` with real processes: filled, looked at, interrupted, discarded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from mpcdp.cli import application
from mpcdp.errors import ConfigError, InputError, MpcdpError, PolicyError
from mpcdp.local_network import create_network
from mpcdp.mpc.noise_bank import pool_state
from mpcdp.roles.noise_fill import pool_of
from mpcdp.task import load_task

_PARTIES = ("party-1", "party-2")


def _document(**changes: Any) -> dict[str, Any]:
    return {
        "task": {"version": 1, "name": "noise"},
        "model": {"kind": "logistic-regression", "regularization": 0.1, "certificate": 1e-6},
        "method": {"kind": "output-perturbation"},
        "privacy": {"epsilon": 1.0, "delta": 1e-6, "mechanism": "gaussian", "noise": "joint"},
        "schema": {
            "label": {"column": "label", "classes": ["no", "yes"]},
            "features": [{"name": "x", "lower": -1.0, "upper": 1.0}],
        },
        "deadlines": {"start_seconds": 120.0, "contribution_seconds": 60.0, "round_seconds": 60.0},
        "coordinator": {"name": "coordinator"},
        "dealer": {"name": "dealer"},
        "compute_parties": [{"name": name} for name in _PARTIES],
        "owners": [{"name": "owner-1", "record_count": 20}, {"name": "owner-2", "record_count": 30}],
        **changes,
    }


@pytest.fixture(name="network")
def _network(tmp_path: Path) -> Path:
    (tmp_path / "task.toml").write_bytes(tomli_w.dumps(_document()).encode())
    create_network(tmp_path / "network", tmp_path / "task.toml")
    return tmp_path / "network"


def _mpcdp(*arguments: object, answer: str | None = None) -> str:
    result = CliRunner().invoke(application(), ["noise", *map(str, arguments)], input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def _pools(network: Path) -> dict[tuple[str, str], dict[str, Any]]:
    pools = json.loads(_mpcdp("status", "--network", network, "--json"))["pools"]
    return {(pool["party"], pool["distribution"]): pool for pool in pools}


def test_a_party_makes_no_noise_for_a_task_outside_its_policy(network: Path) -> None:
    config = network / "party-1" / "compute.toml"
    config.write_text(config.read_text() + "\n[policy]\nepsilon = 0.5\nowners = 3\n")
    with pytest.raises(PolicyError, match=r"(?s)policy\.epsilon: .*policy\.owners: at least 3"):
        _mpcdp("fill", "--config", config, "--samples", 1000)


@pytest.mark.slow  # between threads: tests/roles/test_noise_fill.py
def test_pools_are_filled_looked_at_and_destroyed(network: Path) -> None:
    assert {pool["ready"] for pool in _pools(network).values()} == {0}
    figures = json.loads(_mpcdp("fill", "--network", network, "--samples", 5000, "--json"))
    assert figures["samples"] == 5120
    assert figures["samples_per_second"] == pytest.approx(5120 / figures["seconds"])
    assert {name: (own["ready"], own["free"]) for name, own in figures["parties"].items()} == {
        "party-1": (5120, 5120),
        "party-2": (5120, 5120),
    }
    pools = _pools(network)
    for party in _PARTIES:
        pool = pools[party, "gaussian"]
        assert pool["bank"] == figures["parties"]["party-1"]["bank"]
        # Two coordinates; a session takes whole blocks of 1024 samples.
        assert (pool["ready"], pool["reserved"], pool["rounds"], pool["sessions"]) == (5120, 0, 2560, 5)
        assert pools[party, "laplace"]["ready"] == 0
    shown = _mpcdp("status", "--config", network / "party-1" / "compute.toml")
    assert "5,120" in shown
    assert "party-2" not in shown
    assert "Destroy 5,120 samples" in _mpcdp("discard", "--network", network, answer="y\ny\n")
    assert {pool["ready"] for pool in _pools(network).values()} == {0}
    assert list(network.glob("*/state/noise/*/*.noise")) == []


def test_no_means_no(network: Path) -> None:
    result = CliRunner().invoke(application(), ["noise", "discard", "--network", str(network)], input="n\nn\n")
    assert result.exit_code == 0
    assert "party-1: kept" in result.output


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("status",), InputError, "either --config FILE"),
        (("status", "--config", "c.toml", "--network", "n"), InputError, "either --config FILE"),
        (("fill", "--samples", "5", "--network", "nowhere"), InputError, "holds no network"),
        (("fill", "--samples", "5", "--config", "nowhere.toml"), ConfigError, "nowhere.toml: cannot be read"),
        (("status", "--config", "{network}/dealer/dealer.toml"), ConfigError, "the dealer keeps no noise"),
        (("fill", "--samples", "5", "--config", "{network}/owner-1/owner.toml"), ConfigError, "got 'owner'"),
    ],
)
def test_wrong_arguments_are_named(
    network: Path, arguments: tuple[str, ...], error: type[MpcdpError], words: str
) -> None:
    with pytest.raises(error, match=words):
        _mpcdp(*(argument.format(network=network) for argument in arguments))


def _start(network: Path, name: str, role: str, samples: int) -> "subprocess.Popen[bytes]":
    program = [sys.executable, "-c", "from mpcdp.cli import main; main()", "noise", "fill", "--samples", str(samples)]
    with (network / name / "fill.log").open("wb") as log:
        return subprocess.Popen(
            [*program, "--config", str(network / name / f"{role}.toml")],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )


@pytest.mark.slow
def test_a_killed_filling_leaves_nothing_and_is_done_again(network: Path) -> None:
    task = load_task(network / "task.toml")
    folders = [pool_of(task, party, network / party / "state", "gaussian") for party in _PARTIES]
    roles = {"dealer": "dealer", "party-1": "compute", "party-2": "compute"}
    processes = {name: _start(network, name, role, 3_000_000) for name, role in roles.items()}
    try:
        end = time.monotonic() + 120
        while not (made := list(folders[1].glob("*.noise"))) or made[0].stat().st_size < 1 << 20:
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(processes["party-2"].pid, signal.SIGKILL)
        assert processes["party-1"].wait(60) == 4
        assert "party-2" in (network / "party-1" / "fill.log").read_text()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    figures = json.loads(_mpcdp("fill", "--network", network, "--samples", 2048, "--json"))
    assert figures["parties"]["party-1"]["ready"] % 1024 == 0
    states = [pool_state(folder) for folder in folders]
    assert states[0] == states[1]
    assert states[0].made - states[0].ready >= 1 << 20  # at least the batch that was under way is burnt
    assert all(len(list(folder.glob("*.noise"))) == len(states[0].batches) for folder in folders)
