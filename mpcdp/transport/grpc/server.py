"""Answering calls: TLS proves who calls, `Reception` decides, and errors go back by kind."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any, cast

import grpc

from mpcdp.errors import ConfigError, ProtocolError
from mpcdp.transport.failures import INTERNAL, broken, failure_of
from mpcdp.transport.grpc.options import ERROR_KIND, PACKAGE, server_options
from mpcdp.transport.reader import printable
from mpcdp.transport.reception import Reception
from mpcdp.transport.tls import Credentials, subject_names

__all__ = ["serving"]

_STRANGERS = 16
"""Calls under way beyond those of members: they last until the certificate has been looked at."""

_LONGEST_SECONDS = 366 * 24 * 3600.0
"""Longest deadline of any call; gRPC shows a call without one as one of many thousand years."""


@contextmanager
def serving(
    reception: Reception,
    *,
    me: str,
    listen: str,
    credentials: Credentials,
    keepalive_seconds: float,
    rush_seconds: float,
    grace_seconds: float,
) -> Iterator[None]:
    """Listen at one address until the context ends; then give calls under way ``grace_seconds`` to finish.

    Raises:
        ConfigError: the address cannot be used.
    """
    server = grpc.server(
        cast(futures.ThreadPoolExecutor, _ThreadPerCall()),
        handlers=[_Handlers(reception, me)],
        options=server_options(keepalive_seconds=keepalive_seconds, rush_seconds=rush_seconds),
        maximum_concurrent_rpcs=reception.capacity + _STRANGERS,
    )
    tls = grpc.ssl_server_credentials(
        [(credentials.key, credentials.certificate)], credentials.authority, require_client_auth=True
    )
    try:
        port = server.add_secure_port(listen, tls)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(
            f"{me} cannot listen at {listen}: another process uses the port, or the address is not this machine's: "
            "correct `listen`, and the address under [peers] of the others"
        )
    server.start()
    try:
        yield
    finally:
        server.stop(grace_seconds).wait(grace_seconds + 1)


class _ThreadPerCall(futures.Executor):
    """Runs each call on a daemon thread, so that neither waits for another nor keeps the process from ending.

    The server bounds the number of calls.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
                raise

        threading.Thread(target=run, name="call", daemon=True).start()
        return future


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a method.

    All are registered as streams, which on the wire they are anyway: so the caller is checked before its first byte is
    read, not after.
    """

    def __init__(self, reception: Reception, me: str) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            PACKAGE + method: grpc.stream_stream_rpc_method_handler(_handler(reception, me, method))
            for method in reception.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        return self._handlers.get(handler_call_details.method)


def _handler(
    reception: Reception, me: str, method: str
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        names = subject_names(cast(Mapping[str, Iterable[bytes]], context.auth_context()))
        caller = printable(", ".join(names))

        def when_gone(callback: Callable[[], None]) -> None:
            if not context.add_callback(callback):
                callback()

        try:
            member = reception.identify(names)
            caller = member.name
            if not context.time_remaining() < _LONGEST_SECONDS:
                raise ProtocolError(f"{caller}: {method} was called without a deadline")
            yield from reception.answer(member, method, _incoming(requests, caller, method), when_gone)
        except Exception as error:  # noqa: BLE001 (whatever it is, the caller is told what it may know)
            failure = failure_of(error, me=me, caller=caller, method=method)
            context.set_trailing_metadata(((ERROR_KIND, failure.kind),))
            context.abort(_code(failure.kind), failure.text)

    return handle


def _incoming(requests: Iterator[bytes], caller: str, method: str) -> Iterator[bytes]:
    try:
        yield from requests
    except grpc.RpcError:
        raise broken(caller, method) from None


def _code(kind: str) -> grpc.StatusCode:
    codes = {"IdentityError": grpc.StatusCode.PERMISSION_DENIED, INTERNAL: grpc.StatusCode.INTERNAL}
    return codes.get(kind, grpc.StatusCode.FAILED_PRECONDITION)
