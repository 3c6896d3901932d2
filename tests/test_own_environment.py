"""Environments of their own: made once, remade for other requirements, never half made; and what runs in them."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from mpcdp import own_environment as module
from mpcdp.errors import PeerError, PeerTimeout
from mpcdp.own_environment import own_environment, run_alone


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(name="commands")
def _commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record what would be run; making an environment leaves a file where its Python is."""
    commands: list[list[str]] = []

    def run(command: list[str], *, seconds: float) -> str:
        assert seconds > 0
        commands.append(command)
        if command[1:3] == ["-m", "venv"]:
            python = Path(command[3]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()
        if "broken==1" in command:
            raise PeerError("python", "no such thing")
        return ""

    monkeypatch.setattr(module, "run_alone", run)
    return commands


def test_an_environment_is_made_once_for_the_same_requirements(commands: list[list[str]], tmp_path: Path) -> None:
    python = own_environment("x", ["a==1"], seconds=60)
    assert python == tmp_path / "cache" / "mpcdp" / "x" / "bin" / "python"
    assert [command[-1] for command in commands] == [str(python.parent.parent), "a==1"]
    assert own_environment("x", ["a==1"], seconds=60) == python
    assert len(commands) == 2
    left = python.parent / "left"
    left.touch()
    own_environment("x", ["a==2"], seconds=60)
    assert len(commands) == 4
    assert not left.exists()
    python.unlink()
    own_environment("x", ["a==2"], seconds=60)
    assert len(commands) == 6


def test_half_an_environment_is_not_taken_for_one(commands: list[list[str]]) -> None:
    for _ in range(2):
        with pytest.raises(PeerError, match="no such thing"):
            own_environment("x", ["broken==1"], seconds=60)
    assert len(commands) == 4


def test_the_cache_is_in_the_home_folder_unless_told(commands: list[list[str]], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_CACHE_HOME")
        patch.setenv("HOME", str(tmp_path / "home"))
        python = own_environment("x", [], seconds=60)
    assert python == tmp_path / "home" / ".cache" / "mpcdp" / "x" / "bin" / "python"
    assert len(commands) == 1  # nothing to install


def test_another_process_that_makes_it_is_waited_for_until_the_deadline(
    commands: list[list[str]], tmp_path: Path
) -> None:
    lock = tmp_path / "cache" / "mpcdp" / "x.lock"
    lock.parent.mkdir(parents=True)
    holds = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(PeerTimeout, match=r"x: another process .*x\.lock"):
            own_environment("x", [], seconds=0.3)
        assert not commands
        other.stdin.write(b"\n")
    own_environment("x", [], seconds=60)
    assert len(commands) == 1


def test_a_program_runs_without_our_python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("MPCDP_OTHER", "kept")
    program = "import json, os; print(json.dumps([os.environ.get('PYTHONPATH'), os.environ['MPCDP_OTHER']]))"
    assert json.loads(run_alone([sys.executable, "-c", program], seconds=60)) == [None, "kept"]


def test_a_program_that_fails_says_why() -> None:
    program = "import sys; sys.stderr.write('ERROR: the cause\\nchatter\\n'); sys.exit(7)"
    with pytest.raises(PeerError, match=r"failed \(7\).*: ERROR: the cause$") as failed:
        run_alone([sys.executable, "-c", program], seconds=60)
    assert failed.value.peer == Path(sys.executable).name
    with pytest.raises(PeerError, match="cannot be started: No such file"):
        run_alone(["/nowhere/python"], seconds=60)


def test_a_late_program_ends_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    with pytest.raises(PeerTimeout, match="sh: took longer than 2 s"):
        run_alone(["sh", "-c", f"sleep 60 & echo $! > '{child}'; wait"], seconds=2)
    number = int(child.read_text())
    deadline = time.monotonic() + 20
    while _runs(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(number)


def test_nothing_of_a_program_outlives_it(tmp_path: Path) -> None:
    child = tmp_path / "child"
    assert run_alone(["sh", "-c", f"sleep 60 & echo $! > '{child}'; echo done"], seconds=20) == "done\n"
    deadline = time.monotonic() + 20
    while _runs(int(child.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(int(child.read_text()))


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{number}/stat").read_text().split()[2]


@pytest.mark.slow
def test_a_real_environment_has_what_was_asked_for_and_nothing_of_ours(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_thing.py", "value = 42\n")
        information = "tiny_thing-1.0.dist-info"
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", f"tiny_thing.py,,\n{information}/METADATA,,\n{information}/WHEEL,,\n")
    python = own_environment("tiny", [str(wheel)], seconds=280)
    program = "import importlib.util, tiny_thing; print(tiny_thing.value, importlib.util.find_spec('numpy'))"
    assert run_alone([str(python), "-I", "-c", program], seconds=60) == "42 None\n"
    with pytest.raises(PeerError, match=r"missing-1\.0"):
        own_environment("tiny", [str(tmp_path / "missing-1.0-py3-none-any.whl")], seconds=280)
