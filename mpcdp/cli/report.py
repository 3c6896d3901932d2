"""``mpcdp report``: one page about a session, for an owner's data-protection officer."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.config import OwnerConfig, load_config
from mpcdp.errors import InputError
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.report import gather, render

__all__ = ["report"]


def report(
    state: Annotated[Path | None, typer.Option(help="State folder of an owner whose session has finished.")] = None,
    config: Annotated[Path | None, typer.Option(help="The owner's config instead: it also knows the limit.")] = None,
    test: Annotated[Path | None, typer.Option(help="Public table with labels that the model is judged on.")] = None,
    log: Annotated[Path | None, typer.Option(help="The coordinator's log, for the quality of every round.")] = None,
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and write no page.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Write a page about a session for the data-protection officer.

    One self-contained HTML file: what was released, to whom, what an attacker gains, what budget is left.

    Example: mpcdp report --config net/hospital-1/owner.toml --test public.csv --output report.html
    """
    limit = None
    if config is not None and state is None:
        owner = load_config(config, OwnerConfig)
        state = owner.state
        if owner.ledger is not None:
            limit = PrivacyBudget(epsilon=owner.ledger.epsilon_limit, delta=owner.ledger.delta_limit)
    elif state is None or config is not None:
        raise InputError("give either --state DIRECTORY or --config FILE, the owner's own")
    facts = gather(state, limit=limit, test=test, log=log)
    if as_json:
        typer.echo(json.dumps(facts.to_json(), indent=2))
        return
    output.write_text(render(facts), encoding="utf-8")
    if not quiet:
        typer.echo(f"Wrote {output}: open it in a browser.")
