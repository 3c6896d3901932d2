"""What is run: the paper's setting, the grid around it, and the quick version of both."""

from dataclasses import dataclass

__all__ = [
    "DELTA",
    "FULL",
    "LEARNING_RATE",
    "PAPER_DELTA",
    "PAPER_EPSILON",
    "PAPER_OWNERS",
    "PAPER_ROUNDS",
    "QUICK",
    "REGULARIZATION",
    "RunSettings",
]

PAPER_OWNERS, PAPER_EPSILON = 1000, 0.5
"""The setting of the paper's Figures 1 and 2."""

PAPER_ROUNDS = 1500
"""T of the paper's figures."""

PAPER_DELTA = 1e-3
"""delta of the paper's figures: far too large for 50,000 records, and used for its calibration only."""

DELTA = 1e-6
"""delta of everything that is valid."""

REGULARIZATION = 1e-3
"""lambda of the common objective, and of our methods too."""

LEARNING_RATE = 1.0
"""eta of the paper."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How much is run.

    Args:
        owners: numbers of owners m of the sweep over epsilon; more than a table has records become that number.
        iteration_owners: those of the figures over iterations.
        epsilons: of the sweep.
        runs: of each point.
        seed: of numpy's generators.
    """

    owners: tuple[int, ...] = (100, 1000, 50_000)
    iteration_owners: tuple[int, ...] = (100, 1000, 50_000)
    epsilons: tuple[float, ...] = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
    runs: int = 20
    seed: int = 2018


FULL = RunSettings()
"""Everything the paper shows and more."""

QUICK = RunSettings(owners=(1000,), iteration_owners=(1000,), epsilons=(0.1, 0.5, 2.0), runs=5)
"""The paper's setting and three budgets, five runs each."""
