"""Folders that hold owners' rows: gone with the program that made them, even if it was killed."""

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mpcdp.estimators import Federation
from mpcdp.estimators.own_folder import own_folder, sweep
from mpcdp.private_files import LOCK_FILE

_PROGRAM = """
import runpy, sys
from pathlib import Path
own_folder = runpy.run_path(sys.argv[2])["own_folder"]  # alone: the estimators take seconds to import
with own_folder(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "owner-1.parquet").write_text("rows")
    print("ready", flush=True)
    sys.stdin.read()
"""
_OWN_FOLDER = str(Path(inspect.getfile(Federation)).with_name("own_folder.py"))


@contextmanager
def _program(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a program that has a folder of its own, until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(folder), _OWN_FOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_it_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "sessions" / "fit-1"
    with own_folder(folder):
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "table").touch()
    assert not folder.exists()
    with pytest.raises(KeyError), own_folder(folder):
        raise KeyError("what the program did in there failed")
    assert not any((tmp_path / "sessions").iterdir())


def test_the_next_federation_removes_what_a_killed_program_left_and_nothing_else(tmp_path: Path) -> None:
    dead, strange = tmp_path / "sessions" / "fit-dead", tmp_path / "sessions" / "not-ours"
    strange.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / LOCK_FILE).touch()
    (tmp_path / "sessions" / "link").symlink_to(outside)
    with own_folder(tmp_path / "sessions" / "fit-here"), _program(dead) as program:
        Federation.local(folder=tmp_path)
        assert (dead / "owner-1.parquet").is_file()  # its program runs
        program.kill()
        program.wait()
        assert (dead / "owner-1.parquet").is_file()
        Federation.local(folder=tmp_path)
        left = {path.name for path in (tmp_path / "sessions").iterdir()}
        assert left == {"fit-here", "not-ours", "link"}
        assert (outside / LOCK_FILE).is_file()


@pytest.mark.parametrize("make", [Federation.local, Federation.in_process])
def test_temporary_federations_of_killed_programs_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / "mpcdp-federation-dead"
    with _program(dead):
        pass
    assert dead.is_dir()
    living = [make() for _ in range(2)]
    assert not dead.exists()
    assert {path.name for path in tmp_path.iterdir()} == {federation.folder.name for federation in living}
    sweep(tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2
