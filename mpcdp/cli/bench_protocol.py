"""``mpcdp bench protocol``: what a whole session costs, on good and bad networks, and what other libraries take."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mpcdp.bench.cost_model import CostModel
from mpcdp.bench.many_owners import ManyOwners, predict, simulate
from mpcdp.bench.peers import PEERS, Peer, PeerResult, failed_peer, run_peer
from mpcdp.bench.protocol import ProtocolRow, ProtocolSetting, measure_plain, measure_protocol
from mpcdp.bench.protocol_page import results_page
from mpcdp.bench.protocol_results import (
    PEER_HEADER,
    PROCESSOR_HEADER,
    ROW_HEADER,
    SERVER_HEADER,
    ProtocolResults,
    fitted,
    our_result,
)
from mpcdp.bench.slow_network import Link
from mpcdp.cli.progress import NoProgress, progress_console
from mpcdp.errors import ConfigError, PeerError

__all__ = ["protocol", "star"]

_OWNERS, _QUICK_OWNERS = [10, 100, 300], [10, 40]
_DIMENSIONS, _QUICK_DIMENSIONS = [100, 30_000, 10_000], [100, 3_000]
_PARTIES, _QUICK_PARTIES = [3, 2, 5], [2]
_ROUND_TRIPS, _QUICK_ROUND_TRIPS = [0.0, 1.0, 20.0, 100.0], [0.0, 20.0]
_BANDWIDTHS = [100.0]
_MANY, _QUICK_MANY = 1_000_000, 100_000
_MANY_BYTES = 4 << 30
_PEER_SECONDS = 300.0
_WIDTH = 190
_PEER_FIGURES = 5
"""Columns of the table of libraries that are short; the others are printed below."""

_PLAIN = Peer(
    "plain gRPC",
    (),
    "our processes and connections, nothing protected",
    "none",
    "the process that adds up sees every vector and the exact sum",
)


def protocol(
    owners: Annotated[list[int] | None, typer.Option(min=1, help="Owners; may be repeated.")] = None,
    dimension: Annotated[list[int] | None, typer.Option(min=1, help="Coordinates; may be repeated.")] = None,
    parties: Annotated[list[int] | None, typer.Option(min=2, max=5, help="Compute parties; may be repeated.")] = None,
    round_trip: Annotated[
        list[float] | None, typer.Option(min=0, help="Milliseconds added to every round trip; may be repeated.")
    ] = None,
    bandwidth: Annotated[
        list[float] | None, typer.Option(min=0.1, help="Mbit/s of each access line; may be repeated.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions of a row, of which the median counts.")] = 1,
    many: Annotated[int | None, typer.Option(min=0, help="Owners to predict and simulate; 0 for none.")] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Also run other libraries.")] = True,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each library, of which the median counts.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller settings where nothing else is said.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write everything as one page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Measure whole sessions of output perturbation: real processes, mutual TLS, slow networks, other libraries beside.

    The first value of each option makes the first row; every other value is measured with the first ones of the others.
    Other libraries get the last --dimension.

    Example: mpcdp bench protocol --owners 10 --owners 1000 --round-trip 0 --round-trip 20 --html page.html
    """
    if html is not None and not html.parent.is_dir():
        raise ConfigError(f"--html {html}: there is no folder {html.parent}")
    console, working = Console(stderr=as_json), progress_console(quiet=quiet)
    dimensions = dimension or (_QUICK_DIMENSIONS if quick else _DIMENSIONS)
    settings = star(
        owners or (_QUICK_OWNERS if quick else _OWNERS),
        dimensions,
        parties or (_QUICK_PARTIES if quick else _PARTIES),
        round_trip or (_QUICK_ROUND_TRIPS if quick else _ROUND_TRIPS),
        bandwidth or ([] if quick else _BANDWIDTHS),
    )
    notes = ["loopback on one machine: all processes share its cores, so a session of several machines is faster"]
    measured = _measure(settings, sessions, notes, working)
    rows = list(measured.values())
    work = replace(settings[0], dimension=dimensions[-1])
    others = _others(work, runs, working) if peers else []
    model = _model(rows, notes)
    count = many if many is not None else (_QUICK_MANY if quick else _MANY)
    predicted = _many(rows, count, notes, working) if count else None
    ours = [our_result(measured[work])] if work in measured else []
    results = ProtocolResults(rows, [*ours, *others], model, predicted, notes)
    if html is not None:
        html.write_text(results_page(results).render(), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(results.document()))
    else:
        _print(results, console)


def star(
    owners: Sequence[int],
    dimensions: Sequence[int],
    parties: Sequence[int],
    round_trips: Sequence[float],
    bandwidths: Sequence[float],
) -> list[ProtocolSetting]:
    """Return the setting of all first values, then those that differ from it in one value; a limited line is one."""
    m, d, k, first = owners[0], dimensions[0], parties[0], Link(round_trips[0])
    settings = [
        *(ProtocolSetting(each, d, k, first) for each in owners),
        *(ProtocolSetting(m, each, k, first) for each in dimensions),
        *(ProtocolSetting(m, d, each, first) for each in parties),
        *(ProtocolSetting(m, d, k, Link(each)) for each in round_trips),
        *(ProtocolSetting(m, d, k, Link(round_trips[0], each)) for each in bandwidths),
    ]
    return list(dict.fromkeys(settings))


def _measure(
    settings: Sequence[ProtocolSetting], sessions: int, notes: list[str], console: Console
) -> dict[ProtocolSetting, ProtocolRow]:
    """Measure all settings; one that fails is a note, unless it is the first, with which the others are compared."""
    rows: dict[ProtocolSetting, ProtocolRow] = {}
    for number, each in enumerate(settings, 1):
        limit = "" if each.link.bandwidth_mbit is None else f", {each.link.bandwidth_mbit:g} Mbit/s"
        what = (
            f"{each.owners:,} owners, {each.dimension:,} coordinates, {each.parties} parties, "
            f"{each.link.round_trip_ms:g} ms{limit}"
        )
        try:
            with console.status(f"{number} of {len(settings)}: {what}"):
                rows[each] = measure_protocol(each, sessions=sessions)
        except PeerError as error:
            if not rows:
                raise
            notes.append(f"not measured: {what}: {error}")
    return rows


def _others(work: ProtocolSetting, runs: int, console: Console) -> list[PeerResult]:
    with console.status("plain gRPC"):
        results = [_plain(work, runs)]
    for peer in PEERS:
        with console.status(f"{peer.name}: the first time it is installed"):
            results.append(
                run_peer(peer, owners=work.owners, dimension=work.dimension, runs=runs, seconds=_PEER_SECONDS)
            )
    return results


def _plain(work: ProtocolSetting, runs: int) -> PeerResult:
    from grpc import __version__ as version

    try:
        seconds, sent = measure_plain(work, runs=runs)
    except PeerError as error:
        return failed_peer(_PLAIN, str(error))
    return PeerResult(
        peer=_PLAIN.name,
        version=version,
        setting=_PLAIN.setting,
        seconds=median(seconds),
        seconds_by_run=tuple(seconds),
        bytes_sent=sent,
        largest_error=None,
        noise_ratio=None,
        noise=_PLAIN.noise,
        seen_by=_PLAIN.seen_by,
    )


def _model(rows: Sequence[ProtocolRow], notes: list[str]) -> CostModel | None:
    try:
        return fitted(rows)
    except ValueError as error:
        notes.append(f"no cost model: {error}")
        return None


def _many(rows: Sequence[ProtocolRow], count: int, notes: list[str], console: Console) -> ManyOwners | None:
    if 8 * count * rows[0].dimension > _MANY_BYTES:
        notes.append(f"{count:,} owners are not simulated, for want of memory: choose a smaller first --dimension")
        return None
    try:
        with console.status(f"simulating the servers of {count:,} owners"):
            return predict(rows, owners=count, simulation=simulate)
    except (PeerError, ValueError) as error:
        notes.append(f"{count:,} owners are not predicted: {error}")
        return None


def _print(results: ProtocolResults, console: Console) -> None:
    console.width = max(console.width, _WIDTH)
    _print_table("A session on this machine", ROW_HEADER, results.row_cells(), console)
    console.print(
        "Time: from the last party up to the release; the phases are its parts. Bytes: payload of all processes.\n"
        "MiB: the largest compute party. Fit: the cost model's time."
    )
    console.print(results.model_text(), soft_wrap=True)
    _print_table("Processor seconds", PROCESSOR_HEADER, results.processor_cells(), console)
    if results.many is not None:
        _print_table("A server with very many owners", SERVER_HEADER, results.server_cells(), console)
        console.print(results.many_text(), soft_wrap=True)
    peers = results.peer_cells()
    _print_table(
        "The same sum by other means", PEER_HEADER[:_PEER_FIGURES], [c[:_PEER_FIGURES] for c in peers], console
    )
    for name, *_, setting, noise, seen_by in peers:
        console.print(f"{name}: {setting}. Noise: {noise}. Who could see what: {seen_by}.", soft_wrap=True)
    for note in results.notes:
        console.print(f"* {note}")


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    console.print(table)
