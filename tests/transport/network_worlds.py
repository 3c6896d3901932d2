"""Worlds in which every implementation of `Network` is tested, and a service that does what a test wants."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pytest

from mpcdp.config import TlsFiles
from mpcdp.errors import MpcdpError
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.channel import Limits, Member, Network, Services
from mpcdp.transport.greeting import NO_TASK
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.in_process import Fault, InProcessNetwork, InProcessWorld
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Attendance,
    DealRequest,
    Enrolment,
    NoiseUse,
    Outcome,
    Release,
    SessionEvent,
    SessionRef,
    Upload,
)
from mpcdp.transport.peer_network import PeerNetwork
from mpcdp.transport.tls import Authority, write_private

__all__ = [
    "LIMITS",
    "MEMBERS",
    "PARTIES",
    "REF",
    "GrpcTestWorld",
    "InProcessTestWorld",
    "NetworkWorld",
    "StubService",
    "free_port",
    "member",
    "raises",
    "threads_at_work",
    "write_credentials",
]

PARTIES = ("compute-0", "compute-1", "compute-2")
MEMBERS = (
    Member("coordinator", "coordinator", "coordinator.example.org"),
    Member("dealer", "dealer", "dealer.example.org"),
    *(Member(name, "compute", f"{name}.example.org") for name in PARTIES),
    Member("owner-0", "owner", "owner-0.example.org"),
    Member("owner-1", "owner", "owner-1.example.org"),
)
LIMITS = Limits(
    dimension=2_000_000,
    connect_seconds=5.0,
    call_seconds=5.0,
    prepare_seconds=5.0,
    message_seconds=5.0,
    session_seconds=30.0,
)
REF = SessionRef(task_digest=bytes(range(32)), session=bytes(range(32, 64)))


def member(name: str) -> Member:
    """Return the member of this name."""
    return next(entry for entry in MEMBERS if entry.name == name)


class raises:  # noqa: N801 (reads like pytest.raises)
    """Expect an error of exactly one class whose text has all of some words."""

    def __init__(self, kind: type[MpcdpError], *words: str) -> None:
        self._kind = kind
        self._words = words
        self.error: BaseException | None = None
        """What was raised."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            pytest.fail(f"no {self._kind.__name__} was raised")
        if kind is not self._kind:
            return False
        self.error = error
        missing = [word for word in self._words if word not in str(error)]
        assert not missing, f"{missing} are not in: {error}"
        return True


class StubService:
    """Answers everything, notes what it was asked, and does what `behaviour` says for a method instead, if anything."""

    def __init__(self, **behaviour: Callable[..., Any]) -> None:
        self.behaviour = behaviour
        self.calls: list[tuple[str, str, object]] = []

    def _answer(self, method: str, caller: str, message: object, default: object) -> Any:
        self.calls.append((method, caller, message))
        if method in self.behaviour:
            return self.behaviour[method](caller, message)
        return default

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        return iter(self._answer("attend", caller, attendance, [Aborted("nothing to do: come back later")]))

    def leave(self, caller: str, attendance: Attendance) -> None:
        self._answer("leave", caller, attendance, None)

    def open_session(self, caller: str, ref: SessionRef) -> None:
        self._answer("open_session", caller, ref, None)

    def enrol(self, caller: str, enrolment: Enrolment) -> NoiseUse | None:
        use: NoiseUse | None = self._answer("enrol", caller, enrolment, None)
        return use

    def upload(self, caller: str, upload: Upload) -> None:
        self._answer("upload", caller, upload, None)

    def aggregate(self, caller: str, request: Aggregate) -> Release:
        release: Release = self._answer(
            "aggregate", caller, request, Release(values=np.arange(3, dtype=np.int64), owners=OwnerSet.of([0]))
        )
        return release

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        outcome: Outcome = self._answer("outcome", caller, ref, Outcome(rounds=1, history=bytes(32)))
        return outcome

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        seed, corrections = self._answer("deal", caller, request, (bytes(32), iter([b"12345678"])))
        return seed, corrections

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        self._answer("close_session", caller, (ref, reason), None)


def threads_at_work(seconds: float = 3) -> list[str]:
    """Wait for the end of all threads that carry calls and meshes, and return the names of those that stay."""
    names = ("mesh-", "call", "in-process")
    end = time.monotonic() + seconds
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]:
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    return left


class NetworkWorld(Protocol):
    """Several processes of one task, in one test."""

    def network(
        self,
        me: Member,
        *,
        limits: Limits = LIMITS,
        members: Sequence[Member] = MEMBERS,
        task_digest: bytes = NO_TASK,
    ) -> PeerNetwork:
        """Return a network for a process with its certificate, and the task as this process knows it."""
        ...

    def serve(self, name: str, service: Services, *, limits: Limits = LIMITS) -> Network:
        """Start a process that answers until the world ends."""
        ...

    def kill(self, network: Network) -> None:
        """Break all connections that a network has opened."""
        ...

    def stop(self, name: str) -> None:
        """Let a process that `serve` started stop."""
        ...


class _World:
    def __init__(self) -> None:
        self._serving: dict[str, ExitStack] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in tuple(self._serving):
            self.stop(name)
        self._stack.close()
        left = threads_at_work()
        assert error is not None or left == [], "threads are left behind"

    def stop(self, name: str) -> None:
        self._serving.pop(name).close()

    def _serve(self, name: str, network: Network, service: Services) -> Network:
        stack = self._serving.setdefault(name, ExitStack())
        stack.enter_context(network.serve(service))
        return network


class InProcessTestWorld(_World):
    """Threads that pass each other messages."""

    def __init__(self, fault: Fault | None = None) -> None:
        super().__init__()
        self.world = InProcessWorld(fault)

    def network(
        self,
        me: Member,
        *,
        limits: Limits = LIMITS,
        members: Sequence[Member] = MEMBERS,
        task_digest: bytes = NO_TASK,
    ) -> InProcessNetwork:
        return InProcessNetwork(self.world, me, members, limits, task_digest=task_digest)

    def serve(self, name: str, service: Services, *, limits: Limits = LIMITS) -> Network:
        return self._serve(name, self.network(member(name), limits=limits), service)

    def kill(self, network: Network) -> None:
        assert isinstance(network, InProcessNetwork)
        self.world.kill(network._me.name)


@cache
def _authority() -> Authority:
    return Authority("tests")


@cache
def _issued(certificate: str) -> tuple[bytes, bytes]:
    return _authority().issue(certificate)


def write_credentials(
    folder: Path, certificate: str, *, authority: Authority | None = None, trusted: bytes | None = None
) -> TlsFiles:
    """Write credentials for a DNS name and return where they are.

    Args:
        folder: a new folder.
        certificate: the name.
        authority: who signs; by default the one of all tests.
        trusted: certificate of whom the process trusts; by default whoever signs.
    """
    folder.mkdir(parents=True)
    issued, key = authority.issue(certificate) if authority else _issued(certificate)
    files = TlsFiles(authority=folder / "authority.pem", certificate=folder / "certificate.pem", key=folder / "key.pem")
    files.authority.write_bytes(trusted or (authority or _authority()).certificate)
    files.certificate.write_bytes(issued)
    write_private(files.key, key)
    return files


def free_port() -> int:
    """Return a loopback port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class GrpcTestWorld(_World):
    """gRPC servers and clients over loopback, with certificates of one authority.

    Args:
        folder: where credentials are written.
        authority: who signs them; by default the one of all tests.
        keepalive_seconds: of every network.
    """

    def __init__(self, folder: Path, authority: Authority | None = None, *, keepalive_seconds: float = 0.5) -> None:
        super().__init__()
        self.folder = folder
        self._authority = authority
        self._keepalive_seconds = keepalive_seconds
        self._count = 0
        self.addresses: dict[str, str] = {entry.name: f"127.0.0.1:{free_port()}" for entry in MEMBERS}

    def network(
        self,
        me: Member,
        *,
        limits: Limits = LIMITS,
        members: Sequence[Member] = MEMBERS,
        task_digest: bytes = NO_TASK,
        tls: TlsFiles | None = None,
    ) -> GrpcNetwork:
        if tls is None:
            self._count += 1
            tls = write_credentials(self.folder / f"{self._count}-{me.name}", me.certificate, authority=self._authority)
        network = GrpcNetwork(
            me,
            members,
            self.addresses,
            tls,
            limits,
            self.addresses.get(me.name),
            task_digest=task_digest,
            keepalive_seconds=self._keepalive_seconds,
        )
        return self._stack.enter_context(network)

    def serve(self, name: str, service: Services, *, limits: Limits = LIMITS) -> Network:
        return self._serve(name, self.network(member(name), limits=limits), service)

    def kill(self, network: Network) -> None:
        assert isinstance(network, GrpcNetwork)
        network.close()
