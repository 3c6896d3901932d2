"""What an eavesdropper on the network sees."""

import socket
import threading
from pathlib import Path

import psutil
import pytest
from loopback_capture import LoopbackCapture, tls_records
from networks import make_network, task_document

from mpcdp.local_network import LocalNetwork
from mpcdp.plan import make_plan


def _read_all(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(1 << 16):
            pass


def test_capture_tells_plain_text_from_tls() -> None:
    """The capture sees bytes that are not encrypted, and they do not pass for TLS."""
    with LoopbackCapture() as capture, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=_read_all, args=(server,))
        thread.start()
        with socket.create_connection(("127.0.0.1", port)) as client:
            here = client.getsockname()[1]
            client.sendall(b"GET / HTTP/1.1\r\n" * 1000)
        thread.join()
    sent = capture.streams((port, here))[here, port]
    assert sent == b"GET / HTTP/1.1\r\n" * 1000
    with pytest.raises(AssertionError, match="TLS"):
        tls_records(sent)


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
    made = make_network(tmp_path, task_document([20, 30], parties=3))
    seen: set[tuple[int, int]] = set()
    with LoopbackCapture() as capture, made.processes() as network:
        network.start()
        results = network.wait(100, progress=lambda: seen.update(_connections(network)))
    assert all(result.exit_code == 0 for result in results)
    ours = capture.streams({port for flow in seen for port in flow})
    assert {flow for flow in seen if flow in ours or flow[::-1] in ours} == seen
    assert len(ours) >= 2 * (2 + 2 * 3 + 3 + 4)  # both directions of: owners, owner-party, party-party, coordinator's
    for stream in ours.values():
        kinds = tls_records(stream)
        assert kinds[:1] in ([22], [])
    volume = sum(result.report["bytes_sent"].get(name, 0) for result in results for name in result.report["bytes_sent"])
    captured = sum(len(stream) for stream in ours.values())
    assert captured > volume, "the capture is smaller than what the processes say they sent"
    assert make_plan(made.task).dimension * 8 * 2 < volume
