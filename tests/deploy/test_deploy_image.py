"""The image and the compose file: nothing runs as root, writes where it should not, or is open to the outside."""

import fnmatch
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from deployment import CONFIGS, DEPLOY, ROOT, callers_and_called, compose, tool

from mpcdp.config import load_config
from mpcdp.local_network import create_network, hosts_by_name
from mpcdp.task import load_task

_ENVIRONMENT = {"MPCDP_NETWORK": "/net", "MPCDP_USER": "1000:1000"}


def _instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [(name, argument) for name, _, argument in (line.partition(" ") for line in lines)]


def _final_stage() -> list[tuple[str, str]]:
    instructions = _instructions()
    last = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[last:]


def _services() -> dict[str, Any]:
    services: dict[str, Any] = compose(_ENVIRONMENT)["services"]
    return services


def _role(service: Any) -> str:
    return str(service["command"][0]).removeprefix("parties.")


class TestImage:
    def test_it_runs_as_a_numeric_user_that_is_not_root(self) -> None:
        (user,) = [argument for name, argument in _final_stage() if name == "USER"]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
        after = [name for name, _ in _final_stage()]
        assert set(after[after.index("USER") :]) <= {"USER", "WORKDIR", "ENTRYPOINT", "CMD"}

    def test_the_final_image_installs_nothing(self) -> None:
        """No compiler, no package manager's work, no source: only what the first stage made."""
        runs = [argument for name, argument in _final_stage() if name == "RUN"]
        assert [run for run in runs if re.search(r"apt|pip|gcc|build-essential|curl", run)] == []
        copies = [argument for name, argument in _final_stage() if name in ("COPY", "ADD")]
        assert copies == ["--from=build /opt/mpcdp /opt/mpcdp"]

    def test_dependencies_are_the_tested_ones(self) -> None:
        installs = [argument for name, argument in _instructions() if name == "RUN" and "pip install" in argument]
        assert len(installs) == 1
        assert "--constraint constraints.txt" in installs[0]

    def test_the_base_is_named_by_tag_and_all_stages_share_it(self) -> None:
        (base,) = [argument for name, argument in _instructions() if name == "ARG" and argument.startswith("BASE=")]
        assert re.fullmatch(r"BASE=python:3\.\d+-slim-[a-z]+", base)
        bases = [argument.split()[0] for name, argument in _instructions() if name == "FROM"]
        assert bases == ["${BASE}", "${BASE}"]

    def test_the_role_is_the_command(self) -> None:
        stage = dict(_final_stage())
        assert stage["ENTRYPOINT"] == '["python", "-m"]'
        for role in CONFIGS:
            assert (ROOT / "parties" / role / "__main__.py").is_file()

    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        copied = [
            source
            for name, argument in _instructions()
            if name == "COPY" and not argument.startswith("--from")
            for source in shlex.split(argument)[:-1]
        ]
        needed = {"pyproject.toml", "constraints.txt", "mpcdp", "parties"}
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert set(copied) == needed | {project["readme"], *project["license-files"]}
        for source in copied:
            assert (ROOT / source).exists()
            assert not _ignored(source)

    @pytest.mark.parametrize(
        "path",
        [
            ".git/config",
            ".venv/bin/python",
            "net/authority/authority.key",
            "table.csv",
            "mpcdp/a.key",
            "parties/owner/state/ledger.db",
            "parties/owner/owner.pem",
            "tests/test_config.py",
            "deploy/compose.yaml",
        ],
    )
    def test_keys_state_and_everything_else_stay_out(self, path: str) -> None:
        assert _ignored(path)

    def test_hadolint(self) -> None:
        done = subprocess.run([tool("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def _ignored(path: str) -> bool:
    """Apply .dockerignore: the last line that matches the path or a folder above it decides."""
    ignored = False
    parts = Path(path).parts
    candidates = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        names = [name.rpartition("/")[2] if "**/" in line else name for name in candidates]
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            ignored = not line.startswith("!")
    return ignored


class TestCompose:
    @pytest.mark.parametrize("name", sorted(_services()))
    def test_every_process_is_locked_in(self, name: str) -> None:
        service = _services()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "1000:1000"
        assert service["restart"] == "no"
        assert service["ulimits"] == {"core": 0}
        assert service["mem_limit"] == service["memswap_limit"]
        assert {"ports", "privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service) == set()

    def test_servers_are_asked_for_their_health_and_owners_are_not(self) -> None:
        for service in _services().values():
            if _role(service) == "owner":
                assert "healthcheck" not in service
            else:
                config = service["command"][2]
                assert service["healthcheck"]["test"] == [
                    "CMD",
                    "mpcdp",
                    "health",
                    "--config",
                    config,
                    "--seconds",
                    "10",
                ]

    def test_there_is_room_for_a_thread_for_each_call(self) -> None:
        """Threads count as processes: a hundred owners may have 400 calls under way."""
        for service in _services().values():
            assert service["pids_limit"] >= 4096

    def test_the_user_has_to_be_said(self) -> None:
        """Without it, a container would run as the image's user, who cannot read the keys."""
        with pytest.raises(KeyError, match="MPCDP_USER"):
            compose({"MPCDP_NETWORK": "/net"})

    def test_networks_are_internal_and_join_only_those_who_talk(self) -> None:
        content = compose(_ENVIRONMENT)
        assert all(network == {"internal": True} for network in content["networks"].values())
        together = {
            (_role(one), _role(two))
            for name, one in content["services"].items()
            for other, two in content["services"].items()
            if name != other and set(one["networks"]) & set(two["networks"])
        }
        calls = callers_and_called()
        assert calls <= together
        # Owners share a network with each other, where none of them listens.
        assert {pair for pair in together if pair not in calls and pair[::-1] not in calls} == {("owner", "owner")}

    def test_every_process_of_the_sample_task_finds_its_files(self, tmp_path: Path) -> None:
        """What `mpcdp network new --port` writes is what the containers mount, and nobody gets another's key."""
        network = tmp_path / "net"
        create_network(network, ROOT / "parties" / "task.toml", sites=hosts_by_name(5001))
        services = compose({**_ENVIRONMENT, "MPCDP_NETWORK": str(network)})["services"]
        members = {member.name: member.role for member in load_task(ROOT / "parties" / "task.toml").members()}
        assert {name: _role(service) for name, service in services.items()} == members
        for name, service in services.items():
            mounts = dict(reversed(mount.split(":")[:2]) for mount in service["volumes"])
            writable = [mount.split(":")[1] for mount in service["volumes"] if not mount.endswith(":ro")]
            inside = f"/etc/mpcdp/{name}"
            assert writable == [f"{inside}/state"]
            assert mounts == {
                "/etc/mpcdp/task.toml": f"{network}/task.toml",
                inside: f"{network}/{name}",
                f"{inside}/state": f"{network}/{name}/state",
            }
            assert all(Path(source).exists() for source in mounts.values())
            role = members[name]
            assert service["command"] == [f"parties.{role}", "--config", f"{inside}/{role}.toml"]
            config = load_config(network / name / f"{role}.toml", CONFIGS[role])
            assert config.state == network / name / "state"
            assert set(config.peers) <= set(services)

    def test_docker_compose_accepts_it(self) -> None:
        command = [tool("docker"), "compose"]
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode != 0:
            pytest.skip("docker compose is not installed")
        environment = {**os.environ, **_ENVIRONMENT}
        done = subprocess.run(
            [*command, "--file", DEPLOY / "compose.yaml", "config", "--quiet"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
