"""What the owner of a table is told about it."""

from pathlib import Path

import pytest

from mpcdp.data.inspection import inspect_table
from mpcdp.data.schema import Schema
from mpcdp.errors import DataError

SCHEMA = Schema.model_validate(
    {
        "label": {"column": "ill", "classes": ["no", "yes"]},
        "features": [{"name": "age", "lower": 0, "upper": 120}, {"name": "sex", "categories": ["f", "m"]}],
    }
)


def test_counts_what_fits_column_by_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sex,ill,age\nf,no,40\nm,maybe,nan\n,yes,?\nx,no,1e3\nf,no\n\nf,no,1,2\n")
    report = inspect_table(path, SCHEMA)
    assert (report.record_count, report.malformed_count) == (7, 3)
    assert report.fitting_cells == {"age": 2, "sex": 2, "ill": 3}
    assert report.unusable_columns == ()


def test_names_columns_that_fit_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sex,ill,age\n1,0,40\n2,1,50\n")
    assert inspect_table(path, SCHEMA).unusable_columns == ("sex", "ill")


def test_needs_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sex,age\nf,40\n")
    with pytest.raises(DataError, match="no column 'ill'"):
        inspect_table(path, SCHEMA)
