"""One page of everything that was measured: figures, frontier and benchmarks, from the files that each has written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcdp.bench.protocol_page import results_sections
from mpcdp.bench.protocol_results import ProtocolResults
from mpcdp.errors import InputError
from mpcdp.html_page import Block, Command, Page, Section, Table, Text
from mpcdp.reproduce.figures_report import figures_sections
from mpcdp.reproduce.frontier_report import frontier_sections

__all__ = ["write_report"]


def _protocol_sections(document: Mapping[str, Any], folder: Path) -> list[Section]:
    try:
        return results_sections(ProtocolResults.of(document), command=document.get("command", ""))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


_KINDS = {"figures": figures_sections, "frontier": frontier_sections, "protocol": _protocol_sections}


def write_report(sources: Sequence[Path], page: Path) -> Path:
    """Write one self-contained page about results.

    Args:
        sources: folders of `mpcdp reproduce figures` or `frontier`, and files of `mpcdp bench ... --json`.
        page: file to write.

    Returns:
        ``page``.

    Raises:
        InputError: a source is nothing of that.
    """
    sections = []
    for source in sources:
        document, folder = _load(source)
        kind = document.get("kind")
        made = _KINDS[kind](document, folder) if kind in _KINDS else [_bench_section(document)]
        sections += [*made, _machine_section(document, made[0].heading)]
    title = sections[0].heading if len(sources) == 1 else "What was measured"
    page.write_text(Page(title=title, sections=sections).render(), encoding="utf-8")
    return page


def _load(source: Path) -> tuple[dict[str, Any], Path]:
    """Read results, and return them with the folder that holds their figures."""
    path = source / "results.json" if source.is_dir() else source
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; name a folder of results, or a file of --json") from None
    except ValueError:
        raise InputError(f"{path}: is not JSON; name a folder of results, or a file of --json") from None
    if not isinstance(document, dict) or not (document.get("kind") in _KINDS or "rows" in document):
        raise InputError(f"{path}: holds no results of mpcdp reproduce or mpcdp bench")
    return document, path.parent


def _bench_section(document: Mapping[str, Any]) -> Section:
    """Show the rows of a benchmark as they are; what is measured run by run stays in the file."""
    command = document.get("command", "")
    rows = document["rows"]
    names = [name for name in (rows[0] if rows else ()) if not isinstance(rows[0][name], list | dict)]
    names = [name for name in names if any(row.get(name) is not None for row in rows)]
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    notes = [*document.get("notes", ()), *(note for row in rows for note in row.get("notes", ()))]
    blocks: list[Block] = [Table([name.replace("_", " ") for name in names], cells)]
    blocks += [Text(note) for note in dict.fromkeys(notes)]
    if published := document.get("published"):
        header = list(published[0])
        lines = [[str(each[name]) for name in header] for each in published]
        blocks.append(Table(header, lines, "Published, measured elsewhere: other machines, mostly other trust models"))
    words = command.split()[1:3]
    return Section(" ".join(words).capitalize() or "Benchmark", [*([Command(command)] if command else []), *blocks])


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _machine_section(document: Mapping[str, Any], of: str) -> Section:
    where = {**document.get("machine", {}), **document.get("versions", {})}
    blocks: list[Block] = [Table(("what", "value"), [[name, str(value)] for name, value in where.items()])]
    if "seconds" in document:
        blocks.append(Text(f"It took {document['seconds']:,.0f} seconds."))
    return Section(f"Machine and versions: {of}", blocks)
