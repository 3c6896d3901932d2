"""Showing how a process is doing, if its config says where: what is known about it, put together for `mpcdp.status`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata

import structlog

from mpcdp.config import Config
from mpcdp.errors import MpcdpError
from mpcdp.plan import Plan
from mpcdp.status import Facts, Figures, LogLimit, NoiseStock, Progress, Status
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.tls import certificate_expiry

__all__ = ["observed"]

_SHOWN = ("mpcdp", "grpcio", "torch", "crypten", "numpy", "cryptography")
_log = structlog.get_logger("mpcdp.process")


@contextmanager
def observed(
    config: Config, task: Task, plan: Plan, network: Network, *, progress: Progress, limit: LogLimit
) -> Iterator[None]:
    """Show a process's status until the context ends; do nothing when its config does not ask for it.

    Args:
        config: this process's own.
        task: what everybody agreed on.
        plan: the task's plan.
        network: counts what is sent.
        progress: follows the log.
        limit: counts what the log leaves out.

    Raises:
        ConfigError: the address cannot be used.
    """
    if config.status is None:
        yield
        return
    from mpcdp.status.listener import StatusListener

    figures = Figures(
        bytes_sent=network.bytes_sent,
        epsilon_after=lru_cache(maxsize=16)(plan.spent),
        noise=_noise(config, task, plan),
        left_out=lambda: limit.left_out,
    )
    with StatusListener(config.status, Status(_facts(config, task, plan), figures, progress)):
        if config.status.allow_remote:
            _log.warning("status is open to other hosts", listen=config.status.listen)
        else:
            _log.info("status", listen=config.status.listen)
        yield


def _facts(config: Config, task: Task, plan: Plan) -> Facts:
    role = next(member.role for member in task.members() if member.name == config.name)
    return Facts(
        role=role,
        name=config.name,
        task=task.name,
        digest=task.digest.hex(),
        rounds=plan.rounds,
        owners=len(task.owners),
        epsilon=plan.cost.epsilon,
        delta=plan.cost.delta,
        certificate_expires=certificate_expiry(config.tls),
        versions={name: metadata.version(name) for name in _SHOWN},
    )


def _noise(config: Config, task: Task, plan: Plan) -> Callable[[], NoiseStock | None] | None:
    """Return how to look up a compute party's pool; None where there is none."""
    if plan.noise_mode != "joint" or config.name not in [party.name for party in task.compute_parties]:
        return None
    from mpcdp.mpc.noise_bank import pool_state
    from mpcdp.roles.noise_fill import pool_of

    folder = pool_of(task, config.name, config.state, plan.distribution)

    def look() -> NoiseStock | None:
        try:
            state = pool_state(folder)
        except MpcdpError:
            return None  # the session will say more
        return NoiseStock(free=state.free, used=state.next)

    return look
