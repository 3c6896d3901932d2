"""Calling: a stream of messages whose every failure is one of ours and names the peer."""

from collections.abc import Iterator
from typing import Protocol, cast

import grpc

from mpcdp.errors import IdentityError, MpcdpError, PeerError, PeerUnavailable, ProtocolError
from mpcdp.transport.channel import Member
from mpcdp.transport.failures import NOTHING_LISTENS, Failure, broken, error_of, late
from mpcdp.transport.grpc.options import ERROR_KIND
from mpcdp.transport.reader import printable

__all__ = ["GrpcStream"]

_WRONG_NAME = ("verification check failed", "is not in peer certificate")
"""What versions of gRPC say when a server's certificate has another name."""


class _Call(Protocol):
    def __next__(self) -> bytes: ...

    def cancel(self) -> bool: ...


class GrpcStream:
    """What a peer answers to a call (fits `mpcdp.transport.mesh.Stream`).

    Args:
        call: the call under way.
        peer: who was called.
        method: what was called.
        seconds: its deadline.
    """

    def __init__(self, call: _Call, *, peer: Member, method: str, seconds: float) -> None:
        self._call = call
        self._peer = peer
        self._method = method
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            # On this side the error that is raised is the failed call itself.
            raise self._error(cast(grpc.Call, error)) from None

    def cancel(self) -> None:
        """Give the call up."""
        self._call.cancel()

    def _error(self, failed: grpc.Call) -> MpcdpError:
        details = failed.details() or ""
        for key, kind in failed.trailing_metadata() or ():
            if key == ERROR_KIND:
                return error_of(Failure(str(kind), details), peer=self._peer.name)
        return self._error_of_status(failed.code(), details)

    def _error_of_status(self, code: grpc.StatusCode, details: str) -> MpcdpError:
        name = self._peer.name
        match code:
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return late(name, self._method, self._seconds)
            case grpc.StatusCode.UNAVAILABLE if any(words in details.lower() for words in _WRONG_NAME):
                return IdentityError(
                    f"{name}: whoever listens at its address has no certificate for {self._peer.certificate}: "
                    "correct the address under [peers], or give it its own certificate"
                )
            case grpc.StatusCode.UNAVAILABLE if "handshake failed" in details.lower():
                return IdentityError(
                    f"{name}: its certificate is expired or not from this task's authority: "
                    "use certificates of one authority everywhere, and renew those that have expired"
                )
            case grpc.StatusCode.UNAVAILABLE if "failed to connect" in details.lower():
                return PeerUnavailable(name, _connection_problem(details.lower()))
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.UNKNOWN:
                return broken(name, self._method)
            case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
                return ProtocolError(f"{name}: a message of {self._method} is larger than the protocol allows")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return PeerUnavailable(name, "it has too many calls under way: try again later")
            case grpc.StatusCode.UNIMPLEMENTED:
                return ProtocolError(
                    f"{name}: does not answer {self._method}: run the same version of mpcdp everywhere"
                )
            case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
                return IdentityError(f"{name}: it does not accept this process's certificate")
            case _:
                return PeerError(name, f"{self._method} failed ({code.name}: {printable(details)[:200]}): see its log")


def _connection_problem(details: str) -> str:
    if "connection refused" in details:
        return NOTHING_LISTENS
    if "socket closed" in details or "reset" in details:
        return "it closes the connection, as it does when it does not accept this process's certificate"
    return printable(details)[:200]
