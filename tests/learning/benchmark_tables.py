"""The public tables that accuracy is measured on, split into training and test records.

Schemas have round public bounds, but the categories are taken from the tables, which only a benchmark on public data
may do.
"""

import csv
import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcdp.data.dataset import Dataset
from mpcdp.data.schema import Schema
from mpcdp.data.table import read_dataset

__all__ = ["adult", "housing_median", "kddcup99", "part"]

_ADULT = (
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
_ADULT_BOUNDS = {
    "age": (0.0, 100.0),
    "fnlwgt": (0.0, 1_500_000.0),
    "education-num": (0.0, 16.0),
    "capital-gain": (0.0, 100_000.0),
    "capital-loss": (0.0, 5_000.0),
    "hours-per-week": (0.0, 100.0),
}
_HOUSING_BOUNDS = {
    "longitude": (-125.0, -114.0),
    "latitude": (32.0, 42.0),
    "housing_median_age": (0.0, 60.0),
    "total_rooms": (0.0, 10_000.0),
    "total_bedrooms": (0.0, 2_000.0),
    "population": (0.0, 5_000.0),
    "households": (0.0, 2_000.0),
    "median_income": (0.0, 10.0),
}
_MEDIAN_VALUE = 179_700.0


def part(dataset: Dataset, start: int, stop: int) -> Dataset:
    """Return some of the records."""
    return Dataset(dataset.features[start:stop].copy(), dataset.labels[start:stop].copy(), dataset.class_count)


def kddcup99(folder: Path) -> tuple[Schema, Dataset, Dataset]:
    """Return 50,000 and 20,000 random records: one-hot protocol, service and flag, other columns over their maxima."""
    records = _read("kddcup99-10percent.csv.gz")
    picked = [records[index] for index in np.random.default_rng(0).permutation(len(records))[:70_000]]
    features: list[dict[str, Any]] = []
    for number in range(41):
        distinct = {record[number] for record in records}
        if number in (1, 2, 3):
            features.append({"name": f"c{number}", "categories": sorted(distinct)})
        else:
            largest = max(map(float, distinct)) or 1.0
            features.append({"name": f"c{number}", "lower": -largest, "upper": largest})
    rows = [[*record[:-1], "normal" if record[-1] == "normal." else "attack"] for record in picked]
    schema, dataset = _dataset(folder / "kddcup99.csv", features, ["attack", "normal"], rows)
    return schema, part(dataset, 0, 50_000), part(dataset, 50_000, 70_000)


def adult(folder: Path) -> tuple[Schema, Dataset, Dataset]:
    """Return the training and the test records of Adult; ``?`` is no category."""
    training, test = (
        [[cell.strip() for cell in record] for record in _read(name) if len(record) == 15]
        for name in ("adult-train.csv.gz", "adult-test.csv.gz")
    )
    features: list[dict[str, Any]] = []
    for number, name in enumerate(_ADULT):
        if name in _ADULT_BOUNDS:
            lower, upper = _ADULT_BOUNDS[name]
            features.append({"name": name, "lower": lower, "upper": upper})
        else:
            features.append({"name": name, "categories": sorted({record[number] for record in training} - {"?"})})
    tables = []
    for name, records in (("training", training), ("test", test)):
        rows = [[*record[:14], record[14].rstrip(".")] for record in records]
        tables.append(_dataset(folder / f"{name}.csv", features, ["<=50K", ">50K"], rows, names=_ADULT))
    return tables[0][0], tables[0][1], tables[1][1]


def housing_median(folder: Path) -> tuple[Schema, Dataset, Dataset]:
    """Return 16,512 and 4,128 random records of California Housing; the class: is a house above the median?"""
    header, *records = _read("california-housing.csv.gz")
    value = header.index("median_house_value")
    names = [*_HOUSING_BOUNDS, "ocean_proximity"]
    features: list[dict[str, Any]] = [
        {"name": name, "lower": lower, "upper": upper} for name, (lower, upper) in _HOUSING_BOUNDS.items()
    ]
    categories = ["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"]
    features.append({"name": "ocean_proximity", "categories": categories})
    shuffled = [records[index] for index in np.random.default_rng(0).permutation(len(records))]
    rows = [
        [*(record[header.index(name)] for name in names), "high" if float(record[value]) > _MEDIAN_VALUE else "low"]
        for record in shuffled
    ]
    schema, dataset = _dataset(folder / "housing.csv", features, ["low", "high"], rows, names=names)
    return schema, part(dataset, 0, 16_512), part(dataset, 16_512, 20_640)


def _read(name: str) -> list[list[str]]:
    folder = os.environ.get("MPCDP_DATA")
    if folder is None:
        pytest.skip("set MPCDP_DATA to the folder of the benchmark tables")
    with gzip.open(Path(folder) / name, "rt") as file:
        return [record for record in csv.reader(file) if record]


def _dataset(
    path: Path,
    features: list[dict[str, Any]],
    classes: list[str],
    rows: Sequence[Sequence[str]],
    *,
    names: Sequence[str] | None = None,
) -> tuple[Schema, Dataset]:
    schema = Schema.model_validate({"label": {"column": "class", "classes": classes}, "features": features})
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(names or [feature["name"] for feature in features]), "class"])
        writer.writerows(rows)
    return schema, read_dataset(path, schema)
