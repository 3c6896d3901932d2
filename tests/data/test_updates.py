"""Updates in a folder: written once, for one user, waited for, and of the task's size."""

from pathlib import Path

import numpy as np
import pytest

from mpcdp.data.updates import UpdateFolder
from mpcdp.errors import DataError, PeerTimeout


def _folder(path: Path, *, patience: float = 0.0, **arguments: object) -> UpdateFolder:
    return UpdateFolder(path, dimension=2, patience_seconds=patience, **arguments)  # type: ignore[arg-type]


def test_an_update_is_kept_bit_for_bit_and_for_its_user_alone(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "new" / "updates")
    update = np.array([-0.0, np.nextafter(1.0, 2.0)])
    assert not folder.stored(3)
    folder.store(3, update)
    assert folder.update(3).tobytes() == update.tobytes()
    assert folder.stored(3)
    assert not folder.stored(2)
    [file] = (tmp_path / "new" / "updates").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_an_update_is_never_replaced(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    folder.store(0, np.array([1.0, 2.0]))
    folder.store(0, np.array([3.0, 4.0]))
    assert folder.update(0).tolist() == [1.0, 2.0]


def test_an_update_is_waited_for(tmp_path: Path) -> None:
    other, pauses = _folder(tmp_path), []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            other.store(1, np.array([5.0, 6.0]))

    assert _folder(tmp_path, patience=60.0, pause=pause).update(1).tolist() == [5.0, 6.0]
    assert len(pauses) == 3


def test_one_that_does_not_come_ends_the_wait_by_name(tmp_path: Path) -> None:
    with pytest.raises(PeerTimeout, match=r"round 1 came to .*deadlines") as error:
        _folder(tmp_path).update(1)
    assert error.value.final


def test_updates_of_another_size_are_refused_both_ways(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 coordinates, the task says 2"):
        _folder(tmp_path).store(0, np.zeros(3))
    UpdateFolder(tmp_path, dimension=3, patience_seconds=0.0).store(0, np.zeros(3))
    with pytest.raises(DataError, match="24 bytes"):
        _folder(tmp_path).update(0)


def test_it_is_no_table_and_shows_nothing(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert repr(folder) == "UpdateFolder(<redacted>, dimension=2)"
    with pytest.raises(DataError, match="no table"):
        folder.in_memory()
    with pytest.raises(DataError, match="no table"):
        folder.map_blocks(lambda block, first: np.zeros(1), 1)
