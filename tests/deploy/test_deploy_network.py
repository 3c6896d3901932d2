"""The guide's section 7, run: the processes of compose.yaml train a model, each in namespaces of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_network import ComposeNetwork, why_not
from deployment import ROOT, callers_and_called, code_blocks, compose, section

from mpcdp.local_network import create_network, hosts_by_name
from mpcdp.task import Task, load_task

pytestmark = pytest.mark.slow
_USER = 10001


def _programs() -> list[Path]:
    """This machine's programs, this Python with its packages, and mpcdp."""
    system = [Path(name) for name in ("/usr", "/bin", "/lib", "/lib64") if Path(name).exists()]
    python = [Path(sys.prefix), Path(sys.base_prefix), ROOT]
    return system + [path for path in dict.fromkeys(python) if not path.is_relative_to("/usr")]


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(ROOT / "parties" / "task.toml")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ComposeNetwork, dict[str, int], Path]]:
    """Follow the guide, and wait for the end of the session."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("compose")
    create_network(folder / "net", ROOT / "parties" / "task.toml", sites=hosts_by_name(5001))
    (block,) = (block for block in code_blocks(section(7), "console") if "awk" in block)
    (tables,) = re.findall(r"^\$ (for owner.*?^> done)$", block, re.MULTILINE | re.DOTALL)
    subprocess.run(["/bin/sh", "-euc", tables.replace("\n> ", "\n")], cwd=folder, check=True)
    for path in (folder / "net", *(folder / "net").rglob("*")):
        os.chown(path, _USER, _USER)
    content = compose({"MPCDP_NETWORK": str(folder / "net"), "MPCDP_USER": f"{_USER}:{_USER}"})
    with ComposeNetwork(content, folder, programs=_programs()) as running:
        codes = running.wait(150)
        yield running, codes, folder / "net"


def test_the_session_ends_with_one_model_for_everybody(
    network: tuple[ComposeNetwork, dict[str, int], Path], task: Task
) -> None:
    running, codes, folder = network
    assert codes == {member.name: 0 for member in task.members()}, {
        name: running.log(name)[-500:] for name, code in codes.items() if code != 0
    }
    models = {path.read_bytes() for path in folder.glob("*/state/model.json")}
    assert len(models) == 1


def test_only_the_declared_ports_were_open(network: tuple[ComposeNetwork, dict[str, int], Path], task: Task) -> None:
    running, _, _ = network
    for member in task.members():
        assert running.sockets[member.name].listening == (set() if member.role == "owner" else {5001})
        # Each namespace has one process in it. Names come from /etc/hosts, so that not even a resolver is asked.
        assert running.sockets[member.name].others == set()


def test_connections_were_those_of_the_firewall_table(
    network: tuple[ComposeNetwork, dict[str, int], Path], task: Task
) -> None:
    """Between compute parties, the one that the task lists later calls."""
    running, _, _ = network
    order = [member.name for member in task.members()]
    called = {(name, other) for name, sockets in running.sockets.items() for other, _ in sockets.called}
    assert called == {
        (caller.name, server.name)
        for caller in task.members()
        for server in task.members()
        if (caller.role, server.role) in callers_and_called()
        and (caller.role != server.role or order.index(server.name) < order.index(caller.name))
    }
    assert {port for sockets in running.sockets.values() for _, port in sockets.called} == {5001}
