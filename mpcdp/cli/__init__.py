"""The ``mpcdp`` command."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from mpcdp.cli.command_table import CommandTable
from mpcdp.errors import MpcdpError, ProcessStopped

__all__ = ["application", "main"]

_EXIT_CODES = (
    "Exit codes: 0 done; 1 a bug (please report it); 2 a file or an option is wrong; 3 refused: privacy spent or not "
    "granted, an identity that does not fit; 4 another process failed or was late; 5 another process ended the "
    "session; 6 stopped by a signal or Ctrl-C: a session goes on when it is started again."
)


def application() -> typer.Typer:
    """Make the command line; a command's module is imported when the command is used."""
    app = typer.Typer(
        cls=CommandTable,
        help="Train one model across organisations that may not pool their records.",
        epilog=_EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from mpcdp import __version__

        typer.echo(f"mpcdp {__version__}")
        raise typer.Exit


def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of all commands; ``main`` looks for ``--debug`` itself."""


def main() -> None:
    """Run the command line; an error ends it with one sentence on standard error and its exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # As Ctrl-C: whatever is under way ends in order, and no process that was started is left behind.
    signal.signal(signal.SIGTERM, _end)
    try:
        application()(args=arguments)
    except SystemExit as end:
        # typer ends what Ctrl-C has stopped with 1, which is the code of a bug.
        if isinstance(end.__context__, typer.Abort):
            sys.exit(ProcessStopped.exit_code)
        raise
    except MpcdpError as error:
        if debug:
            raise
        _explain(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        _explain(f"this is a bug ({type(error).__name__}: {error}): run it again with --debug and report what it shows")
        sys.exit(1)


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _explain(problem: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text("error: ", style="red") + Text(problem), highlight=False, soft_wrap=True)
