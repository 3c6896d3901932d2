"""The ``mpcdp`` command."""

import sys

import typer
from rich.console import Console

from mpcdp.errors import MpcdpError

__all__ = ["main"]


def _application() -> typer.Typer:
    from mpcdp.cli import bench, check, demo, network, noise, plan, predict, reproduce, simulate

    app = typer.Typer(
        help="Train one model across organisations that may not pool their records.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.add_typer(network.app, name="network", help="Certificates and configs of a network.")
    app.add_typer(noise.app, name="noise", help="Noise that is made before it is needed.")
    app.add_typer(bench.app, name="bench", help="What the noise costs on this machine.")
    app.add_typer(reproduce.app, name="reproduce", help="The paper's figures again, and accuracy beside other ways.")
    app.command("plan")(plan.plan)
    app.command("check")(check.check)
    app.command("predict")(predict.predict)
    app.command("simulate")(simulate.simulate)
    app.command("demo")(demo.demo)
    return app


def main() -> None:
    """Run the command line; a known error ends it with one sentence on standard error and its exit code."""
    try:
        _application()()
    except MpcdpError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
