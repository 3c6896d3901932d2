"""The paper's Table 1 in numbers: where each method adds noise, how much of it, and what that really guarantees."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mpcdp.plan import make_plan
from mpcdp.reproduce.baselines import (
    GRADIENT_METHODS,
    OUTPUT_METHODS,
    Calibration,
    Guarantee,
    LocalObjective,
    RajkumarAgarwal,
)
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.looks import LOOKS, calibration_name
from mpcdp.reproduce.ours import gradient_sections, make_task, output_sections, statistics_sections
from mpcdp.reproduce.settings import DELTA, PAPER_DELTA, REGULARIZATION

__all__ = ["NOISE_HEADER", "NoiseRow", "noise_rows"]

NOISE_HEADER = ("method", "calibration", "noise", "where", "deviation", "rounds", "keeps its promise", "really")
"""Columns of the table."""


@dataclass(frozen=True, kw_only=True)
class NoiseRow:
    """A method's noise in one setting.

    Args:
        method: its key.
        calibration: which noise.
        formula: of the noise's scale.
        where: it is added.
        deviation: root mean square on one coordinate of what is published: mean model, mean gradient, or b / n.
        rounds: how often noise is drawn.
        kept: whether the guarantee asked for is kept.
        note: what is really guaranteed.
    """

    method: str
    calibration: str
    formula: str
    where: str
    deviation: float
    rounds: int
    kept: bool
    note: str

    def cells(self) -> list[str]:
        """Return the row for people, as `NOISE_HEADER` says."""
        return [
            LOOKS[self.method].title,
            calibration_name(self.calibration),
            self.formula,
            self.where,
            f"{self.deviation:.3g}",
            f"{self.rounds}",
            "yes" if self.kept else "NO",
            self.note,
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the row as one JSON object."""
        return asdict(self)


def noise_rows(experiment: Experiment, *, owners: int, epsilon: float) -> list[NoiseRow]:
    """List every method's noise in one setting."""
    rows = [row for calibration in Calibration for row in _baselines(experiment, owners, epsilon, calibration)]
    return [*rows, *_ours(experiment, owners, epsilon)]


def _baselines(experiment: Experiment, owners: int, epsilon: float, calibration: Calibration) -> Iterator[NoiseRow]:
    delta = PAPER_DELTA if calibration is Calibration.PAPER else DELTA
    setting = experiment.setting(owners, epsilon=epsilon, delta=delta)

    def row(method: Any, deviation: float, rounds: int, guarantee: Guarantee) -> NoiseRow:
        lipschitz = not experiment.table.regression
        unbounded = "" if lipschitz else "; and the squared loss is not 1-Lipschitz, which all of this needs"
        return NoiseRow(
            method=method.key,
            calibration=calibration,
            formula=method.formula,
            where=method.where,
            deviation=deviation,
            rounds=rounds,
            kept=guarantee.kept and lipschitz,
            note=guarantee.note + unbounded,
        )

    for output in OUTPUT_METHODS:
        deviation = output.noise(setting, calibration).deviation(setting.dimension)
        yield row(output, deviation, 1, output.guarantee(setting, calibration))
    objective = LocalObjective()
    deviation = objective.terms(setting, calibration).linear.deviation(setting.dimension)
    yield row(objective, deviation, 1, objective.guarantee(setting, calibration))
    for gradient in GRADIENT_METHODS:
        deviation = gradient.noise(setting, calibration).deviation(setting.dimension)
        yield row(gradient, deviation, setting.rounds, gradient.guarantee(setting, calibration))
    if calibration is Calibration.PAPER:
        agarwal = RajkumarAgarwal()
        deviation = agarwal.noise(setting).deviation(setting.dimension)
        yield row(agarwal, deviation, setting.rounds, agarwal.guarantee(setting))


def _ours(experiment: Experiment, owners: int, epsilon: float) -> Iterator[NoiseRow]:
    regression = experiment.table.regression
    methods: Sequence[tuple[str, Any]] = (
        ("our_gradient", gradient_sections(REGULARIZATION, regression=regression)),
        ("our_statistics", statistics_sections()),
    )
    if not regression:
        methods = (
            ("our_output", output_sections(REGULARIZATION)),
            ("our_laplace_output", output_sections(REGULARIZATION, mechanism="laplace")),
            methods[0],
        )
    for key, sections in methods:
        task = make_task(experiment.table, owners, epsilon=epsilon, delta=DELTA, **sections)
        plan = make_plan(task)
        yield NoiseRow(
            method=key,
            calibration="ours",
            formula=f"discrete {plan.distribution.capitalize()}, sensitivity of the sum {plan.sensitivity.bound:.4g}",
            where="once a round, on the sum, inside the computation",
            deviation=plan.noise_deviation / sum(plan.record_counts),
            rounds=plan.rounds,
            kept=True,
            note=f"epsilon = {plan.cost.epsilon:g}, delta = {plan.cost.delta:.2g}, everything included",
        )
