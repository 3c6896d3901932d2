"""``mpcdp run``: a network's processes, all of them on this machine or one from its config."""

import json
import signal
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mpcdp.cli.session_progress import run_network
from mpcdp.config import ComputePartyConfig, Config, CoordinatorConfig, DealerConfig, OwnerConfig, load_config
from mpcdp.errors import ConfigError, InputError, ProcessStopped
from mpcdp.learning.model import TrainedModel
from mpcdp.task import load_task

__all__ = ["run"]

_ROLES: dict[str, type[Config]] = {
    "owner": OwnerConfig,
    "compute": ComputePartyConfig,
    "dealer": DealerConfig,
    "coordinator": CoordinatorConfig,
}


@dataclass(frozen=True)
class _Result:
    """What is printed; the fields are those of ``--json``."""

    model: str
    epsilon: float
    delta: float
    owners: tuple[str, ...]
    processes: int
    seconds: float
    exit_codes: dict[str, int]


def run(
    directory: Annotated[Path | None, typer.Argument(help="A folder made by `mpcdp network new`.")] = None,
    config: Annotated[Path | None, typer.Option(help="Run one process from its own config (TOML) instead.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long the whole session may take.")] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Run a network's processes on this machine, or one process from its config.

    One process serves one session, logs JSON lines on standard error and ends with the exit code of its session; that
    is what each organisation runs on a machine of its own.

    Example: mpcdp run net
    """
    if (directory is None) == (config is None):
        raise InputError("give either the folder of a network or --config FILE for one process")
    if config is not None:
        raise typer.Exit(_run_one(config))
    if directory is not None:
        result = _run_all(directory, seconds, quiet=quiet or as_json)
        if as_json:
            typer.echo(json.dumps(asdict(result)))
        elif not quiet:
            typer.echo(
                f"{len(result.owners)} owners trained one model in {result.seconds:.1f} s, for epsilon = "
                f"{result.epsilon:g} and delta = {result.delta:.3g} of every record: {result.model}"
            )


def _run_all(directory: Path, seconds: float, *, quiet: bool) -> _Result:
    if not (directory / "task.toml").exists():
        raise ConfigError(f"{directory} holds no network: make one with `mpcdp network new {directory} --task TASK`")
    task = load_task(directory / "task.toml")
    try:
        session = run_network(directory, task, Console(stderr=True), seconds=seconds, quiet=quiet)
    except KeyboardInterrupt:
        raise ProcessStopped(f"stopped; `mpcdp run {directory}` goes on with the same session") from None
    model = TrainedModel.load(session.model)
    return _Result(
        model=str(session.model),
        epsilon=model.privacy.epsilon,
        delta=model.privacy.delta,
        owners=model.owners,
        processes=len(session.results),
        seconds=session.seconds,
        exit_codes={result.name: result.exit_code for result in session.results},
    )


def _run_one(config: Path) -> int:
    """Run one process in the foreground and return its exit code."""
    try:
        role = str(tomllib.loads(config.read_text(encoding="utf-8")).get("role"))
    except (OSError, ValueError):
        role = "owner"  # its own error, below, says more
    if role not in _ROLES:
        raise ConfigError(f"{config}: role: expected one of {', '.join(_ROLES)}, got {role!r}")
    load_config(config, _ROLES[role])  # so that a wrong file is explained in a sentence, not in a log
    command = [sys.executable, "-m", f"parties.{role}", "--config", str(config)]
    with subprocess.Popen(command) as process:  # noqa: S603 (our own command)
        signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        while True:
            try:
                code = process.wait()
                # One that was stopped before it could take note of it has lost nothing either.
                return ProcessStopped.exit_code if code == -signal.SIGTERM else code
            except KeyboardInterrupt:
                continue  # the terminal sends it to the process too, which ends its session in order
