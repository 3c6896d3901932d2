"""A slow network delays every byte both ways, lets bytes follow each other, and carries no more than its line does."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.bench.slow_network import Line, Link, SlowNetwork

SLACK_SECONDS = 0.25
"""More than a machine that is busy with something else adds."""
sizes = st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 0.1)), min_size=1, max_size=20)


@given(sizes, st.floats(0, 1000))
def test_a_byte_under_way_does_not_delay_those_behind_it(pieces: list[tuple[int, float]], round_trip_ms: float) -> None:
    line, now = Line(Link(round_trip_ms)), 0.0
    for count, pause in pieces:
        now += pause
        assert line.take(count, now) == pytest.approx(now + round_trip_ms / 2000)
        assert line.backlog(now) == 0


@given(sizes, st.floats(0, 1000), st.floats(0.1, 1e5))
def test_a_line_carries_what_its_bandwidth_allows(
    pieces: list[tuple[int, float]], round_trip_ms: float, bandwidth_mbit: float
) -> None:
    link, now, busy = Link(round_trip_ms, bandwidth_mbit), 0.0, 0.0
    line = Line(link)
    arrivals = []
    for count, pause in pieces:
        now += pause
        # The oracle: a queue with one server whose service time is the piece's size over the bandwidth.
        busy = max(busy, now) + 8 * count / (bandwidth_mbit * 1e6)
        arrivals.append(line.take(count, now))
        assert arrivals[-1] == pytest.approx(busy + round_trip_ms / 2000)
    assert arrivals == sorted(arrivals)
    total = sum(count for count, _ in pieces)
    assert arrivals[-1] >= (1 - 1e-9) * 8 * total / (bandwidth_mbit * 1e6)


@pytest.mark.parametrize("numbers", [(-1.0, None), (float("inf"), None), (float("nan"), None), (1.0, 0.0), (1.0, -5.0)])
def test_a_link_that_cannot_be_is_refused(numbers: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match="a round trip"):
        Link(*numbers)


@contextmanager
def echo(*, quiet_for: int = 0) -> Iterator[str]:
    """Send back what arrives, until the sender has ended; but not the first so many bytes of each connection."""

    def answer(connection: socket.socket) -> None:
        swallowed = 0
        with connection:
            while data := connection.recv(1 << 16):
                kept = data[max(0, quiet_for - swallowed) :]
                swallowed += len(data) - len(kept)
                connection.sendall(kept)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(1 << 16)
        assert piece, "the connection ended early"
        data += piece
    return data


def test_a_round_trip_takes_its_time_and_a_first_one_also_the_handshake() -> None:
    with echo() as server, SlowNetwork(Link(200)) as network, connect(network.add(server)) as connection:
        begin = time.monotonic()
        connection.sendall(b"first")
        assert receive(connection, 5) == b"first"
        first = time.monotonic()
        connection.sendall(b"again")
        assert receive(connection, 5) == b"again"
        end = time.monotonic()
    assert 0.39 < first - begin < 0.4 + SLACK_SECONDS
    assert 0.199 < end - first < 0.2 + SLACK_SECONDS


def test_a_short_round_trip_is_not_rounded_up() -> None:
    """Ten round trips of 1 ms: a proxy that waits for whole milliseconds each way would take twice as long."""
    with echo() as server, SlowNetwork(Link(1)) as network, connect(network.add(server)) as connection:
        best = float("inf")
        for _ in range(30):
            begin = time.monotonic()
            connection.sendall(b"x")
            receive(connection, 1)
            best = min(best, time.monotonic() - begin)
    assert 0.001 < best < 0.0019


def test_messages_follow_each_other_on_the_way_and_stay_in_order() -> None:
    messages = [b"%06d" % number for number in range(100)]
    with echo() as server, SlowNetwork(Link(200)) as network, connect(network.add(server)) as connection:
        connection.sendall(b"warm")
        receive(connection, 4)
        begin = time.monotonic()
        for message in messages:
            connection.sendall(message)
            time.sleep(0.001)
        received = receive(connection, 600)
        took = time.monotonic() - begin
    assert received == b"".join(messages)
    assert 0.3 < took < 0.4 + 2 * SLACK_SECONDS  # 100 messages one after the other would take 20 s


@pytest.mark.parametrize("answered", [1, 100_000])
def test_a_line_is_shared_by_all_connections_and_limits_them_together(answered: int) -> None:
    """Two connections send 100 kB each over 8 Mbit/s: 0.2 s for both; the way back is another line, and overlaps."""
    payload = bytes(100_000)
    with echo(quiet_for=len(payload) - answered) as server, SlowNetwork(Link(0, bandwidth_mbit=8)) as network:
        address = network.add(server)
        with connect(address) as one, connect(address) as other:
            begin = time.monotonic()
            for connection in (one, other):
                connection.sendall(payload)
            for connection in (one, other):
                assert receive(connection, answered) == payload[:answered]
            took = time.monotonic() - begin
    assert 0.199 < took < 0.2 + 2 * SLACK_SECONDS


def test_an_end_arrives_after_what_was_sent_before_it() -> None:
    with echo() as server, SlowNetwork(Link(50)) as network, connect(network.add(server)) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 10) == b"last words"
        assert connection.recv(1) == b""


def test_where_nothing_listens_a_connection_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with SlowNetwork(Link(1)) as network, connect(network.add(address)) as connection, suppress(ConnectionResetError):
        assert connection.recv(1) == b""


def test_nothing_is_left_when_it_ends() -> None:
    with echo() as server, SlowNetwork(Link(10)) as network:
        address = network.add(server)
        connection = connect(address)
        connection.sendall(b"x")
        receive(connection, 1)
    with connection, pytest.raises(OSError, match=r"[Rr]efused"):
        connect(address)
    assert not any(thread.name == "slow-network" for thread in threading.enumerate())
