"""Small synthetic tables for tests of the experiments."""

import numpy as np

from mpcdp.reproduce.tables import BenchmarkTable, make_table

__all__ = ["small_table"]


def small_table(*, records: int = 240, test: int = 100, features: int = 4, regression: bool = False) -> BenchmarkTable:
    """Return records of a noisy linear rule."""
    rng = np.random.default_rng(3)
    rows = rng.uniform(-1, 1, (records + test, features))
    scores = rows.sum(axis=1) + rng.normal(0, 0.3, records + test)
    labels = [f"{score:.6f}" for score in scores] if regression else ["yes" if score > 0 else "no" for score in scores]
    names = [f"x{index}" for index in range(features)]
    label = {"column": "y", "lower": -4.0, "upper": 4.0} if regression else {"column": "y", "classes": ["no", "yes"]}
    return make_table(
        name="small-number" if regression else "small",
        title="Small",
        source="a test",
        schema={
            "row_radius": 1.5,
            "label": label,
            "features": [{"name": name, "lower": -1.0, "upper": 1.0} for name in names],
        },
        header=[*names, "y"],
        rows=[[*(f"{cell:.6f}" for cell in row), label] for row, label in zip(rows.tolist(), labels, strict=True)],
        training=records,
    )
