"""Adult, the census of 1994: does somebody earn more than 50,000 dollars?"""

from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.errors import DataError
from mpcdp.reproduce.tables.table import BenchmarkTable, make_table, read_text_rows

__all__ = ["load_adult"]

_FILES = ("adult-train.csv.gz", "adult-test.csv.gz")
_COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
)
_BOUNDS = {
    "age": (0.0, 100.0),
    "fnlwgt": (0.0, 1_500_000.0),
    "education-num": (0.0, 16.0),
    "capital-gain": (0.0, 100_000.0),
    "capital-loss": (0.0, 5_000.0),
    "hours-per-week": (0.0, 100.0),
}
_TRAINING = 32_561


def load_adult(folder: Path | None) -> BenchmarkTable:
    """Return the 32,561 training and 16,281 test records; ``?`` is no category.

    Args:
        folder: that of the files ``adult-train.csv.gz`` and ``adult-test.csv.gz``; None for scikit-learn's fetcher,
            whose records are split at random into parts of the same sizes.

    Raises:
        DataError: a file is missing, or has another number of records.
    """
    training, test = _fetch() if folder is None else _read(folder)
    features: list[dict[str, Any]] = []
    for number, name in enumerate(_COLUMNS):
        if name in _BOUNDS:
            lower, upper = _BOUNDS[name]
            features.append({"name": name, "lower": lower, "upper": upper})
        else:
            features.append({"name": name, "categories": sorted({record[number] for record in training} - {"?"})})
    return make_table(
        name="adult",
        title="Adult",
        source='sklearn.datasets.fetch_openml("adult", version=2)' if folder is None else ", ".join(_FILES),
        schema={"label": {"column": "class", "classes": ["<=50K", ">50K"]}, "features": features},
        header=[*_COLUMNS, "class"],
        rows=[[*record[:14], record[14].rstrip(".")] for record in (*training, *test)],
        training=_TRAINING,
    )


def _read(folder: Path) -> tuple[list[list[str]], list[list[str]]]:
    training, test = (
        [[cell.strip() for cell in record] for record in read_text_rows(folder / name) if len(record) == 15]
        for name in _FILES
    )
    if len(training) != _TRAINING:
        raise DataError(f"{folder / _FILES[0]}: {len(training)} records of 15 cells, not {_TRAINING}; get it again")
    return training, test


def _fetch() -> tuple[list[list[str]], list[list[str]]]:
    from sklearn.datasets import fetch_openml

    frame = fetch_openml("adult", version=2, as_frame=True).frame
    cells = frame[[*_COLUMNS, "class"]].astype(object).where(frame.notna(), "?").to_numpy()
    order = np.random.default_rng(0).permutation(len(cells))
    records = [[str(cell).strip() for cell in cells[index]] for index in order]
    return records[:_TRAINING], records[_TRAINING:]
