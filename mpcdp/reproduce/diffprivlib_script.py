"""Private models by diffprivlib: a program for the environment that has it, where nothing of ours is installed.

``python diffprivlib_script.py TABLE.npz JOBS.json`` trains a model for each job and writes them to standard output, as
a JSON list of lists of coefficients. The table holds ``features``, rows of length 1 at most that hold the bias, and
``labels``: -1 and +1, or with ``regression`` numbers in [-1, 1]. A job has ``epsilon``, ``regularization``, ``seed``
and ``regression``.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]


def _logistic(job: dict[str, Any], record_count: int) -> Any:
    from diffprivlib.models import LogisticRegression

    return LogisticRegression(
        epsilon=job["epsilon"],
        data_norm=1.0,
        C=1 / (job["regularization"] * record_count),
        fit_intercept=False,  # rows hold the bias
        max_iter=300,
        random_state=job["seed"],
    )


def _least_squares(job: dict[str, Any]) -> Any:
    """Return the functional mechanism, which asks for bounds of every cell and has no regularisation."""
    from diffprivlib.models import LinearRegression

    bounds = (-1.0, 1.0)
    return LinearRegression(
        epsilon=job["epsilon"], bounds_X=bounds, bounds_y=bounds, fit_intercept=False, random_state=job["seed"]
    )


def main(table_path: Path, jobs_path: Path) -> None:
    """Train what is asked for."""
    warnings.simplefilter("ignore")  # convergence of a noisy objective, and what newer versions of its parts say
    with np.load(table_path, allow_pickle=False) as stored:
        features, labels = stored["features"], stored["labels"]
    models = []
    for job in json.loads(jobs_path.read_text(encoding="utf-8")):
        model = _least_squares(job) if job["regression"] else _logistic(job, len(labels))
        model.fit(features, labels)
        models.append([float(value) for value in model.coef_.reshape(-1)])
    sys.stdout.write(json.dumps(models))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
