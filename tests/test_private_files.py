"""Files that others cannot read and a power cut does not lose."""

import os
from pathlib import Path

import pytest

from mpcdp.private_files import make_private_file, make_private_folder, write_private_file


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_and_folders_are_for_their_user_alone(tmp_path: Path) -> None:
    make_private_file(tmp_path / "state" / "a.db")
    assert (_mode(tmp_path / "state"), _mode(tmp_path / "state" / "a.db")) == (0o700, 0o600)
    (tmp_path / "b").write_text("old")
    (tmp_path / "b").chmod(0o644)
    make_private_file(tmp_path / "b")
    assert (_mode(tmp_path / "b"), (tmp_path / "b").read_text()) == (0o600, "old")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_private_file(path, b"one")
    assert (path.read_bytes(), _mode(path)) == (b"one", 0o600)

    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="full"):
            write_private_file(path, b"two")
    assert path.read_bytes() == b"one"
    write_private_file(path, b"three")
    assert path.read_bytes() == b"three"


def test_names_and_contents_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content before the name, and the name's folder after it."""
    steps: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        steps.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    make_private_folder(tmp_path / "new")
    write_private_file(tmp_path / "new" / "file", b"content")
    assert steps == [str(tmp_path), str(tmp_path / "new" / "file.part"), str(tmp_path / "new")]
