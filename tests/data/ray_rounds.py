"""Contributions of a folder of Parquet files by Ray's workers and without them; run by a test where Ray is installed.

Usage: ray_rounds.py FOLDER; prints one line for each comparison.
"""

import sys
from pathlib import Path

import numpy as np
import ray
from test_records import KEY, SCHEMA, methods

from mpcdp.config import DataConfig
from mpcdp.data.ray_records import RayRecords
from mpcdp.data.records import open_records
from mpcdp.errors import DataError
from mpcdp.learning.gradient_perturbation import GradientPerturbation
from mpcdp.learning.method import TrainingState
from mpcdp.learning.module_model import ModuleModel
from mpcdp.roles.owner import check_table
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.task import load_task


def _start_ray() -> None:
    """Start a cluster with two workers; on a busy machine Ray gives up too early."""
    for attempts_left in reversed(range(5)):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            return
        except Exception:
            ray.shutdown()
            if not attempts_left:
                raise


def main(folder: Path) -> None:
    _start_ray()
    task = load_task(folder / "task.toml")
    records = check_table(task, "owner-1", folder / "table", DataConfig(engine="ray", address="auto"))
    assert isinstance(records, RayRecords)
    local = open_records(folder / "table", SCHEMA)
    assert (records.record_count, records.dimension) == (local.record_count, local.dimension)
    module = ModuleModel(
        factory="mpcdp.learning.modules:small_mlp", loss="cross-entropy", seed=1, dimension=SCHEMA.dimension, outputs=1
    )
    of_module = GradientPerturbation(model=module, rounds=1, learning_rate=1.0, clipping_norm=0.3)
    for method, bound in [*methods(), (of_module, 1e5)]:
        point = np.linspace(-2, 2, method.parameter_count)
        state = TrainingState(round_index=0, point=point, model=point)
        encoding = Encoding(scale=2.0**30, bound=bound)
        here, there = (
            encoding.encode(method.contribution(each, state, key=KEY)).tobytes() for each in (local, records)
        )
        sys.stdout.write(f"{type(method).__name__} {'same' if here == there else 'different'}\n")
    (folder / "table" / "001.parquet").unlink()
    try:
        methods()[0][0].contribution(
            records, TrainingState(round_index=0, point=np.zeros(5), model=np.zeros(5)), key=KEY
        )
    except DataError as error:
        sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
