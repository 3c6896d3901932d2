"""What `mpcdp reproduce figures` leaves behind: figures, points as JSON, deviations as a table, and one page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpcdp.bench.machine import where_measured
from mpcdp.reproduce.combined_report import write_report
from mpcdp.reproduce.deviations import Deviation, deviations, explanations
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.figures_report import DEVIATION_HEADER, deviation_cells
from mpcdp.reproduce.noise_table import noise_rows
from mpcdp.reproduce.plots import draw_epsilons, draw_iterations, save
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.real import RealRun
from mpcdp.reproduce.settings import PAPER_EPSILON, PAPER_OWNERS

__all__ = ["Results"]


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that was measured.

    Args:
        command: that made it.
        seconds: that it took.
        experiments: one for each table.
        points: of all of them.
        real: sessions of real processes, beside simulations.
    """

    command: str
    seconds: float
    experiments: Sequence[Experiment]
    points: Sequence[Point]
    real: Sequence[RealRun] = field(default=())

    @property
    def deviations(self) -> list[Deviation]:
        """Compare with the paper."""
        return deviations(self.points)

    def save(self, folder: Path) -> Path:
        """Write everything into a folder, and return the page's path."""
        folder.mkdir(parents=True, exist_ok=True)
        figures = {each.table.name: list(self._draw(each, folder)) for each in self.experiments}
        (folder / "results.json").write_text(json.dumps(self._document(figures), indent=1) + "\n", encoding="utf-8")
        (folder / "deviations.md").write_text(self._deviations_text(), encoding="utf-8")
        return write_report([folder], folder / "report.html")

    def _draw(self, experiment: Experiment, folder: Path) -> list[Mapping[str, str]]:
        """Write a table's figures, and return their files and captions."""
        table = experiment.table
        drawn: list[Mapping[str, str]] = []
        for owners in experiment.owner_counts(experiment.settings.iteration_owners):
            name = f"iterations-{table.name}-m{owners}"
            save(draw_iterations(self.points, table, owners=owners), folder, name)
            caption = "As Figures 1 and 2 of the paper. Ours: valid calibration, as many rounds as its rules choose."
            drawn.append({"file": f"{name}.png", "caption": f"{table.title}, m = {owners:,}. {caption}"})
        name = f"epsilon-{table.name}"
        save(draw_epsilons(self.points, table), folder, name)
        drawn.append({"file": f"{name}.png", "caption": f"{table.title}: loss over epsilon, two calibrations."})
        return drawn

    def _document(self, figures: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, Any]:
        """Return everything as one JSON object."""
        return {
            "kind": "figures",
            **where_measured("scipy", "scikit-learn"),
            "command": self.command,
            "seconds": self.seconds,
            "settings": [{"table": each.table.name, **asdict(each.settings)} for each in self.experiments],
            "tables": [{**_table_json(each), "figures": figures[each.table.name]} for each in self.experiments],
            "noise": {each.table.name: _noise(each) for each in self.experiments},
            "points": [point.to_json() for point in self.points],
            "deviations": [{**asdict(one), "ratio": one.ratio} for one in self.deviations],
            "real": [run.to_json() for run in self.real],
        }

    def _deviations_text(self) -> str:
        lines = ["# Deviations from the paper's figures", "", f"Made by `{self.command}`.", ""]
        lines += ["| " + " | ".join(DEVIATION_HEADER) + " |", "|" + "---|" * len(DEVIATION_HEADER)]
        lines += ["| " + " | ".join(deviation_cells(one)) + " |" for one in self.deviations]
        lines += ["", *(f"* {line}" for line in explanations(self.deviations))]
        return "\n".join(lines) + "\n"


def _noise(experiment: Experiment) -> list[dict[str, Any]]:
    owners = experiment.owner_counts([PAPER_OWNERS])[0]
    return [row.to_json() for row in noise_rows(experiment, owners=owners, epsilon=PAPER_EPSILON)]


def _table_json(experiment: Experiment) -> dict[str, Any]:
    table = experiment.table
    return {
        "name": table.name,
        "title": table.title,
        "source": table.source,
        "training_records": table.training.record_count,
        "test_records": table.test.record_count,
        "dimension": table.training.dimension,
        "measure": "mean squared error" if table.regression else "accuracy",
        "without_privacy": experiment.judge.reference,
    }
