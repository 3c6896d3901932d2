"""Answering calls: TLS proves who calls, `Reception` decides, and errors go back by kind."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import cast

import grpc

from mpcdp.errors import ConfigError, PeerTimeout, ProtocolError
from mpcdp.transport.access import HEALTH, MESH
from mpcdp.transport.failures import INTERNAL, broken, failure_of
from mpcdp.transport.grpc.calls import CallThreads
from mpcdp.transport.grpc.handshakes import Handshakes
from mpcdp.transport.grpc.options import ERROR_KIND, handshake_seconds, path_of, server_options
from mpcdp.transport.reader import printable
from mpcdp.transport.receiving import Watch
from mpcdp.transport.reception import Reception
from mpcdp.transport.tls import Credentials, subject_names

__all__ = ["serving"]

_STRANGERS = 16
"""Calls looked at beyond those that members may have under way: most last until the certificate has been looked at."""

_WAITING = 4096
"""Calls that wait to be looked at, all connections together; more are sent away unheard."""

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
    receive_seconds: float,
    grace_seconds: float,
) -> Iterator[None]:
    """Listen at one address until the context ends; then give calls under way ``grace_seconds`` to finish.

    Args:
        reception: answers the calls.
        me: name of this process.
        listen: the address.
        credentials: this process's.
        keepalive_seconds: time between two pings, and time to answer one.
        rush_seconds: how long everybody takes to connect when all come at once.
        receive_seconds: deadline of everything that one call sends.
        grace_seconds: how long calls may take to finish at the end.

    Raises:
        ConfigError: the address cannot be used.
    """
    # A second more, for what comes between the end of a handshake and the first call.
    handshakes = Handshakes(seconds=handshake_seconds(rush_seconds) + 1)
    watch = Watch(seconds=receive_seconds, patience_seconds=rush_seconds)
    most = reception.capacity + _STRANGERS
    server = grpc.server(
        cast(futures.ThreadPoolExecutor, CallThreads(most)),
        handlers=[_Handlers(reception, me, watch, handshakes)],
        options=server_options(keepalive_seconds=keepalive_seconds, rush_seconds=rush_seconds),
        maximum_concurrent_rpcs=most + _WAITING,
    )
    tls = _tls(credentials, handshakes)
    try:
        port = server.add_secure_port(listen, tls)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(
            f"{me} cannot listen at {listen}: another process uses the port, or the address is not this machine's: "
            "correct `listen`, and the address under [peers] of the others"
        )
    with handshakes, watch:
        server.start()
        try:
            yield
        finally:
            server.stop(grace_seconds).wait(grace_seconds + 1)


def _tls(credentials: Credentials, handshakes: Handshakes) -> grpc.ServerCredentials:
    certificate = grpc.ssl_server_certificate_configuration(
        [(credentials.key, credentials.certificate)], credentials.authority
    )
    # Asked at the beginning of every handshake for another certificate; to have none, as here, is allowed.
    asked = cast(Callable[[], grpc.ServerCertificateConfiguration], handshakes.begin)
    return grpc.dynamic_ssl_server_credentials(certificate, asked, require_client_authentication=True)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a method.

    All are registered as streams, which on the wire they are anyway: so the caller is checked before its first byte is
    read, not after.
    """

    def __init__(self, reception: Reception, me: str, watch: Watch, handshakes: Handshakes) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            path_of(method): grpc.stream_stream_rpc_method_handler(_handler(reception, me, method, watch, handshakes))
            for method in reception.methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        return self._handlers.get(handler_call_details.method)


def _handler(
    reception: Reception, me: str, method: str, watch: Watch, handshakes: Handshakes
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
            messages = _incoming(requests, caller, method, watch, context.cancel)
            yield from reception.answer(member, method, messages, when_gone)
        except Exception as error:  # noqa: BLE001 (whatever it is, the caller is told what it may know)
            failure = failure_of(error, me=me, caller=caller, method=method)
            context.set_trailing_metadata(((ERROR_KIND, failure.kind),))
            context.abort(_code(failure.kind, method), failure.text)

    def counted(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with handshakes.calling(context.peer()):
            yield from handle(requests, context)

    return counted


def _incoming(
    requests: Iterator[bytes], caller: str, method: str, watch: Watch, give_up: Callable[[], object]
) -> Iterator[bytes]:
    try:
        if method == MESH:  # open for the whole session; its exchanges have deadlines of their own
            yield from requests
            return
        with watch.sender(lambda: cast(None, give_up())) as sender:
            try:
                for message in requests:
                    sender.received(message)
                    yield message
                    sender.waiting()
            except grpc.RpcError:
                if sender.problem is None:
                    raise
            # What was given up ends like a call that is over, or like one that broke.
            if sender.problem is not None:
                raise PeerTimeout(caller, f"{method} {sender.problem}")
    except grpc.RpcError:
        raise broken(caller, method) from None


def _code(kind: str, method: str) -> grpc.StatusCode:
    if method == HEALTH and kind == "ProtocolError":
        return grpc.StatusCode.NOT_FOUND  # what the standard asks for where a service is unknown
    codes = {"IdentityError": grpc.StatusCode.PERMISSION_DENIED, INTERNAL: grpc.StatusCode.INTERNAL}
    return codes.get(kind, grpc.StatusCode.FAILED_PRECONDITION)
