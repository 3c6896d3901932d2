"""The one door through which every request to this process comes, whatever carries it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import structlog

from mpcdp.errors import ConfigError, ProtocolError
from mpcdp.transport import codec
from mpcdp.transport.access import CALLERS, HEALTH, MESH, REACH, check_access
from mpcdp.transport.channel import (
    ComputePartyService,
    CoordinatorService,
    DealerService,
    Limits,
    Member,
    Services,
)
from mpcdp.transport.directory import Directory
from mpcdp.transport.greeting import greeting_of, other_task
from mpcdp.transport.health import read_health_check, write_serving
from mpcdp.transport.mesh import MeshGate
from mpcdp.transport.messages import Greeting, SessionEvent
from mpcdp.transport.reader import Reader
from mpcdp.transport.waiting import WhenGone, answer_on_this_thread

__all__ = ["CALLS_PER_MEMBER", "Reception", "Tally"]

CALLS_PER_MEMBER = 4
"""Calls one member may have under way at a process: nobody can use up the threads of the others."""

_log = structlog.get_logger("mpcdp.transport")


class Tally:
    """Counts payload bytes by peer; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()

    def count(self, peer: str, messages: Iterable[bytes]) -> Iterator[bytes]:
        """Pass messages on, counting them as sent to a peer."""
        for message in messages:
            with self._lock:
                self._bytes[peer] += len(message)
            yield message

    def sent(self) -> Mapping[str, int]:
        """Return the bytes sent so far."""
        with self._lock:
            return dict(self._bytes)


@dataclass(frozen=True)
class _Call:
    """A call that may be made: its caller is known and its role allows it."""

    caller: str
    reader: Reader
    when_gone: WhenGone


_Answer = Callable[[_Call], Iterator[bytes]]


class Reception:
    """Answers the calls to this process.

    Args:
        me: this process.
        directory: all members.
        limits: bounds on what is accepted.
        service: what this process does; None for one that only says who it is.
        gate: where streams of other compute parties go.
        tally: counts what is answered.
        task_digest: of the task that this process holds.
        greeted: told every greeting that arrives.
    """

    def __init__(
        self,
        *,
        me: Member,
        directory: Directory,
        limits: Limits,
        service: Services | None,
        gate: MeshGate,
        tally: Tally,
        task_digest: bytes,
        greeted: Callable[[Greeting], None],
    ) -> None:
        self._me = me
        self._directory = directory
        self._limits = limits
        self._tally = tally
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._task_digest = task_digest
        self._greeted = greeted
        answers = _no_answers(me) if service is None else _answers(me, service, gate)
        self._answers: dict[str, _Answer] = {REACH: self._reach, HEALTH: _check, **answers}

    @property
    def me(self) -> Member:
        """The process that answers."""
        return self._me

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that exist here."""
        return tuple(self._answers)

    @property
    def capacity(self) -> int:
        """Calls that can be under way at once: no more come from the members that may call this process."""
        roles = frozenset().union(*(roles for (role, _), roles in CALLERS.items() if role == self._me.role))
        callers = [member for member in self._directory.members if member.role in roles]
        return CALLS_PER_MEMBER * len(callers)

    def identify(self, certificate: Sequence[str]) -> Member:
        """Return the member whose certificate opened a connection.

        Args:
            certificate: DNS names in the certificate.

        Raises:
            IdentityError: it is of no member.
        """
        return self._directory.certified(certificate)

    def answer(self, caller: Member, method: str, messages: Iterable[bytes], when_gone: WhenGone) -> Iterator[bytes]:
        """Answer one call; nothing of its messages is looked at before the call is known to be allowed.

        Args:
            caller: who calls, from `identify`.
            method: e.g. ``"ComputeParty/Upload"``.
            messages: what the caller sends.
            when_gone: registers what to do when the caller is gone.

        Raises:
            IdentityError: the caller's role may not call this, or a message claims to be from somebody else.
            ProtocolError: no such method, a bad message, or too many calls under way.
            Exception: whatever the service raises.
        """
        check_access(caller, self._me, method)
        with self._slot(caller.name):
            answer_on_this_thread(caller.name, when_gone)
            reader = Reader(caller.name, messages, self._limits)
            yield from self._tally.count(caller.name, self._answers[method](_Call(caller.name, reader, when_gone)))

    @contextmanager
    def _slot(self, caller: str) -> Iterator[None]:
        with self._lock:
            if self._calls[caller] == CALLS_PER_MEMBER:
                raise ProtocolError(f"{caller} has {CALLS_PER_MEMBER} calls under way already: wait for their end")
            self._calls[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[caller] -= 1

    def _reach(self, call: _Call) -> Iterator[bytes]:
        greeting = codec.read_greeting(call.reader)
        if (problem := other_task(greeting, self._task_digest)) is not None:
            _log.warning("another task", caller=call.caller, problem=f"{call.caller}: {problem}")
        self._greeted(greeting)
        yield codec.write_greeting(greeting_of(self._me, self._task_digest))


def _no_answers(me: Member) -> dict[str, _Answer]:
    """Refuse everything but greetings."""

    def refuse(call: _Call) -> Iterator[bytes]:
        raise ProtocolError(f"{me.name}: `mpcdp doctor` runs here, not the process itself: wait until it is started")

    return {method: refuse for role, method in CALLERS if role == me.role and method not in (REACH, HEALTH)}


def _check(call: _Call) -> Iterator[bytes]:
    read_health_check(call.reader)
    yield write_serving()


def _answers(me: Member, service: Services, gate: MeshGate) -> dict[str, _Answer]:
    match me.role:
        case "coordinator":
            return _coordinator_answers(cast(CoordinatorService, service))
        case "compute":
            return _compute_party_answers(cast(ComputePartyService, service), gate)
        case "dealer":
            return _dealer_answers(cast(DealerService, service))
        case _:
            raise ConfigError(f"{me.name} has role {me.role}, which answers nobody: it only calls")


def _coordinator_answers(service: CoordinatorService) -> dict[str, _Answer]:
    def attend(call: _Call) -> Iterator[bytes]:
        events = service.attend(call.caller, codec.read_attendance(call.reader))
        call.when_gone(lambda: _close(events))
        try:
            yield from codec.write_events(events)
        finally:
            _close(events)

    def leave(call: _Call) -> Iterator[bytes]:
        service.leave(call.caller, codec.read_attendance(call.reader))
        yield codec.write_done()

    return {"Coordinator/Attend": attend, "Coordinator/Leave": leave}


def _close(events: Iterator[SessionEvent]) -> None:
    # A generator that another thread is running cannot be closed: it ends when it has its next event.
    with suppress(ValueError):
        if (close := getattr(events, "close", None)) is not None:
            close()


def _compute_party_answers(service: ComputePartyService, gate: MeshGate) -> dict[str, _Answer]:
    def open_session(call: _Call) -> Iterator[bytes]:
        service.open_session(call.caller, codec.read_open_session(call.reader))
        yield codec.write_done()

    def enrol(call: _Call) -> Iterator[bytes]:
        yield codec.write_enrolled(service.enrol(call.caller, codec.read_enrolment(call.reader)))

    def upload(call: _Call) -> Iterator[bytes]:
        service.upload(call.caller, codec.read_upload(call.reader))
        yield codec.write_done()

    def outcome(call: _Call) -> Iterator[bytes]:
        yield codec.write_outcome(service.outcome(call.caller, codec.read_outcome_request(call.reader)))

    def aggregate(call: _Call) -> Iterator[bytes]:
        return codec.write_release(service.aggregate(call.caller, codec.read_aggregate(call.reader)))

    def close_session(call: _Call) -> Iterator[bytes]:
        service.close_session(call.caller, *codec.read_close_session(call.reader))
        yield codec.write_done()

    return {
        "ComputeParty/OpenSession": open_session,
        "ComputeParty/Enrol": enrol,
        "ComputeParty/Upload": upload,
        "ComputeParty/Outcome": outcome,
        "ComputeParty/Aggregate": aggregate,
        "ComputeParty/CloseSession": close_session,
        MESH: lambda call: gate.accept(call.caller, call.reader),
    }


def _dealer_answers(service: DealerService) -> dict[str, _Answer]:
    def open_session(call: _Call) -> Iterator[bytes]:
        service.open_session(call.caller, codec.read_open_session(call.reader))
        yield codec.write_done()

    def deal(call: _Call) -> Iterator[bytes]:
        return codec.write_deal(*service.deal(call.caller, codec.read_deal_request(call.reader)))

    def close_session(call: _Call) -> Iterator[bytes]:
        service.close_session(call.caller, *codec.read_close_session(call.reader))
        yield codec.write_done()

    return {"Dealer/OpenSession": open_session, "Dealer/Deal": deal, "Dealer/CloseSession": close_session}
