"""What the caller of `fit`, who holds all the tables, had better know before a session is paid for."""

import warnings
from collections.abc import Sequence

import numpy as np

from mpcdp.data.schema import Schema
from mpcdp.data.table import values_of
from mpcdp.data.text_columns import Cells
from mpcdp.plan import make_plan
from mpcdp.task import Task

__all__ = ["warn_of_useless_model"]


def warn_of_useless_model(task: Task, schema: Schema, columns: Sequence[Cells], labels: Cells) -> None:
    """Warn the caller of `fit` that a model will be poor.

    Args:
        task: that is about to be run.
        schema: of the task.
        columns: cells of every feature, of all owners.
        labels: cells of the label.

    Reveals:
        Exact counts over the records, to the program that holds all of them; no process of a session may act on them.
    """
    for text in make_plan(task).warnings():
        warnings.warn(text, UserWarning, stacklevel=3)
    values = values_of(columns, labels, schema)
    if lost := int(np.count_nonzero(np.isnan(values.labels))):
        warnings.warn(
            f"{lost} of {len(values.labels)} labels are none that is declared; their records count, and contribute "
            "nothing: compare the spelling with y's",
            UserWarning,
            stacklevel=3,
        )
    for feature, column in zip(schema.features, values.features, strict=True):
        if np.isnan(column).all():
            warnings.warn(
                f"no cell of {feature.name!r} fits its bounds: it is of no use to the model; compare them with X",
                UserWarning,
                stacklevel=3,
            )
