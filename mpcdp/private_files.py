"""Files of one user that survive a power cut: what a process must remember, and nobody else may read."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK_FILE", "alone_in", "make_private_file", "make_private_folder", "sync_folder", "write_private_file"]

LOCK_FILE = "process.lock"
"""In a folder that one process at a time may use."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if it is missing, until the context ends.

    Raises:
        BlockingIOError: another process is in there.
    """
    path = folder / LOCK_FILE
    make_private_file(path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system gives it back however the process ends
        yield


def make_private_folder(folder: Path) -> None:
    """Make a folder for its user alone, with the folders above it, if it is missing."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)


def make_private_file(path: Path) -> None:
    """Make an empty file (and its folder) for its user alone, or take the access of others to an existing one away."""
    make_private_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    sync_folder(path.parent)


def write_private_file(path: Path, content: bytes) -> None:
    """Write a file for its user alone, whole or not at all; it is on disk when this returns."""
    make_private_folder(path.parent)
    temporary = path.with_name(path.name + ".part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """See a folder's names on disk: a new file is lost with its name otherwise."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
