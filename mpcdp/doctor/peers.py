"""Whether this process and its peers can meet: both ends' certificates, the same task, version and time."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mpcdp.config import ComputePartyConfig, CoordinatorConfig, DealerConfig, OwnerConfig
from mpcdp.doctor.findings import Finding, error, fine, warning
from mpcdp.errors import MpcdpError, PeerError, PeerUnavailable
from mpcdp.task import Task
from mpcdp.transport.channel import Limits, Member
from mpcdp.transport.failures import NOTHING_LISTENS
from mpcdp.transport.greeting import other_task, other_version
from mpcdp.transport.messages import Greeting

if TYPE_CHECKING:
    from mpcdp.transport.grpc import GrpcNetwork

__all__ = ["called", "callers", "meet"]

_Config = OwnerConfig | ComputePartyConfig | DealerConfig | CoordinatorConfig
_ATTEMPT_SECONDS = 10.0
_PAUSE_SECONDS = 0.5
_LARGEST_SKEW_SECONDS = 60.0


def called(task: Task, me: Member) -> tuple[Member, ...]:
    """List whom a process calls in a session."""
    members = task.members()
    coordinators, dealers, parties = (
        tuple(member for member in members if member.role == role) for role in ("coordinator", "dealer", "compute")
    )
    match me.role:
        case "owner":
            return (*coordinators, *parties)
        case "coordinator":
            return (*dealers, *parties)
        case "compute":
            return (*dealers, *parties[: parties.index(me)])  # the one that is listed later calls
        case _:
            return ()


def callers(task: Task, me: Member) -> tuple[Member, ...]:
    """List who calls a process in a session."""
    return tuple(member for member in task.members() if me in called(task, member))


def meet(config: _Config, task: Task, me: Member, *, wait_seconds: float | None) -> Iterator[Finding]:
    """Greet every peer that this process calls and, while it waits, answer those that call it.

    Args:
        config: of this process; its credentials are usable.
        task: what it holds.
        me: this process.
        wait_seconds: how long to wait for peers; None to ask each once and answer nobody.
    """
    # grpc is loaded by what needs it only.
    from mpcdp.transport.grpc import GrpcNetwork

    wanted = called(task, me)
    for member in wanted:
        if member.name not in config.peers:
            yield error("peers", f"{member.name} has no address", f'add {member.name} = "host:port" under [peers]')
    names = {member.name for member in task.members()}
    for name in sorted(set(config.peers) - names):
        yield warning("peers", f"{name} under [peers] is not in the task", "correct its name, or take it out")
    listen = getattr(config, "listen", None)
    network = GrpcNetwork(me, task.members(), config.peers, config.tls, _limits(), listen, task_digest=task.digest)
    with network, contextlib.ExitStack() as stack:
        if wait_seconds is not None and listen is not None:
            try:
                stack.enter_context(network.serve(None))
            except MpcdpError as problem:
                yield error("port", problem)
                listen = None
        reachable = [member for member in wanted if member.name in config.peers]
        expected = callers(task, me) if wait_seconds is not None and listen is not None else ()
        outcomes = _greet_all(network, task, reachable, expected, wait_seconds)
        for findings in outcomes.values():
            yield from findings
        yield from _about_callers(task, expected, network.greeted(), wait_seconds)


def _greet_all(
    network: "GrpcNetwork",
    task: Task,
    reachable: list[Member],
    expected: tuple[Member, ...],
    wait_seconds: float | None,
) -> Mapping[str, list[Finding]]:
    """Greet peers, again and again while there is time, until all is well with all of them and all have called."""
    end = time.monotonic() + (wait_seconds or 0.0)
    outcomes: dict[str, list[Finding]] = {}
    while True:
        for member in reachable:
            if member.name not in outcomes or _failed(outcomes[member.name]):
                outcomes[member.name] = _greet(network, task, member)
        met = not any(map(_failed, outcomes.values()))
        if (met and network.greeted().keys() >= {member.name for member in expected}) or time.monotonic() >= end:
            break
        time.sleep(_PAUSE_SECONDS)
    if wait_seconds is None:  # nobody was asked to be there
        outcomes = {name: [_excused(finding) for finding in findings] for name, findings in outcomes.items()}
    return outcomes


def _failed(findings: list[Finding]) -> bool:
    return any(finding.level == "error" for finding in findings)


def _greet(network: "GrpcNetwork", task: Task, peer: Member) -> list[Finding]:
    start = time.time()
    try:
        greeting = network.greet(peer.name, seconds=_ATTEMPT_SECONDS)
    except PeerUnavailable as problem:
        if problem.problem == NOTHING_LISTENS:
            return [error("peers", f"{peer.name} is not there yet: {NOTHING_LISTENS}", _NOT_THERE)]
        return [error("peers", problem, _NO_WAY)]
    except PeerError as problem:
        return [error("peers", problem, _NO_WAY)]
    except MpcdpError as problem:
        return [error("peers", problem)]
    return _about(greeting, task, now=(start + time.time()) / 2, how="reached; each accepts the other's certificate")


_NO_WAY = "check its address under [peers], its log, and the firewall from here to there"
_NOT_THERE = "start it, or its `mpcdp doctor --wait`; and check its address under [peers]"


def _excused(finding: Finding) -> Finding:
    return warning(finding.check, finding.text, finding.cure) if finding.cure == _NOT_THERE else finding


def _about(greeting: Greeting, task: Task, *, now: float, how: str) -> list[Finding]:
    """Compare a peer's greeting with this process's task, version and clock."""
    name = greeting.name
    if (problem := other_task(greeting, task.digest)) is not None:
        return [error("peers", f"{name}: {problem}")]
    found, skew = [], greeting.time - now
    if abs(skew) > _LARGEST_SKEW_SECONDS:
        side = "ahead of" if skew > 0 else "behind"
        text = f"{name}: its clock is {abs(skew):.0f} s {side} this one"
        found.append(warning("clock", text, "set both by NTP: certificates are dated"))
    if (problem := other_version(greeting)) is not None:
        found.append(warning("versions", f"{name}: {problem}", "install the same version everywhere"))
    return found or [fine("peers", f"{name}: {how}, same task, clocks {abs(skew):.1f} s apart")]


def _about_callers(
    task: Task, expected: tuple[Member, ...], greeted: Mapping[str, tuple[Greeting, float]], wait_seconds: float | None
) -> Iterator[Finding]:
    """Report on those that have called this process, and on those that were to."""
    for member in expected:
        if member.name in greeted:
            greeting, arrived = greeted[member.name]
            yield from _about(greeting, task, now=arrived, how="has called; each accepts the other's certificate")
        else:
            yield error(
                "callers",
                f"{member.name} has not called within {wait_seconds:g} s",
                "run its `mpcdp doctor` while this one waits; then check its address for this process and the firewall",
            )


def _limits() -> Limits:
    """Nothing but greetings is exchanged."""
    return Limits(
        dimension=1,
        connect_seconds=_ATTEMPT_SECONDS,
        call_seconds=_ATTEMPT_SECONDS,
        prepare_seconds=_ATTEMPT_SECONDS,
        message_seconds=_ATTEMPT_SECONDS,
        session_seconds=_ATTEMPT_SECONDS,
    )
