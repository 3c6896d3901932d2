"""What belongs to one process: its certificates, and an owner's ledger and table."""

import datetime
from collections.abc import Iterator

from mpcdp.config import ComputePartyConfig, Config, CoordinatorConfig, OwnerConfig
from mpcdp.doctor.findings import Finding, error, fine, warning
from mpcdp.errors import MpcdpError
from mpcdp.mpc.noise_bank import pool_state, whole_blocks
from mpcdp.plan import Plan
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import TaskCost, allows, limit_of, used_share
from mpcdp.privacy.ledger import LEDGER_FILE, Charge, Ledger
from mpcdp.roles.noise_fill import pool_of
from mpcdp.roles.owner import check_table
from mpcdp.roles.owner_secret import OwnerSecret
from mpcdp.task import Task
from mpcdp.transport.channel import Member
from mpcdp.transport.tls import inspect_credentials

__all__ = ["certificates", "ledger", "noise_pool", "table", "usable", "validation"]

_SOON = datetime.timedelta(days=30)


def usable(config: Config, me: Member) -> bool:
    """Tell whether a process can open a connection at all."""
    return inspect_credentials(config.tls, name=me.certificate).credentials is not None


def certificates(config: Config, me: Member) -> Iterator[Finding]:
    """Check key, certificate and authorities: permissions, dates, name, chain."""
    inspection = inspect_credentials(config.tls, name=me.certificate)
    for problem in inspection.problems:
        yield error("certificate", problem)
    now = datetime.datetime.now(datetime.UTC)
    # What has ended already is an error above, but for authorities further down, which others may not need.
    for what, end in inspection.ends:
        if end - now < _SOON and (end > now or not inspection.problems):
            verb = "ends" if end > now else "ended"
            yield warning(
                "certificate", f"{what} {verb} on {end:%Y-%m-%d}", "have a new one issued, with the same name"
            )
    if not inspection.problems:
        (_, end), *_ = inspection.ends
        yield fine("certificate", f"for {me.certificate}, until {end:%Y-%m-%d}; key readable by its user or group only")


def ledger(config: OwnerConfig, task: Task, plan: Plan) -> Iterator[Finding]:
    """Check that an owner's ledger is intact and has budget left for the task."""
    path, limit = config.state / LEDGER_FILE, limit_of(config.ledger)
    charges: list[Charge] = []
    if path.exists():
        try:
            with Ledger(path, limit=limit) as book:
                charges = [entry for entry in book.entries() if isinstance(entry, Charge)]
                yield fine("ledger", f"{path}: intact, {len(charges)} task(s) paid for")
                if book.charged(task.digest) and OwnerSecret.is_kept(config.state, task.digest):
                    yield warning(
                        "budget",
                        "the task is paid for, and its session is not over",
                        "start the process again while the session lasts; else agree on a new task",
                    )
                    return
                book.check(task.digest, task.name, plan.cost, gaussian=plan.gaussian_cost)
        except MpcdpError as problem:
            yield error("ledger", problem)
            return
    else:
        yield fine("ledger", f"{path}: not there yet; it is made by the first session")
    cost = TaskCost(budget=plan.cost, gaussian=plan.gaussian_cost)
    yield _budget(limit, [*(charge.task_cost for charge in charges), cost])


def _budget(limit: PrivacyBudget | None, costs: list[TaskCost]) -> Finding:
    """Compare all tasks, the one to be run last, with the limit."""
    if limit is None:
        return warning("budget", "there is no limit: every task is paid for", "add a [ledger] to the config")
    if not allows(limit, costs):
        return error(
            "budget",
            f"the task would exceed the limit {limit}",
            "agree on a cheaper task, or raise the limit in [ledger] of this owner's config",
        )
    return fine("budget", f"limit {limit}: {min(used_share(limit, costs), 1.0):.1%} used with this task")


def table(config: OwnerConfig, task: Task) -> Iterator[Finding]:
    """Read an owner's table and compare it with the task, for public reasons only."""
    try:
        dataset = check_table(task, config.name, config.table, config.data)
    except MpcdpError as problem:
        yield error("table", problem)
        return
    yield fine("table", f"{config.table}: {dataset.record_count} records, as declared; `mpcdp check` says more")


def noise_pool(config: ComputePartyConfig, task: Task, plan: Plan) -> Iterator[Finding]:
    """Say how much joint noise is there already."""
    if plan.noise_mode != "joint":
        return
    try:
        free = pool_state(pool_of(task, config.name, config.state, plan.distribution)).free
    except MpcdpError as problem:
        yield error("noise", problem)
        return
    needed = whole_blocks(plan.dimension * plan.rounds)
    rest = "" if free >= needed else "; the rest is made at the start, or before by `mpcdp noise fill`"
    yield fine("noise", f"{free:,} samples in the pool, {needed:,} needed{rest}")


def validation(config: CoordinatorConfig, task: Task) -> Iterator[Finding]:
    """Read the coordinator's public table."""
    if config.validation is None:
        return
    from mpcdp.data.table import read_dataset

    try:
        records = read_dataset(config.validation, task.schema_).record_count
    except MpcdpError as problem:
        yield error("validation", problem)
        return
    yield fine("validation", f"{config.validation}: {records} records")
