"""California Housing, the census of 1990: what is the median house of a block group worth?

It stands in for KDDCup98, the paper's table for regression, which may not be redistributed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.reproduce.tables.table import BenchmarkTable, TextRows, make_table, read_text_rows

__all__ = ["load_california_housing"]

_FILE = "california-housing.csv.gz"
_TRAINING = 16_512
_VALUE = "median_house_value"
# From what the columns mean, not from the table: the state's extent in degrees; ages end at 52 years; a block group has
# 600 to 3,000 people, so rarely more than 5,000, and at a few people per household and a few rooms per person the rest
# follows; incomes (tens of thousands of dollars) are cut off at 15 and house values at 500,000 dollars.
_BOUNDS = {
    "longitude": (-124.5, -114.0),
    "latitude": (32.5, 42.0),
    "housing_median_age": (0.0, 52.0),
    "total_rooms": (0.0, 10_000.0),
    "total_bedrooms": (0.0, 2_000.0),
    "population": (0.0, 5_000.0),
    "households": (0.0, 2_000.0),
    "median_income": (0.0, 15.0),
}
_OCEAN = {"name": "ocean_proximity", "categories": ["<1H OCEAN", "INLAND", "NEAR OCEAN", "NEAR BAY", "ISLAND"]}
_ROW_RADIUS = 2.0  # eight scaled columns, a category and the bias make a row about 2 long


def load_california_housing(folder: Path | None) -> BenchmarkTable:
    """Return 16,512 and 4,128 random records.

    Args:
        folder: that of the file ``california-housing.csv.gz``; None for scikit-learn's fetcher, whose table lacks the
            column ``ocean_proximity``.

    Raises:
        DataError: the file is missing or too short.
    """
    header, *records = _fetch() if folder is None else read_text_rows(folder / _FILE)
    features: list[dict[str, Any]] = [
        {"name": name, "lower": lower, "upper": upper} for name, (lower, upper) in _BOUNDS.items()
    ]
    if "ocean_proximity" in header:
        features.append(_OCEAN)
    order = np.random.default_rng(0).permutation(len(records))
    return make_table(
        name="california-housing",
        title="California Housing",
        source="sklearn.datasets.fetch_california_housing" if folder is None else _FILE,
        schema={
            "row_radius": _ROW_RADIUS,
            "label": {"column": _VALUE, "lower": 0.0, "upper": 500_000.0},
            "features": features,
        },
        header=header,
        rows=[records[index] for index in order],
        training=_TRAINING,
    )


def _fetch() -> TextRows:
    from sklearn.datasets import fetch_california_housing

    fetched = fetch_california_housing()
    value = dict(zip(fetched.feature_names, fetched.data.T, strict=True))
    households = value["Population"] / value["AveOccup"]
    columns = {
        "longitude": value["Longitude"],
        "latitude": value["Latitude"],
        "housing_median_age": value["HouseAge"],
        "total_rooms": value["AveRooms"] * households,
        "total_bedrooms": value["AveBedrms"] * households,
        "population": value["Population"],
        "households": households,
        "median_income": value["MedInc"],
        _VALUE: fetched.target * 100_000,
    }
    return [list(columns), *([repr(float(cell)) for cell in row] for row in zip(*columns.values(), strict=True))]
