"""``mpcdp ledger``: what an owner's records have paid."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcdp.config import OwnerConfig, load_config
from mpcdp.errors import BudgetError, InputError
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import limit_of
from mpcdp.privacy.ledger import LEDGER_FILE, Charge, Ledger
from mpcdp.privacy.ledger_rows import Entry, find_releases
from mpcdp.privacy.spending import Spending

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

_Place = Annotated[Path, typer.Argument(help="An owner's config file, or its state folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def ledger() -> None:
    """What an owner's records have paid, and whether the book is intact."""


@app.command()
def show(place: _Place, as_json: _Json = False) -> None:
    """Print every task that was paid for, what all of them cost together, and the limit when a config is given.

    Example: mpcdp ledger show owner.toml
    """
    path, limit = _find(place)
    with Ledger(path) as book:
        entries = book.entries()
    figures = _figures(entries, limit)
    typer.echo(json.dumps({"ledger": str(path), **figures}, indent=2) if as_json else _describe(figures))


@app.command()
def verify(place: _Place, as_json: _Json = False) -> None:
    """Check every row against the chain of hashes; exit code 3, and the first bad row, when it was changed.

    Example: mpcdp ledger verify owner.toml
    """
    path, _ = _find(place)
    try:
        with Ledger(path) as book:
            last, rows = book.verify(), len(book.entries())
    except BudgetError as error:
        if as_json:
            typer.echo(json.dumps({"ledger": str(path), "ok": False, "problem": str(error)}, indent=2))
        raise
    if as_json:
        typer.echo(json.dumps({"ledger": str(path), "ok": True, "rows": rows, "hash": last.hex()}, indent=2))
    else:
        typer.echo(f"{path}: {rows} rows, none changed. Hash of the last one, to be kept elsewhere: {last.hex()}")


def _find(place: Path) -> tuple[Path, PrivacyBudget | None]:
    """Return where a ledger is, and its limit if that is known."""
    state, limit = place, None
    if not place.is_dir():
        config = load_config(place, OwnerConfig)
        state, limit = config.state, limit_of(config.ledger)
    path = state / LEDGER_FILE
    if not path.exists():
        raise InputError(f"{path}: there is no ledger; give an owner's config, or the state folder of one that ran")
    return path, limit


def _figures(entries: Sequence[Entry], limit: PrivacyBudget | None) -> dict[str, Any]:
    charges = [entry for entry in entries if isinstance(entry, Charge)]
    return {
        "tasks": [_task(charge, released=len(find_releases(entries, charge.session))) for charge in charges],
        **Spending.of((charge.task_cost for charge in charges), limit).to_json(),
    }


def _task(charge: Charge, *, released: int) -> dict[str, Any]:
    gaussian = charge.gaussian
    return {
        "row": charge.number,
        "time": charge.time,
        "task": charge.task_name,
        "task_digest": charge.task_digest.hex(),
        "session": charge.session.hex(),
        "epsilon": charge.cost.epsilon,
        "delta": charge.cost.delta,
        "mu_squared": gaussian and gaussian.mu_squared,
        "distance": gaussian and gaussian.distance,
        "releases_paid": charge.releases,
        "releases": released,
    }


def _describe(figures: dict[str, Any]) -> str:
    """Lay the figures out for people."""
    lines = []
    for task in figures["tasks"]:
        kind = "one Gaussian" if task["mu_squared"] else "added up"
        lines += [
            f"row {task['row']:>3}  {task['time']}  {task['task']}",
            f"         task {task['task_digest'][:16]}, session {task['session'][:16]}, "
            f"{task['releases']} of {task['releases_paid']} release(s)",
            f"         epsilon = {task['epsilon']:.6g}, delta = {task['delta']:.6g}; {kind}",
        ]
    added, composed, limit = figures["added_up"], figures["composed"], figures["limit"]
    lines += [
        f"{len(figures['tasks'])} task(s) together:",
        f"  added up  epsilon = {added['epsilon']:.6g}, delta = {added['delta']:.6g}",
        f"  composed  epsilon = {_shown(composed['epsilon'])}, delta = {composed['delta']:.6g}, Gaussian tasks as one",
    ]
    if limit:
        lines.append(f"  limit     epsilon = {limit['epsilon']:.6g}, delta = {limit['delta']:.6g}; {_used(limit)}")
    return "\n".join(lines)


def _shown(epsilon: float | None) -> str:
    return "unbounded" if epsilon is None else f"{epsilon:.6g}"


def _used(limit: dict[str, Any]) -> str:
    return "used up" if limit["used_up"] else f"{limit['used']:.1%} used"
