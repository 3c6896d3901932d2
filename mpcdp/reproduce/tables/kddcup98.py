"""KDD Cup 1998: how much does a person give? From a user's own copy; it may not be redistributed.

The file is ``cup98LRN.txt`` of the UCI KDD archive: 95,412 records, a header, 481 columns. As the paper says no more
than "d = 95 after PCA", this is one way to read it: columns of numbers are standardised, blanks being their means,
columns of few texts become one coordinate for each text, and the 94 directions of most variance are kept, to which the
bias is added. All of it looks at every record, which only public data allow.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import DataError
from mpcdp.reproduce.tables.table import BenchmarkTable, make_table, read_text_rows

__all__ = ["KDDCUP98_FILES", "load_kddcup98"]

KDDCUP98_FILES = ("cup98LRN.txt", "cup98lrn.txt", "cup98LRN.csv.gz")
"""What the file may be called."""

_TARGET = "TARGET_D"
_LEFT_OUT = ("CONTROLN", "TARGET_B", _TARGET)
_TRAINING, _TEST = 50_000, 20_000
_DIRECTIONS = 94
_MOST_TEXTS = 60
_LARGEST_GIFT = 50.0
_SPREAD = 3.0  # a direction's bounds, in standard deviations


def load_kddcup98(folder: Path | None, *, training: int = _TRAINING, test: int = _TEST) -> BenchmarkTable:
    """Return 50,000 and 20,000 random records.

    Args:
        folder: that of the user's file.
        training: number of training records.
        test: number of test records.

    Raises:
        DataError: no folder is given, it holds no such file, or the file lacks the target's column.
    """
    path = _find(folder)
    header, *records = read_text_rows(path)
    names = [name.strip() for name in header]
    if _TARGET not in names:
        raise DataError(f"{path}: there is no column {_TARGET}; give the file with the targets, {KDDCUP98_FILES[0]}")
    order = np.random.default_rng(0).permutation(len(records))[: training + test]
    columns = list(zip(*(records[index] for index in order), strict=True))
    matrix = np.column_stack(
        [column for name, cells in zip(names, columns, strict=True) if name not in _LEFT_OUT for column in _read(cells)]
    )
    scores = _principal(matrix)
    kept = [f"pc{number}" for number in range(scores.shape[1])]
    features: list[dict[str, Any]] = [{"name": name, "lower": -_SPREAD, "upper": _SPREAD} for name in kept]
    gifts = columns[names.index(_TARGET)]
    return make_table(
        name="kddcup98",
        title="KDDCup98",
        source=path.name,
        schema={
            "row_radius": float(np.sqrt(1 + len(kept) / _SPREAD**2)),  # about the length of a usual row
            "label": {"column": _TARGET, "lower": 0.0, "upper": _LARGEST_GIFT},
            "features": features,
        },
        header=[*kept, _TARGET],
        rows=[[*(f"{cell:.6g}" for cell in row), gift] for row, gift in zip(scores.tolist(), gifts, strict=True)],
        training=training,
    )


def _find(folder: Path | None) -> Path:
    for name in KDDCUP98_FILES:
        if folder is not None and (folder / name).exists():
            return folder / name
    raise DataError(
        f"{folder or '--data'}: KDDCup98 may not be redistributed; get {KDDCUP98_FILES[0]} from the UCI KDD archive "
        "and name its folder with --data"
    )


def _read(cells: tuple[str, ...]) -> list[NDArray[np.float64]]:
    """Turn a column of text into standardised columns of numbers."""
    numbers = np.array([_number(cell) for cell in cells])
    known = ~np.isnan(numbers)
    blank = np.array([not cell.strip() for cell in cells])
    if known.any() and np.all(known | blank):
        filled = np.where(known, numbers, numbers[known].mean())
        deviation = filled.std()
        return [(filled - filled.mean()) / deviation] if deviation > 0 else []
    texts = sorted({cell.strip() for cell in cells} - {""})
    if len(texts) > _MOST_TEXTS:
        return []
    return [np.array([cell.strip() == text for cell in cells], dtype=np.float64) for text in texts]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _principal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the records' coordinates in the directions of most variance, each divided by its deviation."""
    centred = matrix - matrix.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    leading = np.argsort(variances)[::-1][:_DIRECTIONS]
    leading = leading[variances[leading] > 1e-9]
    return np.asarray(centred @ directions[:, leading] / np.sqrt(variances[leading]))
