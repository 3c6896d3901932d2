"""The page of ``mpcdp bench protocol --html``."""

from io import BytesIO
from typing import Any

from mpcdp.bench.machine import where_measured
from mpcdp.bench.protocol import PHASES
from mpcdp.bench.protocol_results import (
    PEER_HEADER,
    PROCESSOR_HEADER,
    ROW_HEADER,
    SERVER_HEADER,
    ProtocolResults,
)
from mpcdp.html_page import Command, Figure, Page, Section, Table, Text

__all__ = ["results_page", "results_sections"]


def results_page(results: ProtocolResults) -> Page:
    """Put everything on one page that loads nothing."""
    where = where_measured()
    machine = [[name, str(value)] for name, value in where["machine"].items()]
    versions = [[name, value] for name, value in where["versions"].items()]
    return Page(
        title="What a session costs",
        sections=[
            *results_sections(results, command=where["command"]),
            Section("Where", [Table(("machine", ""), machine), Table(("library", "version"), versions)]),
        ],
    )


def results_sections(results: ProtocolResults, *, command: str) -> list[Section]:
    """Show everything that was measured, by the command that did it."""
    return [
        Section(
            "What a session costs",
            [
                Command(command),
                Text(
                    "Output perturbation with joint noise: every role a process on this machine, mutual TLS, "
                    "owners sharing processes. Time: of all phases, from when the last party was up to the "
                    "release. The round trip and the bandwidth are added by a proxy on loopback. Bytes are "
                    "payload. MiB: the largest compute party."
                ),
                Table(ROW_HEADER, results.row_cells()),
                Figure(_png(_phases_figure(results)), "Where the time goes, by session."),
                Text(
                    "Processor seconds, from the end of the imports to the end of the process; an owner: those of "
                    "all owners' processes, divided by the owners."
                ),
                Table(PROCESSOR_HEADER, results.processor_cells()),
            ],
        ),
        Section("Cost model", _model_blocks(results)),
        Section(
            "Other libraries",
            [
                Text(
                    "The same work: as many vectors, of the last dimension that was asked for, added up, and "
                    "noise. They differ in what they protect; that is in the last two columns."
                ),
                Table(PEER_HEADER, results.peer_cells()),
            ],
        ),
        Section("Notes", [Text(note) for note in results.notes] or [Text("None.")]),
    ]


def _model_blocks(results: ProtocolResults) -> list[Any]:
    blocks: list[Any] = [Text(results.model_text())]
    if results.model is not None:
        blocks.append(Figure(_png(_fit_figure(results)), "Measured times over the model's."))
    if results.many is not None:
        blocks += [Text(results.many_text()), Table(SERVER_HEADER, results.server_cells())]
    return blocks


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9, height), layout="constrained")
    return drawing, drawing.subplots()


def _phases_figure(results: ProtocolResults) -> Any:
    drawing, axes = _figure(1.5 + 0.35 * len(results.rows))
    labels = [
        _label(row.owners, row.dimension, row.parties, row.round_trip_ms, row.bandwidth_mbit) for row in results.rows
    ]
    left = [0.0] * len(labels)
    for phase in PHASES:
        widths = [row.seconds_by_phase[phase] for row in results.rows]
        axes.barh(labels, widths, left=left, label=phase)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="seconds")
    drawing.legend(loc="outside upper center", ncols=len(PHASES))
    return drawing


def _fit_figure(results: ProtocolResults) -> Any:
    drawing, axes = _figure(4)
    residuals = [] if results.model is None else results.model.residuals
    measured = [row.seconds for row in results.rows if row.bandwidth_mbit is None]
    fitted = [seconds - residual for seconds, residual in zip(measured, residuals, strict=True)]
    span = [min(*measured, *fitted), max(*measured, *fitted)]
    axes.plot(span, span, color="#999999", linewidth=1)
    axes.scatter(fitted, measured)
    axes.set(xscale="log", yscale="log", xlabel="seconds by the model", ylabel="seconds measured")
    return drawing


def _label(owners: int, dimension: int, parties: int, round_trip_ms: float, bandwidth_mbit: float | None) -> str:
    limit = "" if bandwidth_mbit is None else f", {bandwidth_mbit:g} Mbit/s"
    return f"m={owners:,} d={dimension:,} k={parties}, {round_trip_ms:g} ms{limit}"


def _png(drawing: Any) -> bytes:
    buffer = BytesIO()
    drawing.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
