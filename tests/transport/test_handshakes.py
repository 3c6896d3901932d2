"""Connections that come to no call are counted, those that are well are not, however they overlap."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.transport.grpc.handshakes import Handshakes

_SECONDS = 11.0


class _Server:
    """Handshakes at times that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.failed: list[int] = []
        self.handshakes = Handshakes(seconds=_SECONDS, report=self.failed.append, clock=lambda: self.now)

    def call(self, peer: str) -> None:
        with self.handshakes.calling(peer):
            pass


@pytest.fixture
def server() -> _Server:
    return _Server()


def test_who_connects_and_never_calls_is_counted_once(server: _Server) -> None:
    server.handshakes.begin()
    server.handshakes.begin()
    server.now += _SECONDS - 1
    server.handshakes.look()
    assert server.failed == []
    server.now += 2
    server.handshakes.look()
    server.handshakes.look()
    assert server.failed == [2]


def test_who_calls_is_not_counted_however_often_it_calls(server: _Server) -> None:
    server.handshakes.begin()
    for _ in range(3):
        server.call("ipv4:192.0.2.1:50000")
        server.now += 30
        server.handshakes.look()
    assert server.failed == []


def test_calls_on_an_old_connection_hide_no_stranger(server: _Server) -> None:
    server.handshakes.begin()
    with server.handshakes.calling("member"):  # an owner that attends, for as long as the session lasts
        server.now += 3600
        server.handshakes.begin()
        server.call("member")
        server.now += _SECONDS + 1
        server.handshakes.look()
    assert server.failed == [1]


def test_new_connections_of_members_do_not_put_a_stranger_off(server: _Server) -> None:
    """As those of a health check, every few seconds."""
    server.handshakes.begin()
    for number in range(5):
        server.now += 3
        server.handshakes.begin()
        server.call(f"health check {number}")
        server.handshakes.look()
    assert server.failed == [1]


def test_a_port_that_another_connection_has_got_is_another_peer(server: _Server) -> None:
    for _ in range(3):
        server.handshakes.begin()
        server.call("ipv4:192.0.2.1:50000")
        server.now += 61
        server.handshakes.look()
    assert server.failed == []


def test_at_the_end_nobody_is_waited_for(server: _Server) -> None:
    with server.handshakes:
        server.handshakes.begin()
    assert server.failed == [1]


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 5), st.floats(0, 300), st.booleans()), max_size=40))
def test_as_many_are_counted_as_fail(connections: list[tuple[float, float, float, bool]]) -> None:
    """Each begins, fails or takes up to half its time for its first call, and calls for a while."""
    server = _Server()
    events: list[tuple[float, str, int]] = []
    for number, (begin, wait, duration, fails) in enumerate(connections):
        events.append((begin, "begin", number))
        if not fails:
            events += [(begin + wait, "call", number), (begin + wait + duration, "hang up", number)]
    calls = {number: ExitStack() for number in range(len(connections))}
    order = {"begin": 0, "call": 1, "hang up": 2}
    for when, what, number in sorted(events, key=lambda event: (event[0], order[event[1]])):
        server.now = 1000.0 + when
        server.handshakes.look()
        match what:
            case "begin":
                server.handshakes.begin()
            case "call":
                calls[number].enter_context(server.handshakes.calling(f"peer {number}"))
            case _:
                calls[number].close()
    server.now += 1000
    server.handshakes.look()
    server.handshakes.look()
    failed = sum(fails for *_, fails in connections)
    # Chains of slow ones, each begun while the last still waited, may be counted early; never more than there are.
    assert failed <= sum(server.failed) <= len(connections)
    assert server.handshakes._begun == []
    assert server.handshakes._idle_since == {}
    assert server.handshakes._under_way == {}
