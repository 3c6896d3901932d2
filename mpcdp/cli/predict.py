"""``mpcdp predict``: apply a released model to a table."""

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.data.table import read_features
from mpcdp.learning.model import TrainedModel

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="The model.json that a session released.")],
    table: Annotated[Path, typer.Argument(help="CSV or Parquet table with the schema's feature columns.")],
    output: Annotated[Path | None, typer.Option(help="Write here instead of standard output.")] = None,
) -> None:
    """Write one prediction per row of a table.

    As CSV: a class or a number, and its score. Two classes: above 0 for the second one, its log-odds if the model is a
    logistic regression. More classes: the winner's. A number: where it is between its bounds, which are -1 and 1.

    Example: mpcdp predict state/model.json patients.csv --output predictions.csv
    """
    trained = TrainedModel.load(model)
    features = read_features(table, trained.record_schema)
    scores = trained.decision(features)
    rows = zip(trained.predict(features), scores if scores.ndim == 1 else scores.max(axis=1), strict=True)
    target = output.open("w", newline="", encoding="utf-8") if output else sys.stdout
    try:
        writer = csv.writer(target)
        writer.writerow([trained.record_schema.label.column, "score"])
        writer.writerows([label, f"{score:.9g}"] for label, score in rows)
    finally:
        if output:
            target.close()
