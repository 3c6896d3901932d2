"""The public tables that accuracy is measured on, from the folder that MPCDP_DATA names."""

import os
from pathlib import Path

import numpy as np
import pytest

from mpcdp.data.dataset import Dataset
from mpcdp.reproduce.tables import BenchmarkTable, load_table, make_table, part, read_text_rows

__all__ = ["all_records", "benchmark_table", "data_folder", "housing_median", "part"]

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


def data_folder() -> Path:
    """Return the folder of the benchmark tables, or skip the test."""
    folder = os.environ.get("MPCDP_DATA")
    if folder is None:
        pytest.skip("set MPCDP_DATA to the folder of the benchmark tables")
    return Path(folder)


def benchmark_table(name: str) -> BenchmarkTable:
    """Load a table of `mpcdp reproduce`, or the one for classes of California Housing."""
    return housing_median() if name == "housing" else load_table(name, data_folder())


def all_records(table: BenchmarkTable) -> Dataset:
    """Return training and test records together."""
    return Dataset(
        np.concatenate([table.training.features, table.test.features]),
        np.concatenate([table.training.labels, table.test.labels]),
        table.training.class_count,
    )


def housing_median() -> BenchmarkTable:
    """Return 16,512 and 4,128 random records of California Housing; the class: is a house above the median?"""
    header, *records = read_text_rows(data_folder() / "california-housing.csv.gz")
    value = header.index("median_house_value")
    names = [*_HOUSING_BOUNDS, "ocean_proximity"]
    categories = ["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"]
    numbers = [{"name": name, "lower": lower, "upper": upper} for name, (lower, upper) in _HOUSING_BOUNDS.items()]
    shuffled = [records[index] for index in np.random.default_rng(0).permutation(len(records))]
    rows = [
        [*(record[header.index(name)] for name in names), "high" if float(record[value]) > _MEDIAN_VALUE else "low"]
        for record in shuffled
    ]
    return make_table(
        name="housing",
        title="California Housing, above the median?",
        source="california-housing.csv.gz",
        schema={
            "label": {"column": "class", "classes": ["low", "high"]},
            "features": [*numbers, {"name": "ocean_proximity", "categories": categories}],
        },
        header=[*names, "class"],
        rows=rows,
        training=16_512,
    )
