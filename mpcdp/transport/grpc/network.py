"""One process's access to the others over gRPC."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeAlias

import grpc

from mpcdp.config import TlsFiles
from mpcdp.errors import ConfigError, PeerUnavailable
from mpcdp.transport.channel import Limits, Member, Services
from mpcdp.transport.grpc.client import GrpcStream
from mpcdp.transport.grpc.options import channel_options, path_of
from mpcdp.transport.grpc.server import serving
from mpcdp.transport.mesh import Stream
from mpcdp.transport.peer_network import PeerNetwork
from mpcdp.transport.tls import load_credentials

__all__ = ["GrpcNetwork"]

_Callable: TypeAlias = "grpc.StreamStreamMultiCallable[bytes, bytes]"

_GRACE_SECONDS = 5.0
_KEEPALIVE_SECONDS = 5.0
_MEMBERS_PER_SECOND = 30
"""How many members a server can be expected to serve at once within a second, however small it is."""


class GrpcNetwork(PeerNetwork):
    """The network of one process over mutual TLS.

    Args:
        me: this process.
        members: all processes of the task, this one among them.
        addresses: where each peer that is called listens, ``"host:port"`` by name.
        tls: this process's credentials.
        limits: bounds and deadlines.
        listen: where this process answers, ``"host:port"``; None for one that only calls.
        task_digest: of the task that this process holds; a peer with another one is refused.
        keepalive_seconds: time between two pings on a connection, and time to answer one: a frozen peer is noticed
            within twice this time. By default 5 s, and longer in a session of hundreds, where a server has as many
            connections to look after, and may be busy for seconds when all members call it at once.

    Raises:
        ConfigError: the credentials are not usable, or this process is not a member.

    Guarantees:
        Every connection is mutually authenticated TLS with certificates of the task's authority. A server's certificate
        must have the name the task lists for it (the authority must not issue wildcards); a client's decides who calls.
    """

    def __init__(
        self,
        me: Member,
        members: Sequence[Member],
        addresses: Mapping[str, str],
        tls: TlsFiles,
        limits: Limits,
        listen: str | None,
        *,
        task_digest: bytes,
        keepalive_seconds: float | None = None,
    ) -> None:
        super().__init__(me, members, limits, task_digest=task_digest)
        self._addresses = dict(addresses)
        self._listen = listen
        self._rush_seconds = len(members) / _MEMBERS_PER_SECOND
        self._keepalive_seconds = keepalive_seconds or max(_KEEPALIVE_SECONDS, self._rush_seconds)
        self._credentials = load_credentials(tls, name=me.certificate)
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._callables: dict[tuple[str, str], _Callable] = {}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections to others; what is under way on them fails, and so does every later call."""
        with self._lock:
            self._closed = True
            for channel in self._channels.values():
                channel.close()
            self._channels.clear()
            self._callables.clear()

    def serve(self, service: Services | None) -> AbstractContextManager[None]:
        """Listen until the context ends, then give calls under way a few seconds to finish.

        Without a service, greetings are answered and nothing else.

        Raises:
            ConfigError: there is no `listen`, or the address cannot be used.
        """
        if self._listen is None:
            raise ConfigError(f'{self._me.name} is to answer others: set `listen = "host:port"` in its config')
        return serving(
            self._reception(service),
            me=self._me.name,
            listen=self._listen,
            credentials=self._credentials,
            keepalive_seconds=self._keepalive_seconds,
            rush_seconds=self._rush_seconds,
            receive_seconds=self._limits.call_seconds,
            grace_seconds=min(_GRACE_SECONDS, self._limits.call_seconds),
        )

    def _start(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        call = self._callable(peer, method)(iter(messages), timeout=seconds)
        return GrpcStream(call, peer=peer, method=method, seconds=seconds)

    def _callable(self, peer: Member, method: str) -> _Callable:
        """Return what starts calls of a method; making one is a fifth of the work of a small call."""
        with self._lock:
            if self._closed:
                raise PeerUnavailable(peer.name, f"{self._me.name} has closed its connections", final=True)
            if (peer.name, method) not in self._callables:
                self._callables[peer.name, method] = self._channel(peer).stream_stream(path_of(method))
            return self._callables[peer.name, method]

    def _channel(self, peer: Member) -> grpc.Channel:
        """Return the connection with a peer; call with the lock held."""
        if peer.name not in self._channels:
            if peer.name not in self._addresses:
                raise ConfigError(f'{peer.name} has no address: add {peer.name} = "host:port" under [peers]')
            credentials = grpc.ssl_channel_credentials(
                self._credentials.authority, self._credentials.key, self._credentials.certificate
            )
            self._channels[peer.name] = grpc.secure_channel(
                self._addresses[peer.name],
                credentials,
                options=channel_options(
                    peer.certificate,
                    keepalive_seconds=self._keepalive_seconds,
                    rush_seconds=self._rush_seconds,
                ),
            )
        return self._channels[peer.name]
