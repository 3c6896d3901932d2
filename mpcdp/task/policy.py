"""Whether a task is one that an organisation consented to, by its own config's ``[policy]``.

Looks at the task alone, so that nothing of it is carried out first: the code of a module, above all, is not imported.
"""

from collections.abc import Iterator

from mpcdp.config import Policy
from mpcdp.errors import PolicyError
from mpcdp.learning.record_loss import is_imported
from mpcdp.task.task import Task

__all__ = ["check_policy", "objections"]


def check_policy(policy: Policy | None, task: Task, *, name: str) -> None:
    """Refuse a task outside a policy.

    Args:
        policy: of this process's config; None allows every task.
        task: what is to be run.
        name: this process in the task.

    Raises:
        PolicyError: the task is outside; every reason is named.
    """
    if policy is not None and (reasons := list(objections(policy, task, name=name))):
        raise PolicyError(
            "\n  ".join(
                [
                    f"{name}: task {task.name!r} is outside the [policy] of this process's config; agree on another "
                    "task, or have whoever answers for the data change the policy:",
                    *reasons,
                ]
            )
        )


def objections(policy: Policy, task: Task, *, name: str) -> Iterator[str]:
    """List what a policy does not allow in a task; see `check_policy`."""
    yield from _amounts(policy, task)
    yield from _choices(policy, task)
    if policy.peers is not None:
        for member in task.members():
            if member.name != name and member.certificate not in policy.peers:
                yield f"policy.peers: {member.role} {member.name} has the certificate {member.certificate}, not listed"
    if policy.tasks is not None and task.digest.hex() not in policy.tasks:
        yield f"policy.tasks: the task has digest {task.digest.hex()}, not listed"


def _amounts(policy: Policy, task: Task) -> Iterator[str]:
    """Compare what has a largest or a smallest value."""
    asked, bounds = task.privacy, (("epsilon", policy.epsilon), ("delta", policy.delta))
    for field, most in bounds:
        if most is not None and getattr(asked, field) > most:
            yield f"policy.{field}: at most {most:g} per task, the task asks {getattr(asked, field):g}"
    if policy.owners is not None and len(task.owners) < policy.owners:
        yield f"policy.owners: at least {policy.owners}, the task has {len(task.owners)}"
    if policy.minimum_owners is not None and task.session.minimum_owners < policy.minimum_owners:
        yield (
            f"policy.minimum_owners: at least {policy.minimum_owners} behind a release, the task is content with "
            f"{task.session.minimum_owners}"
        )


def _choices(policy: Policy, task: Task) -> Iterator[str]:
    """Compare what has to be on a list."""
    method, noise = task.method_.kind, task.privacy.noise
    if policy.methods is not None and method not in policy.methods:
        yield f'policy.methods: {_listed(policy.methods)}, the task has "{method}"'
    if policy.noise is not None and noise not in policy.noise:
        yield f'policy.noise: {_listed(policy.noise)}, the task has "{noise}"'
    for code in _imported(task):
        if code not in policy.modules:
            yield f'policy.modules: {_listed(policy.modules)}, the task would import "{code}"'


def _imported(task: Task) -> Iterator[str]:
    """List the functions that a task names and every process would import."""
    if task.model.factory is not None:
        yield task.model.factory
    if task.model.loss is not None and is_imported(task.model.loss):
        yield task.model.loss


def _listed(allowed: tuple[str, ...]) -> str:
    return f"only {', '.join(allowed)}" if allowed else "none"
