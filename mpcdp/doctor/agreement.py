"""What has to be agreed on: the task, whether its policy allows it, and its plan."""

from collections.abc import Generator

from mpcdp.config import ComputePartyConfig, CoordinatorConfig, DealerConfig, OwnerConfig
from mpcdp.doctor.findings import Finding, error, fine, warning
from mpcdp.errors import MpcdpError
from mpcdp.plan import Plan, make_plan
from mpcdp.task import Task, objections

__all__ = ["agreement"]


def agreement(
    config: OwnerConfig | ComputePartyConfig | DealerConfig | CoordinatorConfig, task: Task
) -> Generator[Finding, None, Plan | None]:
    """Report the task's digest, every reason of the policy against it, and its plan.

    Returns:
        The plan; None if there is none, or if making it would import a module that the policy does not allow.
    """
    yield fine("task", f"{task.name}, digest {task.digest.hex()}; compare it with everybody's by telephone")
    allowed = True
    if isinstance(config, OwnerConfig | ComputePartyConfig):
        if config.policy is None:
            yield warning("policy", "there is none: every task is accepted", "add a [policy] to the config")
        else:
            reasons = list(objections(config.policy, task, name=config.name))
            allowed = not reasons
            for reason in reasons:
                yield error("policy", reason, "agree on another task, or change the policy")
            if allowed:
                yield fine("policy", "allows the task")
    if task.model.factory is not None and not allowed:
        yield warning("plan", "not made: it would import the task's module", "mend the policy first")
        return None
    try:
        plan = make_plan(task)
    except MpcdpError as problem:
        yield error("plan", problem)
        return None
    yield fine(
        "plan",
        f"epsilon = {plan.cost.epsilon:.6g}, delta = {plan.cost.delta:.6g}, {plan.rounds} release(s) of "
        f"{plan.dimension} coordinates, headroom {plan.headroom_bits:.1f} bits",
    )
    for text in plan.warnings():
        yield warning("plan", text, "")  # it says what to agree on instead
    return plan
