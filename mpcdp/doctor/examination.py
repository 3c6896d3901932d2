"""All checks of one process, in the order in which one depends on another."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpcdp.config import ComputePartyConfig, CoordinatorConfig, DealerConfig, OwnerConfig, load_any_config
from mpcdp.doctor import agreement, belongings, machine, peers
from mpcdp.doctor.findings import Finding, error, fine
from mpcdp.errors import MpcdpError
from mpcdp.plan import Plan
from mpcdp.task import Task, load_task
from mpcdp.transport.channel import Member

__all__ = ["examine"]


@dataclass(frozen=True)
class _Subject:
    """Who is examined."""

    config: OwnerConfig | ComputePartyConfig | DealerConfig | CoordinatorConfig
    task: Task
    me: Member


def examine(path: Path, *, wait_seconds: float | None = None) -> Iterator[Finding]:
    """Check everything that a process needs, and yield what is found as it is found.

    Args:
        path: its config, of any role.
        wait_seconds: how long to answer the peers and to wait for them; None to ask each of them once.

    Guarantees:
        Nothing is charged, nothing but greetings is sent, and no finding depends on what is in a record.
    """
    yield machine.versions()
    try:
        config = load_any_config(path)
    except MpcdpError as problem:
        yield error("config", problem)
        return
    yield fine("config", f"{config.role} {config.name}, {path}")
    yield from machine.state_folder(config.state)
    try:
        task = load_task(config.task)
        me = task.member(config.name, config.role)
    except MpcdpError as problem:
        yield error("task", problem)
        return
    subject = _Subject(config, task, me)
    plan = yield from agreement.agreement(config, task)
    yield from _own(subject, plan)
    if belongings.usable(config, me):
        yield from peers.meet(config, task, me, wait_seconds=wait_seconds)
    else:
        yield error("peers", "not called: this process's own credentials are not usable", "mend those first")


def _own(subject: _Subject, plan: Plan | None) -> Iterator[Finding]:
    """Check what belongs to this process alone."""
    config, task = subject.config, subject.task
    yield from belongings.certificates(config, subject.me)
    yield from machine.open_files(len(task.members()))
    if plan is not None:
        yield from machine.disk(config.state, plan, config.role)
        yield from machine.memory(plan, config.role)
    if isinstance(config, OwnerConfig):
        if plan is not None:
            yield from belongings.ledger(config, task, plan)
        yield from belongings.table(config, task)
    if isinstance(config, ComputePartyConfig) and plan is not None:
        yield from belongings.noise_pool(config, task, plan)
    if isinstance(config, CoordinatorConfig):
        yield from belongings.validation(config, task)
    if not isinstance(config, OwnerConfig):
        yield from machine.port(config.listen)
