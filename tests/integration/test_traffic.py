"""What an eavesdropper on the network sees."""

import errno
import socket
import struct
import threading
import tomllib
from pathlib import Path

import psutil
import pytest
from loopback_capture import LoopbackCapture, TcpStreams, tls_records
from networks import make_network, task_document

from mpcdp.local_network import LocalNetwork, free_ports
from mpcdp.plan import make_plan


def _read_all(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(1 << 16):
            pass


def test_capture_tells_plain_text_from_tls() -> None:
    """The capture sees bytes that are not encrypted, and they do not pass for TLS."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        LoopbackCapture([port := server.getsockname()[1]]) as capture,
    ):
        thread = threading.Thread(target=_read_all, args=(server,))
        thread.start()
        with socket.create_connection(("127.0.0.1", port)) as client:
            here = client.getsockname()[1]
            client.sendall(b"GET / HTTP/1.1\r\n" * 1000)
        thread.join()
    (sent,) = capture.streams()[here, port]
    assert sent == b"GET / HTTP/1.1\r\n" * 1000
    with pytest.raises(AssertionError, match="TLS"):
        tls_records(sent)


def test_capture_tells_connections_of_one_pair_of_ports_apart() -> None:
    """A refused dial and two connections from the same port are three streams, not one with gaps."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port, here = server.getsockname()[1], free_ports(1)[0]
        with LoopbackCapture([port]) as capture:
            with socket.socket() as client:
                client.bind(("127.0.0.1", here))
                assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            server.listen()
            for sent in (b"first", b"second"):
                with socket.socket() as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # frees the port
                    client.bind(("127.0.0.1", here))
                    client.connect(("127.0.0.1", port))
                    client.sendall(sent)
                    connection, _ = server.accept()
                    with connection:
                        assert connection.recv(100) == sent
    assert capture.streams()[here, port] == [b"", b"first", b"second"]


def _segment(sequence: int, payload: bytes = b"", *, syn: bool = False) -> bytes:
    header = struct.pack("!HHIIBBHHH", 1000, 2000, sequence, 0, 5 << 4, 2 if syn else 16, 0, 0, 0)
    length = 20 + len(header) + len(payload)
    return struct.pack("!BBHHHBBHII", 4 << 4 | 5, 0, length, 0, 0, 64, 6, 0, 0, 0) + header + payload


def test_capture_joins_what_is_late_or_sent_again_and_misses_what_is_lost() -> None:
    first = 2**32 - 3  # sequence numbers wrap
    segments = [
        _segment(first, syn=True),
        _segment(first, syn=True),
        _segment(2, b"efg"),
        _segment(first + 1, b"abcd"),
        _segment(first + 1, b"ab"),
        _segment(5, b"h"),
    ]
    streams = TcpStreams()
    for segment in segments:
        streams.add(segment)
    assert streams.joined() == {(1000, 2000): [b"abcdefgh"]}
    for lost, words in ((3, "lost 2 bytes"), (2, "lost 3 bytes")):
        streams = TcpStreams()
        for segment in segments[:lost] + segments[lost + 1 :]:
            streams.add(segment)
        with pytest.raises(AssertionError, match=words):
            streams.joined()
    streams = TcpStreams()
    streams.add(_segment(2, b"efg"))
    with pytest.raises(AssertionError, match="start"):
        streams.joined()


def _connections(network: LocalNetwork) -> set[tuple[int, int]]:
    """Return (local port, remote port) of every connection that a process of the network has now."""
    found = set()
    for name in network.names:
        try:
            for connection in psutil.Process(network.process(name).pid).net_connections():
                if connection.raddr:
                    assert connection.raddr.ip.removeprefix("::ffff:") == "127.0.0.1", f"{name}: {connection.raddr.ip}"
                    found.add((connection.laddr.port, connection.raddr.port))
        except psutil.NoSuchProcess:
            continue
    return found


def test_all_traffic_is_tls(tmp_path: Path) -> None:
    """Every byte on every connection of every process is inside a TLS record, and no share shows in it."""
    made = make_network(tmp_path, task_document([20, 30], parties=2, start_seconds=100.0))
    ports = {
        int(tomllib.loads(path.read_text())["listen"].rpartition(":")[2])
        for path in made.folder.glob("*/*.toml")
        if path.name != "owner.toml"
    }
    assert len(ports) == 1 + 1 + 2
    seen: set[tuple[int, int]] = set()
    with LoopbackCapture(ports) as capture, made.processes() as network:
        network.start()
        results = network.wait(100, progress=lambda: seen.update(_connections(network)))
    assert all(result.exit_code == 0 for result in results)
    # No process has a connection that does not lead to one of these ports; so what is captured there is all there is.
    assert seen
    assert all(ports & set(flow) for flow in seen)
    captured = [stream for streams in capture.streams().values() for stream in streams if stream]
    # Owners to the coordinator and to parties, parties among themselves and to the dealer, the coordinator to its own.
    assert len(captured) >= 2 * (2 + 2 * 2 + 1 + 2 + 3)
    for stream in captured:
        kinds = tls_records(stream)
        assert kinds[:1] in ([22], [])
    volume = sum(result.report["bytes_sent"].get(name, 0) for result in results for name in result.report["bytes_sent"])
    assert sum(map(len, captured)) > volume, "the capture is smaller than what the processes say they sent"
    assert make_plan(made.task).dimension * 8 * 2 < volume
