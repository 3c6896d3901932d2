"""``mpcdp doctor``: what would keep a process from its session, before anything is sent."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import structlog
import typer

from mpcdp.errors import InputError

__all__ = ["doctor"]


def doctor(
    config: Annotated[Path, typer.Option(help="This process's own config file (TOML), of any role.")],
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=86400,
            help="Answer the peers' greetings and try again for so many seconds, until all have met. Peers that are "
            "not there yet are only mentioned when left out.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check everything that a run of this process needs, and say what to do about what is wrong.

    Config, task, policy, plan, certificates, state folder, disk, memory, ledger, table, port, and every peer: whether
    each accepts the other, holds the same task, runs the same version and has the same time. Nothing is charged, and
    nothing but greetings is sent. Exit code 0 only if there is no error.

    Example: mpcdp doctor --config owner.toml --wait 300
    """
    from mpcdp.doctor import examine

    findings = []
    with _log_apart():
        for finding in examine(config, wait_seconds=wait):
            findings.append(finding)
            if not as_json:
                typer.echo(f"{finding.level:<8} {finding.check:<12} {finding.text}")
                if finding.cure:
                    typer.echo(f"{'':<21} -> {finding.cure}")
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    if as_json:
        typer.echo(json.dumps({"ok": not errors, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        typer.echo(f"{errors} error(s), {warnings} warning(s)")
    if errors:
        raise typer.Exit(InputError.exit_code)


@contextmanager
def _log_apart() -> Iterator[None]:
    """Send what others cause while they are answered to standard error: it is no part of the findings."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)
