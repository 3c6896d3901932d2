"""What a reproduction leaves behind: figures, every point as JSON, the deviations as a table, and one page of all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpcdp.bench.machine import where_measured
from mpcdp.html_page import Block, Command, Figure, Page, Section, Table, Text
from mpcdp.reproduce.deviations import Deviation, deviations
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.looks import LOOKS, calibration_name
from mpcdp.reproduce.noise_table import NOISE_HEADER, NoiseRow, noise_rows
from mpcdp.reproduce.plots import draw_epsilons, draw_iterations, save
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.real import REAL_HEADER, RealRun
from mpcdp.reproduce.settings import PAPER_EPSILON, PAPER_OWNERS

__all__ = ["DEVIATION_HEADER", "Results", "deviation_cells"]

DEVIATION_HEADER = ("table", "metric", "method", "published", "measured", "sd", "ratio", "mean ratio")
"""Columns of the deviations."""

_WHAT = (
    "Everything in one process, in the clear, on public data, with numpy's seeded randomness: nothing here protected "
    "anybody. Our methods run through a session's plan, encoding and noise (whose randomness has no seed). Points are "
    "means over the runs, bands one standard deviation. The paper's calibration is what its figures were made with; "
    "the table of noise says what each really guarantees."
)


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
        sections = [Section("What this is", [Command(self.command), Text(_WHAT)])]
        noise: dict[str, list[NoiseRow]] = {}
        for experiment in self.experiments:
            noise[experiment.table.name] = _noise(experiment)
            sections.append(self._table_section(experiment, noise[experiment.table.name], folder))
        (folder / "deviations.md").write_text(self._deviations_text(), encoding="utf-8")
        document = self.document(noise)
        (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        sections += [self._deviations_section(), self._real_section(), _machine_section(document)]
        page = Page(title="Distributed learning with privacy: the paper's figures again", sections=sections)
        path = folder / "report.html"
        path.write_text(page.render(), encoding="utf-8")
        return path

    def document(self, noise: Mapping[str, Sequence[NoiseRow]]) -> dict[str, Any]:
        """Return everything as one JSON object."""
        return {
            "command": self.command,
            "seconds": self.seconds,
            **where_measured("scipy", "scikit-learn"),
            "settings": [{"table": each.table.name, **asdict(each.settings)} for each in self.experiments],
            "tables": [_table_json(each) for each in self.experiments],
            "noise": {name: [row.to_json() for row in rows] for name, rows in noise.items()},
            "points": [point.to_json() for point in self.points],
            "deviations": [{**asdict(one), "ratio": one.ratio} for one in self.deviations],
            "real": [run.to_json() for run in self.real],
        }

    def _table_section(self, experiment: Experiment, noise: Sequence[NoiseRow], folder: Path) -> Section:
        table = experiment.table
        blocks: list[Block] = [Text(_described(experiment))]
        for owners in experiment.owner_counts(experiment.settings.iteration_owners):
            figure = draw_iterations(self.points, table, owners=owners)
            png = save(figure, folder, f"iterations-{table.name}-m{owners}")
            caption = "As Figures 1 and 2 of the paper. Ours: valid calibration, as many rounds as its rules choose."
            blocks += [Figure(png, f"{table.title}, m = {owners:,}. {caption}"), Command(self.command)]
        png = save(draw_epsilons(self.points, table), folder, f"epsilon-{table.name}")
        blocks += [Figure(png, f"{table.title}: loss over epsilon, two calibrations."), Command(self.command)]
        caption = f"Noise (the paper's Table 1) at m = {_paper_owners(experiment):,}, epsilon = {PAPER_EPSILON:g}"
        blocks.append(Table(NOISE_HEADER, [row.cells() for row in noise], caption))
        blocks.append(Table(_POINT_HEADER, self._rows(experiment), "Figures at the end of training"))
        return Section(table.title, blocks)

    def _rows(self, experiment: Experiment) -> list[list[str]]:
        some = [p for p in self.points if p.table == experiment.table.name and p.figure == "epsilon"]
        return [_point_cells(p) for p in some]

    def _deviations_text(self) -> str:
        lines = ["# Deviations from the paper's figures", "", f"Made by `{self.command}`.", ""]
        lines += ["| " + " | ".join(DEVIATION_HEADER) + " |", "|" + "---|" * len(DEVIATION_HEADER)]
        lines += ["| " + " | ".join(deviation_cells(one)) + " |" for one in self.deviations]
        return "\n".join(lines) + "\n"

    def _deviations_section(self) -> Section:
        rows = [deviation_cells(one) for one in self.deviations]
        note = (
            f"The paper's points at m = {PAPER_OWNERS:,}, epsilon = {PAPER_EPSILON:g}, iteration 1,400, with its "
            "calibration. Mean ratio: geometric mean of measured over published along all iterations."
        )
        return Section("Deviations from the paper", [Text(note), Table(DEVIATION_HEADER, rows), Command(self.command)])

    def _real_section(self) -> Section:
        if not self.real:
            return Section("Real processes", [Text("Not run: add --real.")])
        rows = [run.cells() for run in self.real]
        note = "Sessions of real processes on loopback beside simulations of the same tasks."
        return Section("Real processes", [Text(note), Table(REAL_HEADER, rows), Command(self.command)])


_POINT_HEADER = ("method", "calibration", "m", "epsilon", "delta", "runs", "quality", "sd", "loss", "sd", "gap", "sd")


def _point_cells(point: Point) -> list[str]:
    return [
        LOOKS[point.method].title,
        calibration_name(point.calibration),
        f"{point.owners:,}",
        f"{point.epsilon:g}",
        f"{point.delta:g}",
        f"{point.runs}",
        f"{point.quality:.4f}",
        f"{point.quality_deviation:.2g}",
        f"{point.loss:.3g}",
        f"{point.loss_deviation:.2g}",
        f"{point.gap:.3g}",
        f"{point.gap_deviation:.2g}",
    ]


def deviation_cells(one: Deviation) -> list[str]:
    """Return a deviation for people, as `DEVIATION_HEADER` says."""
    return [
        one.table,
        one.metric.replace("_", " "),
        LOOKS[one.method].title,
        f"{one.published:.3g}",
        f"{one.measured:.3g}",
        f"{one.spread:.2g}",
        f"{one.ratio:.2f}",
        f"{one.mean_ratio:.2f}",
    ]


def _noise(experiment: Experiment) -> list[NoiseRow]:
    return noise_rows(experiment, owners=_paper_owners(experiment), epsilon=PAPER_EPSILON)


def _paper_owners(experiment: Experiment) -> int:
    return experiment.owner_counts([PAPER_OWNERS])[0]


def _described(experiment: Experiment) -> str:
    table = experiment.table
    measure = "mean squared error" if table.regression else "accuracy"
    return (
        f"{table.training.record_count:,} training and {table.test.record_count:,} test records of "
        f"{table.training.dimension} coordinates, from {table.source}. Without privacy: {measure} "
        f"{experiment.judge.reference:.4f}."
    )


def _table_json(experiment: Experiment) -> dict[str, Any]:
    table = experiment.table
    return {
        "name": table.name,
        "source": table.source,
        "training_records": table.training.record_count,
        "test_records": table.test.record_count,
        "dimension": table.training.dimension,
        "measure": "mean squared error" if table.regression else "accuracy",
        "without_privacy": experiment.judge.reference,
    }


def _machine_section(document: Mapping[str, Any]) -> Section:
    rows = [[name, str(value)] for name, value in {**document["machine"], **document["versions"]}.items()]
    blocks: list[Block] = [Table(("what", "value"), rows), Text(f"It took {document['seconds']:,.0f} seconds.")]
    return Section("Machine and versions", blocks)
