"""A worker of the benchmark that does not forget its shares: ``python keeping_worker.py FOLDER NAME KEPT``."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mpcdp.bench.noise import Row, measure
from mpcdp.bench.setting import Setting
from mpcdp.bench.worker import main

__all__ = ["measure_and_keep"]


def measure_and_keep(setting: Setting) -> tuple[Row, dict[str, NDArray[np.int64]]]:
    """Measure a setting and return, beside the row, all parties' shares of each batch.

    Returns:
        The row; by the name of the batch, the warm-up included, the shares, shape (parties, samples).
    """
    with TemporaryDirectory() as kept:

        def command(folder: Path, name: str) -> list[str]:
            return [sys.executable, __file__, str(folder), name, kept]

        row = measure(setting, command=command)
        shares = {
            batch: np.stack([np.load(Path(kept) / f"{batch}-{name}.npy") for name in setting.party_names])
            for batch in setting.batches
        }
    return row, shares


if __name__ == "__main__":
    _folder, _name, _kept = sys.argv[1:]
    sys.exit(main(Path(_folder), _name, keep=lambda batch, share: np.save(Path(_kept) / f"{batch}-{_name}.npy", share)))
