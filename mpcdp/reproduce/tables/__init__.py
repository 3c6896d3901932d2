"""The public tables of the experiments: from a user's folder, or by scikit-learn's fetchers."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mpcdp.reproduce.tables.adult import load_adult
from mpcdp.reproduce.tables.california_housing import load_california_housing
from mpcdp.reproduce.tables.kddcup98 import KDDCUP98_FILES, load_kddcup98
from mpcdp.reproduce.tables.kddcup99 import load_kddcup99
from mpcdp.reproduce.tables.table import BenchmarkTable, make_table, part, read_text_rows

__all__ = ["KDDCUP98_FILES", "TABLES", "BenchmarkTable", "load_table", "make_table", "part", "read_text_rows"]

TABLES: Mapping[str, Callable[[Path | None], BenchmarkTable]] = {
    "kddcup99": load_kddcup99,
    "adult": load_adult,
    "california-housing": load_california_housing,
    "kddcup98": load_kddcup98,
}
"""How each table is loaded, by name."""


def load_table(name: str, folder: Path | None) -> BenchmarkTable:
    """Load a table.

    Args:
        name: one of `TABLES`.
        folder: that of its files; None for scikit-learn's fetcher, which downloads it once.

    Raises:
        DataError: a file is missing or not what it should be.
    """
    return TABLES[name](folder)
