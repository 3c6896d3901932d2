"""Folders of a running program that hold records: gone at its end, and swept by the next one if it was killed."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mpcdp.private_files import LOCK_FILE, alone_in, make_private_folder

__all__ = ["own_folder", "sweep"]

_UNFINISHED = ".new-"


@contextmanager
def own_folder(path: Path) -> Iterator[None]:
    """Make a folder for this program alone, and remove it with all it holds when the context ends.

    Raises:
        OSError: it cannot be made, or is there already.
    """
    make_private_folder(path.parent)
    # Under another name until it is locked: `sweep` must never find it without its owner.
    fresh = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=path.parent))
    with alone_in(fresh):
        fresh.rename(path)
        try:
            yield
        finally:
            shutil.rmtree(path, ignore_errors=True)


def sweep(folders: Iterable[Path]) -> None:
    """Remove those folders of `own_folder` whose programs ended without doing so: killed, or by a power cut.

    Others are left alone: those of programs that run, of other users, and whatever `own_folder` did not make.
    """
    for folder in folders:
        if folder.name.startswith(_UNFINISHED) or folder.is_symlink() or not (folder / LOCK_FILE).is_file():
            continue
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with alone_in(folder):
                shutil.rmtree(folder)
        except OSError:  # somebody is in there, or sweeps it as well
            continue
