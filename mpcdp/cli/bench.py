"""``mpcdp bench``: what the noise, a training round, a check and a whole session cost on this machine."""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import product
from types import FrameType
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mpcdp.bench.check import CheckRow, CheckSetting, check_document, measure_check
from mpcdp.bench.noise import Row, document, measure
from mpcdp.bench.published import PUBLISHED
from mpcdp.bench.report import time_text
from mpcdp.bench.rounds import RoundsRow, measure_rounds, rounds_document
from mpcdp.bench.rounds_setting import RoundsSetting
from mpcdp.bench.setting import Sampler, Setting
from mpcdp.cli.bench_protocol import protocol
from mpcdp.cli.progress import NoProgress, progress_console

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)
app.command()(protocol)

_DIMENSIONS = [128, 1_000, 10_000, 100_000, 1_000_000]
_PARTIES = [2, 3]
_SAMPLERS = list(Sampler)
_ROUND_DIMENSIONS = [128, 10_000, 1_000_000]
_OWNERS = [10, 100]
_CHECK_DIMENSIONS = [100, 10_000]
_CHECK_OWNERS = [10]
_WIDTH = 120
"""The tables need this many columns; a narrower terminal wraps their lines."""


class _Noise(StrEnum):
    """Who samples the noise."""

    JOINT = "joint"
    PER_PARTY = "per-party"


_NOISES = list(_Noise)


@app.callback()
def bench() -> None:
    """What the noise, a training round, a contribution check and a whole session cost on this machine."""


@app.command()
def noise(
    dimension: Annotated[list[int], typer.Option(min=1, help="Number of samples; may be repeated.")] = _DIMENSIONS,
    parties: Annotated[list[int], typer.Option(min=2, max=5, help="Compute parties; may be repeated.")] = _PARTIES,
    sampler: Annotated[list[Sampler], typer.Option(help="What to measure; may be repeated.")] = _SAMPLERS,
    runs: Annotated[int, typer.Option(min=1, help="Runs of which the median counts.")] = 3,
    crypten_limit: Annotated[int, typer.Option(min=0, help="Largest dimension at which CrypTen runs too.")] = 100_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Measure the noise samplers: real processes on loopback, mutual TLS, a dealer apart, CrypTen's own beside them.

    Example: mpcdp bench noise --dimension 100000 --parties 2 --sampler gaussian --runs 5
    """
    console, working = Console(stderr=as_json), progress_console(quiet=quiet)
    rows = []
    with _cleaning_up_when_terminated():
        for setting in _settings(sampler, parties, dimension, runs, crypten_limit):
            with working.status(f"{setting.sampler}, {setting.parties} parties, {setting.dimension:,} samples"):
                rows.append(measure(setting, notes=_notes(setting, crypten_limit)))
    if as_json:
        typer.echo(json.dumps(document(rows)))
    else:
        _print(rows, console)


@app.command()
def rounds(
    dimension: Annotated[list[int], typer.Option(min=1, help="Coordinates; may be repeated.")] = _ROUND_DIMENSIONS,
    owners: Annotated[list[int], typer.Option(min=1, help="Owners; may be repeated.")] = _OWNERS,
    parties: Annotated[list[int], typer.Option(min=2, max=5, help="Compute parties; may be repeated.")] = _PARTIES,
    noise: Annotated[list[_Noise], typer.Option(help="Who samples the noise; may be repeated.")] = _NOISES,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of a session, of which the median counts.")] = 10,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions, ours and plain in turn.")] = 1,
    joint_limit: Annotated[int, typer.Option(min=0, help="Most samples of joint noise for a session.")] = 1_000_000,
    upload_limit: Annotated[int, typer.Option(min=0, help="Most coordinates uploaded in a round.")] = 20_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Measure training rounds: the product's own roles as processes on loopback, beside plain sums and a loop.

    Example: mpcdp bench rounds --dimension 10000 --owners 100 --parties 3 --noise joint --rounds 50
    """
    console, working = Console(stderr=as_json), progress_console(quiet=quiet)
    everything = [RoundsSetting(d, m, k, n.value, rounds) for n, k, m, d in product(noise, parties, owners, dimension)]
    settings = [each for each in everything if not _too_large(each, joint_limit, upload_limit)]
    notes = [note for each in everything if (note := _too_large(each, joint_limit, upload_limit))]
    rows = []
    with _cleaning_up_when_terminated():
        for number, setting in enumerate(settings, 1):
            with working.status(
                f"{number} of {len(settings)}: {setting.noise} noise, {setting.parties} parties, {setting.owners:,} "
                f"owners, {setting.dimension:,} coordinates"
            ):
                rows.append(measure_rounds(setting, sessions=sessions))
    if as_json:
        typer.echo(json.dumps(rounds_document(rows, notes)))
    else:
        _print_rounds(rows, notes, console)


@app.command()
def check(
    dimension: Annotated[list[int], typer.Option(min=1, help="Coordinates; may be repeated.")] = _CHECK_DIMENSIONS,
    owners: Annotated[list[int], typer.Option(min=1, help="Owners; may be repeated.")] = _CHECK_OWNERS,
    parties: Annotated[list[int], typer.Option(min=2, max=5, help="Compute parties; may be repeated.")] = _PARTIES,
    length_bits: Annotated[int, typer.Option(min=1, max=60, help="Honest vectors' length, ring units, log2.")] = 31,
    runs: Annotated[int, typer.Option(min=1, help="Runs of which the median counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Measure the contribution check: real processes on loopback, mutual TLS, a dealer apart.

    Example: mpcdp bench check --dimension 10000 --owners 100 --parties 3
    """
    console, working = Console(stderr=as_json), progress_console(quiet=quiet)
    rows = []
    with _cleaning_up_when_terminated():
        for count, owner_count, size in product(parties, owners, dimension):
            setting = CheckSetting.of(
                parties=count, dimension=size, owners=owner_count, length_bits=length_bits, runs=runs
            )
            with working.status(f"{count} parties, {owner_count:,} owners, {size:,} coordinates"):
                rows.append(measure_check(setting))
    if as_json:
        typer.echo(json.dumps(check_document(rows)))
    else:
        _print_checks(rows, console)


@contextmanager
def _cleaning_up_when_terminated() -> Iterator[None]:
    """Let SIGTERM end the block as an exception, as Ctrl-C does, so that no process and no key is left."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _settings(
    samplers: list[Sampler], parties: list[int], dimensions: list[int], runs: int, crypten_limit: int
) -> Iterator[Setting]:
    for sampler, count, dimension in product(samplers, parties, dimensions):
        crypten = sampler is not Sampler.PER_PARTY and dimension <= crypten_limit
        yield Setting(sampler, count, dimension, runs, crypten)


def _notes(setting: Setting, crypten_limit: int) -> list[str]:
    if not setting.joint:
        return ["each party samples its own noise in the clear: k times the variance, no dealer, nothing to compare"]
    if not setting.crypten:
        return [f"CrypTen not run above {crypten_limit:,} samples: raise --crypten-limit"]
    if setting.parties > 2:
        return [
            "CrypTen's truncation scatters and gathers; over the mesh, which only broadcasts, that sends more bytes"
        ]
    return []


def _too_large(setting: RoundsSetting, joint_limit: int, upload_limit: int) -> str:
    """Return why a setting is not measured, nothing if it is."""
    what = f"{setting.noise} noise, {setting.parties} parties, {setting.owners:,} owners, {setting.dimension:,} coord."
    if setting.noise == "joint" and setting.dimension * (setting.rounds + 1) > joint_limit:
        return f"not measured: {what}: above --joint-limit {joint_limit:,}"
    if setting.owners * setting.dimension > upload_limit:
        return f"not measured: {what}: above --upload-limit {upload_limit:,}"
    return ""


def _print(rows: list[Row], console: Console) -> None:
    console.width = max(console.width, _WIDTH)
    console.print(_measured(rows))
    console.print(
        "Time: median of the runs, from all parties ready to all have their shares. ANDs and bytes: per sample;"
    )
    console.print("sent: by one party to all others; dealt: by the dealer to all. MiB: the largest process.")
    console.print(
        "CrypTen: its own sampler on the same processes and connections, in turn with ours. For time only: its"
    )
    console.print("provider lets one party read all noise, and its laws are not what they are called.")
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        console.print(f"* {note}")
    console.print(_published())


def _print_rounds(rows: Sequence[RoundsRow], notes: Sequence[str], console: Console) -> None:
    console.width = max(console.width, _WIDTH)
    table = Table(title="A training round on this machine", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("noise", no_wrap=True)
    for column in ("parties", "owners", "dimension", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("plain", justify="right", no_wrap=True, style="dim")
    table.add_column("ratio", justify="right", no_wrap=True, style="bold")
    table.add_column("clear", justify="right", no_wrap=True, style="dim")
    for column in ("offline", "upload B", "release B", "agree B", "MiB", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_round_cells(row))
    console.print(table)
    console.print(
        "Time: from the call for contributions to the release, median of the rounds. Plain: the same processes\n"
        "without protection, one of them adding up. Clear: a loop in one process. Offline: noise and connections, for\n"
        "all rounds of a session. Upload: by one owner in a round; release: by one party to reveal it; agree: what it\n"
        "sends besides, to settle whose contributions count. MiB: the largest compute party, and the coordinator."
    )
    for note in notes:
        console.print(f"* {note}")


def _round_cells(row: RoundsRow) -> list[str]:
    return [
        row.noise,
        str(row.parties),
        f"{row.owners:,}",
        f"{row.dimension:,}",
        time_text(row.seconds_per_round),
        time_text(row.plain_seconds_per_round),
        f"{row.ratio:.2f}",
        time_text(row.clear_seconds_per_round),
        time_text(row.offline_seconds),
        f"{row.upload_bytes_per_owner:,.0f}",
        f"{row.release_bytes_per_party:,.0f}",
        f"{row.agreement_bytes_per_party:,.0f}",
        f"{row.party_peak_memory_mib:,.0f}",
        f"{row.coordinator_peak_memory_mib:,.0f}",
    ]


def _print_checks(rows: Sequence[CheckRow], console: Console) -> None:
    console.width = max(console.width, _WIDTH)
    table = Table(title="A contribution check on this machine", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("parties", "owners", "dimension", "time", "rounds", "ANDs", "sent B", "dealt B", "slack", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.parties),
            f"{row.owners:,}",
            f"{row.dimension:,}",
            time_text(row.seconds),
            str(row.rounds),
            f"{row.ands_per_coordinate:,.1f}",
            f"{row.bytes_sent_per_coordinate:,.1f}",
            f"{row.dealer_bytes_per_coordinate:,.1f}",
            f"{row.slack:.1e}",
            f"{row.peak_memory_mib:,.0f}",
        )
    console.print(table)
    console.print(
        "Time: of one round's check of all owners, median of the runs, the dealer's work included. ANDs and bytes:\n"
        "per coordinate and owner; sent: by one party to each other one; dealt: by the dealer to all. Slack: how much\n"
        "longer than an honest vector one that passes may be."
    )


def _measured(rows: list[Row]) -> Table:
    table = Table(title="Measured on this machine", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("sampler", no_wrap=True)
    for column in ("parties", "samples", "time", "samples/s", "rounds", "ANDs", "sent B", "dealt B", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("CrypTen", "rounds", "sent B"):
        table.add_column(column, justify="right", no_wrap=True, style="dim")
    table.add_column("ratio", justify="right", no_wrap=True, style="bold")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and (before.sampler, before.parties) != (row.sampler, row.parties):
            table.add_section()
        table.add_row(*_cells(row))
    return table


def _published() -> Table:
    table = Table(title="Published, measured elsewhere: other machines, mostly other trust models", box=box.SIMPLE_HEAD)
    for column in ("work", "setting", "figure"):
        table.add_column(column)
    for figure in PUBLISHED:
        table.add_row(figure.work, figure.setting, figure.figure)
    return table


def _cells(row: Row) -> list[str]:
    return [
        row.sampler,
        str(row.parties),
        f"{row.dimension:,}",
        time_text(row.seconds),
        f"{row.samples_per_second:,.0f}",
        str(row.rounds),
        f"{row.ands_per_sample:,.0f}",
        f"{row.bytes_sent_per_sample:,.0f}",
        f"{row.dealer_bytes_per_sample:,.0f}",
        f"{row.peak_memory_mib:,.0f}",
        "-" if row.crypten_seconds is None else time_text(row.crypten_seconds),
        "-" if row.crypten_rounds is None else str(row.crypten_rounds),
        "-" if row.crypten_bytes_sent_per_sample is None else f"{row.crypten_bytes_sent_per_sample:,.0f}",
        "-" if row.ratio is None else f"{row.ratio:.2f}",
    ]
