"""What every process does around its role: read its config, log, connect, and end with an exit code that says why."""

import argparse
import json
import logging
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from mpcdp.config import ComputePartyConfig, CoordinatorConfig, DealerConfig, OwnerConfig, load_config
from mpcdp.errors import ConfigError, MpcdpError, ProcessStopped
from mpcdp.plan import Plan, make_plan
from mpcdp.private_files import alone_in
from mpcdp.roles.observation import observed
from mpcdp.roles.session import limits_of
from mpcdp.status import LogLimit, Progress
from mpcdp.task import Task, check_policy, load_task

if TYPE_CHECKING:
    from mpcdp.transport.grpc import GrpcNetwork

__all__ = ["Process", "end_on_signals", "log_as_json", "open_many_files", "open_process", "own_state", "run_process"]

_Config = TypeVar("_Config", OwnerConfig, ComputePartyConfig, DealerConfig, CoordinatorConfig)
Entry = Mapping[str, Any]
_log = structlog.get_logger("mpcdp.process")


@dataclass(frozen=True)
class Process(Generic[_Config]):
    """What a role is started with.

    Args:
        config: this process's own config.
        task: what everybody agreed on.
        plan: the task's plan.
        network: this process's access to the others.
    """

    config: _Config
    task: Task
    plan: Plan
    network: "GrpcNetwork"

    def report(self, **figures: object) -> None:
        """Write ``report.json`` into the state folder: bytes sent by peer, and figures of the role."""
        document = {
            "role": self.config.role,
            "name": self.config.name,
            "bytes_sent": dict(self.network.bytes_sent()),
            **figures,
        }
        self.config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.config.state / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def run_process(config_type: type[_Config], start: Callable[[Process[_Config]], None]) -> int:
    """Run one process of a session from its command line (``--config FILE``).

    Args:
        config_type: the role's config.
        start: runs the role until the session's end.

    Returns:
        The exit code: 0 for a finished session, else the error's (see `mpcdp.errors`), 1 for a bug.
    """
    parser = argparse.ArgumentParser(description="Run one process of an mpcdp session.")
    parser.add_argument("--config", type=Path, required=True, help="this process's own config file (TOML)")
    arguments = parser.parse_args()
    progress = Progress()
    limit = log_as_json(observe=progress.note)
    end_on_signals()
    open_many_files()  # strangers who only connect cost file descriptors
    try:
        process = open_process(config_type, arguments.config)
        structlog.contextvars.bind_contextvars(process=process.config.name, task=process.task.digest.hex()[:16])
        with (
            own_state(process.config.state),
            process.network,
            observed(process.config, process.task, process.plan, process.network, progress=progress, limit=limit),
        ):
            start(process)
    except MpcdpError as error:
        _log.error("failed", error=type(error).__name__, problem=str(error))
        return error.exit_code
    except Exception:  # noqa: BLE001 (the log gets the traceback, the caller an exit code)
        _log.exception("internal error")
        return 1
    return 0


@contextmanager
def own_state(folder: Path) -> Iterator[None]:
    """Make sure that no second process uses a state folder: two that agree to one thing each would be two parties.

    Raises:
        ConfigError: another process uses it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(alone_in(folder))
        except BlockingIOError as error:
            raise ConfigError(f"state folder {folder}: another process uses it; wait for its end or stop it") from error
        except OSError as error:
            raise ConfigError(f"state folder {folder}: {error}; give this process a folder it can write") from error
        yield


def open_process(config_type: type[_Config], path: Path) -> Process[_Config]:
    """Read a process's config and task, and make its access to the others; nothing is connected yet.

    Raises:
        InputError: the config, the task, a certificate or a key is wrong.
    """
    # grpc is loaded only once the config is known to be good.
    from mpcdp.transport.grpc import GrpcNetwork

    config = load_config(path, config_type)
    task = load_task(config.task)
    me = task.member(config.name, config.role)
    # Before the plan: planning imports the module that a task may name.
    check_policy(getattr(config, "policy", None), task, name=me.name)
    plan = make_plan(task)
    members = task.members()
    network = GrpcNetwork(
        me=me,
        members=members,
        addresses=config.peers,
        tls=config.tls,
        limits=limits_of(task, dimension=plan.dimension, rounds=plan.rounds),
        listen=getattr(config, "listen", None),
        task_digest=task.digest,
    )
    return Process(config=config, task=task, plan=plan, network=network)


def log_as_json(level: int = logging.INFO, *, observe: Callable[[Entry], None] | None = None) -> LogLimit:
    """Send one JSON object per line to standard error. No caller passes a share, a vector or a record's value.

    Args:
        level: entries below it are not written.
        observe: sees every entry, those too that are not written because others cause too many of them.

    Returns:
        What decides on the latter.
    """
    limit = LogLimit()

    def watch(logger: object, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if observe is not None:
            observe(entry)
        left_out = limit.admit(entry)
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            entry["left_out"] = left_out
        return entry

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            watch,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    return limit


def open_many_files() -> None:
    """Let this process have as many file descriptors as the administrator allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT raise `ProcessStopped`, so that everything is closed in order."""

    def end(number: int, frame: FrameType | None) -> None:
        raise ProcessStopped(f"stopped by {signal.Signals(number).name}: started again, it goes on")

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError):  # not on the main thread: an embedding program handles signals itself
            signal.signal(number, end)
