"""The systemd unit: one user for each role, started once, locked in."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest
from deployment import CONFIGS, DEPLOY, tool

_UNIT = DEPLOY / "systemd" / "mpcdp@.service"
_USERS = DEPLOY / "systemd" / "mpcdp.conf"


def _service() -> dict[str, list[str]]:
    """Return the settings of [Service]; several can have one name."""
    settings: dict[str, list[str]] = {}
    text = _UNIT.read_text().partition("[Service]\n")[2]
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


@pytest.fixture
def unit_here(tmp_path: Path) -> Path:
    """The unit as an instance that this machine can check: with a program and a user that exist."""
    text = _UNIT.read_text().replace("/opt/mpcdp/bin/python", sys.executable).replace("mpcdp-%i", "daemon")
    path = tmp_path / "mpcdp@compute.service"
    path.write_text(text)
    return path


def test_a_process_is_started_by_a_person_and_again_only_when_it_was_killed() -> None:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.read(_UNIT)
    assert set(parser.sections()) == {"Unit", "Service"}
    service = _service()
    assert service["Restart"] == ["on-abnormal"]
    assert service["ExecStart"] == ["/opt/mpcdp/bin/python -m parties.%i --config /etc/mpcdp/%i/%i.toml"]


def test_every_role_has_a_user_of_its_own() -> None:
    assert _service()["User"] == _service()["Group"] == ["mpcdp-%i"]
    users = [line.split()[:2] for line in _USERS.read_text().splitlines() if not line.startswith("#")]
    assert sorted(users) == sorted(["u", f"mpcdp-{role}"] for role in CONFIGS)


def test_only_the_state_can_be_written() -> None:
    service = _service()
    assert service["ProtectSystem"] == ["strict"]
    assert service["StateDirectory"] == ["mpcdp/%i"]
    assert service["StateDirectoryMode"] == ["0700"]
    assert {"ReadWritePaths", "RuntimeDirectory", "LogsDirectory", "CacheDirectory"} & set(service) == set()


def test_secrets_in_memory_reach_no_disk() -> None:
    assert _service()["LimitCORE"] == _service()["MemorySwapMax"] == ["0"]


def test_systemd_accepts_the_unit(unit_here: Path) -> None:
    command = [tool("systemd-analyze"), "verify", "--man=no", str(unit_here)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_little_exposed(unit_here: Path) -> None:
    """A unit without any of these settings scores 9.2 of 10, or 92 here."""
    command = [tool("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager", str(unit_here)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_systemd_accepts_the_users(tmp_path: Path) -> None:
    command = [tool("systemd-sysusers"), "--dry-run", f"--root={tmp_path}", str(_USERS)]
    if "--dry-run" not in subprocess.run([command[0], "--help"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("this systemd-sysusers has no --dry-run")
    (tmp_path / _USERS.relative_to("/").parent).mkdir(parents=True)
    (tmp_path / _USERS.relative_to("/")).write_text(_USERS.read_text())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for role in CONFIGS:
        assert f"Creating user 'mpcdp-{role}'" in done.stdout + done.stderr


def test_there_is_room_for_a_thread_for_each_call() -> None:
    """Threads count as tasks: a hundred owners may have 400 calls under way."""
    assert int(_service()["TasksMax"][0]) >= 4096
