"""What processes say first: who they are, which task they hold, which version they run, what time it is for them."""

import time

from mpcdp import __version__
from mpcdp.transport.channel import Member
from mpcdp.transport.messages import Greeting

__all__ = ["NO_TASK", "greeting_of", "other_task", "other_version"]

NO_TASK = bytes(32)
"""Digest of processes that were given members but no task, as benchmarks and tests are."""


def greeting_of(me: Member, task_digest: bytes) -> Greeting:
    """Return this process's greeting of now."""
    return Greeting(name=me.name, task_digest=task_digest, version=__version__, time=time.time())


def other_task(greeting: Greeting, task_digest: bytes) -> str | None:
    """Say that a peer holds another task than this process, if it does."""
    if greeting.task_digest == task_digest:
        return None
    return (
        f"it holds task {greeting.task_digest.hex()[:16]}, this process holds {task_digest.hex()[:16]}: give every "
        "process the same task.toml, and compare what `mpcdp plan` prints"
    )


def other_version(greeting: Greeting) -> str | None:
    """Say that a peer runs another version of mpcdp than this process, if it does."""
    if greeting.version == __version__:
        return None
    return f"it runs mpcdp {greeting.version}, this is {__version__}"
