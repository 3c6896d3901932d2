"""The commands by name, each with the module that is imported when it is used, and not before."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["COMMANDS", "CommandTable", "Entry", "load_command"]


@dataclass(frozen=True)
class Entry:
    """A command, or a group of commands.

    Args:
        module: where it is defined.
        attribute: a function, or a `typer.Typer` for a group.
        summary: the first sentence of its help; shown in the list of commands without importing it.
    """

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "demo": Entry("demo", "demo", "Train one model across several organisations on this machine, and compare it."),
    "plan": Entry("plan", "plan", "Print sensitivity, mechanism, noise and the exact (epsilon, delta) of a task."),
    "task": Entry("task", "app", "Help with writing task files."),
    "check": Entry("check", "check", "Say how well a table fits a task, before a session; for its owner alone."),
    "network": Entry("network", "app", "Certificates and configs of a network."),
    "doctor": Entry(
        "doctor",
        "doctor",
        "Check everything that a run of this process needs, and say what to do about what is wrong.",
    ),
    "health": Entry(
        "health",
        "health",
        "Ask the process of a config, on this machine and with its own certificate, whether it answers calls.",
    ),
    "run": Entry("run", "run", "Run a network's processes on this machine, or one process from its config."),
    "predict": Entry("predict", "predict", "Write one prediction per row of a table."),
    "export": Entry("export", "export", "Write a released model in ONNX form."),
    "report": Entry("report", "report", "Write a page about a session for the data-protection officer."),
    "ledger": Entry("ledger", "app", "What an owner's records have paid, and whether the book is intact."),
    "simulate": Entry("simulate", "simulate", "Run a task's learning in the clear, again and again, on public data."),
    "noise": Entry("noise", "app", "Noise of the compute parties that is made before it is needed."),
    "bench": Entry(
        "bench",
        "app",
        "What the noise, a training round, a contribution check and a whole session cost on this machine.",
    ),
    "reproduce": Entry(
        "reproduce",
        "app",
        "The paper's figures again, and what privacy costs beside other ways. Public data only: it protects nothing.",
    ),
}


class CommandTable(TyperGroup):
    """The top group: it lists `COMMANDS` without importing them, and imports the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.commands.setdefault(name, TyperCommand(name, help=entry.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command to run, importing its module first."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """Import a command's module and return the command as typer runs it."""
    entry = COMMANDS[name]
    target: typer.Typer | Callable[..., None] = getattr(import_module(f"mpcdp.cli.{entry.module}"), entry.attribute)
    wrapper = typer.Typer(add_completion=False)
    wrapper.callback()(_nothing)
    if isinstance(target, typer.Typer):
        wrapper.add_typer(target, name=name)
    else:
        wrapper.command(name)(target)
    group = typer.main.get_command(wrapper)
    return group.commands[name]  # type: ignore[attr-defined]  # a group, as the wrapper has a callback


def _nothing() -> None:
    """Make the wrapper a group."""
