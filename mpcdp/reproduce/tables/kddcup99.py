"""KDD Cup 1999, the 10 % set: is a connection normal or an attack?"""

from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.reproduce.tables.table import BenchmarkTable, TextRows, make_table, read_text_rows

__all__ = ["load_kddcup99"]

_FILE = "kddcup99-10percent.csv.gz"
_CATEGORICAL = (1, 2, 3)  # protocol, service, flag
_TRAINING, _TEST = 50_000, 20_000


def load_kddcup99(folder: Path | None) -> BenchmarkTable:
    """Return 50,000 and 20,000 random records, as the paper has them.

    Protocol, service and flag become one coordinate for each category, other columns are divided by their maxima
    (Chaudhuri et al. 2011, section 4.2), and rows are shortened to the unit ball.

    Args:
        folder: that of the file ``kddcup99-10percent.csv.gz``; None for scikit-learn's fetcher.

    Raises:
        DataError: the file is missing or too short.
    """
    records = _fetch() if folder is None else read_text_rows(folder / _FILE)
    distinct = [{record[number] for record in records} for number in range(41)]
    order = np.random.default_rng(0).permutation(len(records))[: _TRAINING + _TEST]
    picked = [records[index] for index in order]
    return make_table(
        name="kddcup99",
        title="KDDCup99",
        source="sklearn.datasets.fetch_kddcup99" if folder is None else _FILE,
        schema={"label": {"column": "class", "classes": ["attack", "normal"]}, "features": _features(distinct)},
        header=[*(f"c{number}" for number in range(41)), "class"],
        rows=[[*record[:-1], "normal" if record[-1] == "normal." else "attack"] for record in picked],
        training=_TRAINING,
    )


def _features(distinct: list[set[str]]) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = []
    for number, cells in enumerate(distinct):
        if number in _CATEGORICAL:
            features.append({"name": f"c{number}", "categories": sorted(cells)})
        else:
            largest = max(map(float, cells)) or 1.0
            features.append({"name": f"c{number}", "lower": -largest, "upper": largest})
    return features


def _fetch() -> TextRows:
    from sklearn.datasets import fetch_kddcup99

    fetched = fetch_kddcup99(percent10=True)
    return [[*map(_text, record), _text(label)] for record, label in zip(fetched.data, fetched.target, strict=True)]


def _text(cell: object) -> str:
    return cell.decode() if isinstance(cell, bytes) else str(cell)
