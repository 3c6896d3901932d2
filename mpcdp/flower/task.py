"""The task behind an app."""

from pathlib import Path

from mpcdp.errors import InputError
from mpcdp.task import Task, load_task

__all__ = ["load_task_of_updates"]


def load_task_of_updates(path: Path) -> Task:
    """Read a task, and see that it adds up updates.

    Raises:
        InputError: it cannot be read, or is of another method.
    """
    task = load_task(path)
    if task.method_.kind != "update-aggregation":
        raise InputError(f'{path}: method.kind: expected "update-aggregation", got "{task.method_.kind}"')
    return task
