"""`mpcdp network new` makes a network that every process can read, and never overwrites one."""

import stat
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from mpcdp.cli.network import app
from mpcdp.config import ComputePartyConfig, Config, CoordinatorConfig, DealerConfig, OwnerConfig, load_config
from mpcdp.errors import ConfigError
from mpcdp.local_network import create_network, hosts_by_name
from mpcdp.task import Task, load_task
from mpcdp.transport.channel import Role
from mpcdp.transport.tls import load_credentials

_CONFIGS: dict[Role, type[Config]] = {
    "owner": OwnerConfig,
    "compute": ComputePartyConfig,
    "dealer": DealerConfig,
    "coordinator": CoordinatorConfig,
}


@pytest.fixture
def task_path(tmp_path: Path) -> Path:
    document = {
        "task": {"version": 1, "name": "x" * 63},
        "model": {"kind": "logistic-regression", "regularization": 0.1, "certificate": 1e-7},
        "method": {"kind": "output-perturbation"},
        "privacy": {"epsilon": 1.0, "delta": 1e-6, "mechanism": "gaussian", "noise": "joint"},
        "schema": {
            "row_radius": 2.0,
            "label": {"column": "label", "classes": ["no", "yes"]},
            "features": [{"name": "x", "lower": -1.0, "upper": 1.0}],
        },
        "coordinator": {"name": "coordinator", "certificate": "coordinator.example.org"},
        "dealer": {"name": "dealer"},
        "compute_parties": [{"name": "party-1"}, {"name": "party-2"}],
        "owners": [{"name": "owner-1", "record_count": 100}, {"name": "owner-2", "record_count": 200}],
    }
    path = tmp_path / "task.toml"
    path.write_bytes(tomli_w.dumps(document).encode())
    return path


def _configs(directory: Path, task: Task) -> dict[str, Config]:
    return {
        member.name: load_config(directory / member.name / f"{member.role}.toml", _CONFIGS[member.role])
        for member in task.members()
    }


def test_every_process_gets_what_it_needs(tmp_path: Path, task_path: Path) -> None:
    directory = tmp_path / "network"
    table = tmp_path / "records.csv"
    table.write_text("")
    create_network(directory, task_path, tables={"owner-1": table})
    task = load_task(task_path)
    configs = _configs(directory, task)
    listening = set()
    for member in task.members():
        config = configs[member.name]
        assert config.name == member.name
        load_credentials(config.tls, name=member.certificate)
        assert load_task(config.task).digest == task.digest
        if isinstance(config, OwnerConfig):
            assert not hasattr(config, "listen")
        else:
            assert isinstance(config, ComputePartyConfig | DealerConfig | CoordinatorConfig)
            host, _, port = config.listen.rpartition(":")
            assert host == "127.0.0.1"
            listening.add(port)
            for other in configs.values():
                assert other.peers.get(member.name, config.listen) == config.listen
    assert len(listening) == 4
    assert isinstance(configs["owner-1"], OwnerConfig)
    assert configs["owner-1"].table == table
    assert isinstance(configs["owner-2"], OwnerConfig)
    assert configs["owner-2"].table == directory / "owner-2" / "table.csv"


def test_keys_are_private_and_stay_out_of_git(tmp_path: Path, task_path: Path) -> None:
    directory = tmp_path / "network"
    create_network(directory, task_path)
    private = [path for path in directory.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert len(private) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert (directory / ".gitignore").read_text() == "*\n"
    contents = [path.read_bytes() for path in private]
    assert len(set(contents)) == 7


def test_a_folder_in_use_is_refused(tmp_path: Path, task_path: Path) -> None:
    directory = tmp_path / "network"
    create_network(directory, task_path)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="not empty"):
        create_network(directory, task_path)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_the_command_does_it(tmp_path: Path, task_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", str(tmp_path / "network"), "--task", str(task_path)])
    assert result.exit_code == 0, result.output
    assert set(_configs(tmp_path / "network", load_task(task_path))) >= {"coordinator", "owner-1"}


def test_in_containers_every_process_has_a_host_of_its_own(tmp_path: Path, task_path: Path) -> None:
    directory = tmp_path / "network"
    result = CliRunner().invoke(app, ["new", str(directory), "--task", str(task_path), "--port", "5001"])
    assert result.exit_code == 0, result.output
    configs = _configs(directory, load_task(task_path))
    servers = {"coordinator", "dealer", "party-1", "party-2"}
    for name, config in configs.items():
        assert config.peers == {server: f"{server}:5001" for server in servers - {name}}
        assert getattr(config, "listen", None) == ("0.0.0.0:5001" if name in servers else None)
        assert stat.S_IMODE((directory / name / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_does_not_exist_is_refused_before_anything_is_made(
    tmp_path: Path, task_path: Path, port: int
) -> None:
    with pytest.raises(ConfigError, match=f"port {port}: give one from 1 to 65535"):
        create_network(tmp_path / "network", task_path, sites=hosts_by_name(port))
    assert not (tmp_path / "network").exists()
