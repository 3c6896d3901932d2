"""How well a table fits a schema, for the eyes of the table's owner alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpcdp.data.schema import NumericFeature, Schema
from mpcdp.data.table import read_values

__all__ = ["TableReport", "inspect_table"]


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """What a table holds beside what a schema expects.

    Args:
        record_count: lines below the header, or rows of a Parquet file.
        malformed_count: records with more or fewer cells than the header; they count and contribute nothing.
        fitting_cells: per column of the schema, the label last, how many cells fit its declaration.
        cells_at_bounds: per column of numbers, how many of these are at a bound or were clipped to it.
    """

    record_count: int
    malformed_count: int
    fitting_cells: dict[str, int]
    cells_at_bounds: dict[str, int]

    @property
    def unusable_columns(self) -> tuple[str, ...]:
        """Columns none of whose cells fits: a model would be trained on zeros there."""
        return tuple(name for name, count in self.fitting_cells.items() if count == 0)


def inspect_table(path: Path, schema: Schema) -> TableReport:
    """Count the cells that fit, as `mpcdp.data.table.read_dataset` would understand them.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file.
        schema: the task's public schema.

    Raises:
        DataError: the file cannot be read as a table, lacks a column, has one twice, or has no records.

    Reveals:
        Exact counts over the owner's records. They are not protected by noise: they must stay with the owner, and no
        process of a session may act on them.
    """
    values = read_values(path, schema)
    names = (*(feature.name for feature in schema.features), schema.label.column)
    columns = (*values.features, values.labels)
    numbers = {feature.name for feature in schema.features if isinstance(feature, NumericFeature)}
    numbers |= {schema.label.column} if schema.label.kind == "number" else set()
    return TableReport(
        record_count=len(values.malformed),
        malformed_count=int(np.count_nonzero(values.malformed)),
        fitting_cells={
            name: int(np.count_nonzero(~np.isnan(column))) for name, column in zip(names, columns, strict=True)
        },
        cells_at_bounds={
            name: int(np.count_nonzero(np.abs(column) == 1))
            for name, column in zip(names, columns, strict=True)
            if name in numbers
        },
    )
