"""``mpcdp noise``: the compute parties' pools of noise that is made before it is needed."""

import json
import tomllib
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mpcdp.cli.noise_filling import fill_network, fill_one
from mpcdp.config import ComputePartyConfig, DealerConfig, load_config
from mpcdp.errors import ConfigError, InputError
from mpcdp.mpc.noise_bank import NoisePool, pool_state, whole_blocks
from mpcdp.plan import Plan, make_plan
from mpcdp.roles.noise_fill import FillJob, pool_of
from mpcdp.task import check_policy, load_task

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


_WIDTH = 100
"""The table needs this many columns; a narrower terminal wraps its lines."""


class Law(StrEnum):
    """Distributions of noise."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"


_ConfigFile = Annotated[Path | None, typer.Option("--config", help="This process's own config file (TOML).")]
_Directory = Annotated[Path | None, typer.Option("--network", help="A folder made by `mpcdp network new` instead.")]
_Law = Annotated[Law | None, typer.Option(help="Which noise; the task's own by default.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def noise() -> None:
    """Noise of the compute parties that is made before it is needed."""


@app.command()
def fill(
    samples: Annotated[int, typer.Option(min=1, help="How many samples to add to every pool.")],
    config: _ConfigFile = None,
    network: _Directory = None,
    distribution: _Law = None,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Make noise ahead: every compute party and the dealer run this at the same time, with the same number.

    Example: mpcdp noise fill --config compute.toml --samples 1000000
    """
    if config is not None and network is None:
        process = _load(config)
        check_policy(getattr(process, "policy", None), load_task(process.task), name=process.name)
        figures = fill_one(process, _job(process.task, samples, distribution), quiet=quiet)
    else:
        folder = _directory(config, network)
        figures = fill_network(folder, _job(folder / "task.toml", samples, distribution), quiet=as_json or quiet)
    if as_json:
        typer.echo(json.dumps(figures))
    elif not quiet:
        rate = round(figures["samples_per_second"])
        typer.echo(f"{figures['samples']:,} samples in {figures['seconds']:.1f} s: {rate:,} a second")


@dataclass(frozen=True)
class _Status:
    """One pool; the fields are those of ``--json``.

    Args:
        party: whose.
        bank: id of the pools; the same at all parties.
        distribution: of the noise.
        ready: samples on disk, at all parties when the pool was filled.
        free: those of them that no session has reserved.
        reserved: positions that sessions have had, or that were given up.
        rounds: how many rounds of the task the free samples suffice for.
        sessions: how many sessions of it.
    """

    party: str
    bank: str
    distribution: str
    ready: int
    free: int
    reserved: int
    rounds: int
    sessions: int


@app.command()
def status(config: _ConfigFile = None, network: _Directory = None, as_json: _Json = False) -> None:
    """Show what a compute party's pools hold, and for how many sessions of its task that is enough.

    Example: mpcdp noise status --config compute.toml
    """
    rows = [
        _status(party, make_plan(load_task(party.task)), law)
        for party in _compute_parties(config, network)
        for law in Law
    ]
    if as_json:
        typer.echo(json.dumps({"pools": [asdict(row) for row in rows]}))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("party", "bank", "noise", "ready", "free", "reserved", "rounds", "sessions"):
        table.add_column(column, justify="left" if column in ("party", "bank", "noise") else "right", no_wrap=True)
    for row in rows:
        figures = (row.ready, row.free, row.reserved, row.rounds, row.sessions)
        table.add_row(row.party, row.bank[:8] or "-", row.distribution, *(f"{figure:,}" for figure in figures))
    console = Console()
    console.width = max(console.width, _WIDTH)
    console.print(table)


def _status(party: ComputePartyConfig, plan: Plan, distribution: Law) -> _Status:
    state = pool_state(pool_of(load_task(party.task), party.name, party.state, distribution.value))
    usable = plan.noise_mode == "joint" and plan.distribution == distribution
    return _Status(
        party=party.name,
        bank=state.bank.hex(),
        distribution=distribution.value,
        ready=state.ready,
        free=state.free,
        reserved=state.next,
        rounds=state.free // plan.dimension if usable else 0,
        sessions=state.free // whole_blocks(plan.dimension * plan.rounds) if usable else 0,
    )


@app.command()
def discard(
    config: _ConfigFile = None,
    network: _Directory = None,
    distribution: _Law = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy a compute party's pool; then every other party has to discard its own as well.

    Example: mpcdp noise discard --config compute.toml
    """
    for party in _compute_parties(config, network):
        task = load_task(party.task)
        law = distribution.value if distribution else make_plan(task).distribution
        folder = pool_of(task, party.name, party.state, law)
        state = pool_state(folder)
        if not yes and not typer.confirm(f"Destroy {state.ready:,} samples of {law} noise of {party.name}?"):
            typer.echo(f"{party.name}: kept")
            continue
        if folder.exists():
            with NoisePool(folder) as pool:
                pool.discard()
        typer.echo(f"{party.name}: destroyed {state.ready:,} samples of {law} noise")


def _job(task_path: Path, samples: int, distribution: Law | None) -> FillJob:
    task = load_task(task_path)
    plan = make_plan(task)
    return FillJob(task, plan, distribution.value if distribution else plan.distribution, samples)


def _load(path: Path) -> ComputePartyConfig | DealerConfig:
    try:
        role = tomllib.loads(path.read_text(encoding="utf-8")).get("role")
    except (OSError, ValueError):
        role = "compute"  # its own error, from `load_config`, says more
    if role not in ("compute", "dealer"):
        raise ConfigError(f'{path}: role: expected "compute" or "dealer", whose work noise is, got {role!r}')
    return load_config(path, ComputePartyConfig) if role == "compute" else load_config(path, DealerConfig)


def _directory(config: Path | None, network: Path | None) -> Path:
    if network is None or config is not None:
        raise InputError("give either --config FILE for one process or --network DIRECTORY for all on this machine")
    if not (network / "task.toml").exists():
        raise InputError(f"{network} holds no network: make one with `mpcdp network new {network}`")
    return network


def _compute_parties(config: Path | None, network: Path | None) -> list[ComputePartyConfig]:
    """Load the configs of one compute party, or of all in a network."""
    if config is not None and network is None:
        process = _load(config)
        if isinstance(process, DealerConfig):
            raise ConfigError(f"{config}: the dealer keeps no noise; give a compute party's config")
        return [process]
    folder = _directory(config, network)
    parties = load_task(folder / "task.toml").compute_parties
    return [load_config(folder / party.name / "compute.toml", ComputePartyConfig) for party in parties]
