"""What a real process notices when another one is killed or frozen."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from attackers import Target
from network_worlds import LIMITS, PARTIES, REF, GrpcTestWorld, StubService, member, write_credentials

from mpcdp.errors import PeerTimeout, PeerUnavailable
from mpcdp.transport.channel import MessageMesh
from mpcdp.transport.messages import Attendance, Enrolment, SessionStarted

# Far longer than a test may take, so that only a broken connection can end an exchange in time.
_PATIENT = replace(LIMITS, connect_seconds=15.0, call_seconds=30.0, message_seconds=30.0)
_NOTICED = {signal.SIGKILL: 0.5, signal.SIGSTOP: 4.0}
"""Seconds until a dead and a frozen peer are noticed, pings going out every half second."""

_signals = pytest.mark.parametrize("number", _NOTICED, ids=lambda number: number.name)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GrpcTestWorld]:
    with GrpcTestWorld(tmp_path / "world") as world:
        yield world


@contextmanager
def _process(
    world: GrpcTestWorld, folder: Path, name: str, parties: Sequence[str] = ()
) -> Iterator["subprocess.Popen[str]"]:
    write_credentials(folder / name, member(name).certificate)
    arguments = {"name": name, "files": str(folder / name), "addresses": world.addresses, "parties": list(parties)}
    command = [sys.executable, str(Path(__file__).with_name("peer_process.py")), json.dumps(arguments)]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


class _Clock:
    """Measures from a blow against a process to the end of the block."""

    seconds = 0.0
    _struck = 0.0

    def start(self, process: "subprocess.Popen[str]", number: signal.Signals) -> None:
        process.send_signal(number)
        self._struck = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.monotonic() - self._struck


def _wait_until_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def _exchange_until_it_fails(mesh: MessageMesh, strike: Callable[[], None], exchanges: int = 50) -> None:
    for _ in range(exchanges):
        mesh.exchange("step", b"x")
    strike()
    while True:
        mesh.exchange("step", b"x")


@pytest.mark.parametrize(
    ("rank", "number"),
    [
        (0, signal.SIGKILL),
        (1, signal.SIGSTOP),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0, signal.SIGSTOP), (1, signal.SIGKILL))),
    ],
)
def test_a_compute_party_that_dies_or_freezes_is_noticed(
    world: GrpcTestWorld, tmp_path: Path, rank: int, number: signal.Signals
) -> None:
    """The higher rank has called, the lower one has been called: both notice, from either side."""
    me, other = PARTIES[rank], PARTIES[1 - rank]
    network = world.serve(me, StubService(), limits=_PATIENT)
    with (
        _process(world, tmp_path, other, PARTIES[:2]) as process,
        pytest.raises(PeerUnavailable) as raised,
        _Clock() as clock,
        network.mesh(REF, PARTIES[:2]) as mesh,
    ):
        _exchange_until_it_fails(mesh, lambda: clock.start(process, number))
    assert raised.value.peer == other
    # A party that leaves because of an error tries for a second to tell the others.
    assert clock.seconds < _NOTICED[number] + 1.5


@pytest.mark.slow
def test_with_the_usual_pings_a_frozen_party_is_noticed_in_fifteen_seconds(tmp_path: Path) -> None:
    with GrpcTestWorld(tmp_path / "world", keepalive_seconds=5.0) as world:
        network = world.serve("compute-0", StubService(), limits=_PATIENT)
        with (
            _process(world, tmp_path, "compute-1", PARTIES[:2]) as process,
            pytest.raises(PeerUnavailable, match="compute-1"),
            _Clock() as clock,
            network.mesh(REF, PARTIES[:2]) as mesh,
        ):
            _exchange_until_it_fails(mesh, lambda: clock.start(process, signal.SIGSTOP))
        assert clock.seconds < 15


def test_two_parties_both_name_a_third_that_is_killed(world: GrpcTestWorld, tmp_path: Path) -> None:
    network = world.serve("compute-0", StubService(), limits=_PATIENT)
    with (
        _process(world, tmp_path, "compute-1", PARTIES) as other,
        _process(world, tmp_path, "compute-2", PARTIES) as victim,
    ):
        with pytest.raises(PeerUnavailable, match="compute-2"), network.mesh(REF, PARTIES) as mesh:
            _exchange_until_it_fails(mesh, victim.kill)
        assert other.wait(10) != 0
    assert "compute-2" in (tmp_path / "compute-1.log").read_text()


@_signals
def test_a_coordinator_that_dies_or_freezes_is_noticed_by_owners(
    world: GrpcTestWorld, tmp_path: Path, number: signal.Signals
) -> None:
    owner = world.network(member("owner-0"), limits=_PATIENT)
    with _process(world, tmp_path, "coordinator") as process:
        _wait_until_ready(process)
        events = owner.coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 5))
        assert next(events) == SessionStarted(REF)
        clock = _Clock()
        clock.start(process, number)
        with pytest.raises(PeerUnavailable, match="coordinator"), clock:
            next(events)
        assert clock.seconds < _NOTICED[number]


@_signals
def test_a_party_that_dies_or_freezes_is_noticed_during_a_call(
    world: GrpcTestWorld, tmp_path: Path, number: signal.Signals
) -> None:
    owner = world.network(member("owner-0"), limits=_PATIENT)
    with _process(world, tmp_path, "compute-0") as process:
        _wait_until_ready(process)
        clock = _Clock()
        striker = threading.Timer(0.3, clock.start, (process, number))
        striker.start()
        with pytest.raises(PeerUnavailable, match="compute-0"), clock:
            owner.compute_party("compute-0").enrol("", Enrolment(REF, "owner-0", bytes(32)))
        striker.join()
        assert clock.seconds < _NOTICED[number]


def test_a_process_that_is_frozen_from_the_start_is_named(world: GrpcTestWorld, tmp_path: Path) -> None:
    owner = world.network(member("owner-0"), limits=replace(LIMITS, connect_seconds=1.0))
    with _process(world, tmp_path, "compute-0") as process:
        _wait_until_ready(process)
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises((PeerUnavailable, PeerTimeout), match="compute-0"):
            owner.compute_party("compute-0").enrol("", Enrolment(REF, "owner-0", bytes(32)))
        assert time.monotonic() - start < 3


def test_strangers_write_nothing_into_a_process_log(world: GrpcTestWorld, tmp_path: Path) -> None:
    """gRPC itself would write a line for each, and so fill a disk."""
    with _process(world, tmp_path, "compute-0") as process:
        _wait_until_ready(process)
        stranger = Target("127.0.0.1", int(world.addresses["compute-0"].rpartition(":")[2]), None)
        for _ in range(20):
            with suppress(OSError), stranger.connect() as connection:
                assert connection.ends(5)
    assert (tmp_path / "compute-0.log").read_text() == ""
