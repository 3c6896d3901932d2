"""Nobody keeps a process from serving the others: slow, silent, greedy and rude callers on a real port."""

import gzip
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from attackers import Target, attackers
from network_worlds import LIMITS, MEMBERS, REF, GrpcTestWorld, StubService, member, raises, write_credentials

from mpcdp.errors import MpcdpError, PeerUnavailable, ProtocolError
from mpcdp.pb import share_pb2
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.transport import codec
from mpcdp.transport.access import HEALTH
from mpcdp.transport.channel import Member
from mpcdp.transport.grpc import options
from mpcdp.transport.grpc.calls import CallThreads
from mpcdp.transport.health import read_serving, write_health_check
from mpcdp.transport.messages import Enrolment, Upload
from mpcdp.transport.reader import CHUNK_BYTES, Reader
from mpcdp.transport.receiving import Sender, Watch
from mpcdp.transport.reception import CALLS_PER_MEMBER, Reception

_UPLOAD = "ComputeParty/Upload"
_RECEIVE_SECONDS = 0.6
_LIMITS = replace(LIMITS, call_seconds=_RECEIVE_SECONDS)
_HEADERS, _RESET = 0x1, 0x3
_ENDS = (_HEADERS, _RESET)
"""Kinds of frames that end a call on which nothing was answered."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GrpcTestWorld]:
    with GrpcTestWorld(tmp_path / "world", keepalive_seconds=5.0) as world:
        yield world


@pytest.fixture
def service(world: GrpcTestWorld) -> StubService:
    service = StubService()
    world.serve("compute-0", service, limits=_LIMITS)
    return service


@pytest.fixture
def target(world: GrpcTestWorld, tmp_path: Path) -> Target:
    """The served party, and the credentials of owner-1, who attacks it."""
    write_credentials(tmp_path / "attacker", member("owner-1").certificate)
    return Target("127.0.0.1", int(world.addresses["compute-0"].rpartition(":")[2]), tmp_path / "attacker")


def _upload(owner: str, dimension: int = 10) -> Upload:
    values: RingVector = np.arange(dimension, dtype=np.int64)
    return Upload(ref=REF, owner=owner, round_index=0, history=bytes(32), nonce=bytes(32), values=values)


def _works_for_owner_0(world: GrpcTestWorld, seconds: float = 2.0) -> None:
    begin = time.monotonic()
    world.network(member("owner-0")).compute_party("compute-0").enrol("", Enrolment(REF, "owner-0", bytes(32)))
    assert time.monotonic() - begin < seconds


def _calls_under_way() -> int:
    return sum(thread.name == "call" for thread in threading.enumerate())


def _wait(done: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.01)
    return done()


def _logged(capsys: pytest.CaptureFixture[str], text: str, times: int) -> str:
    """Wait for a text in the log: who is refused may know before it is written down."""
    log = ""

    def complete() -> bool:
        nonlocal log
        log += capsys.readouterr().out
        return log.count(text) == times

    assert _wait(complete), log
    return log


class TestSlowSenders:
    def test_a_silent_member_is_given_up_and_its_calls_are_free_again(
        self, world: GrpcTestWorld, service: StubService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        owner = world.network(member("owner-1"))
        owner.compute_party("compute-0").enrol("", Enrolment(REF, "owner-1", bytes(32)))
        quiet = threading.Event()

        def nothing() -> Iterator[bytes]:
            quiet.wait(20)
            yield from ()

        begin = time.monotonic()
        streams = [owner.call(member("compute-0"), _UPLOAD, nothing(), 20) for _ in range(CALLS_PER_MEMBER)]
        assert _wait(lambda: _calls_under_way() == CALLS_PER_MEMBER)
        _works_for_owner_0(world)
        for stream in streams:
            with raises(PeerUnavailable, "compute-0", _UPLOAD):
                next(stream)
        assert _RECEIVE_SECONDS <= time.monotonic() - begin < 3
        quiet.set()
        owner.compute_party("compute-0").upload("", _upload("owner-1"))
        log = _logged(capsys, "was not sent within 0.6 s (so far 0 messages, 0 bytes)", CALLS_PER_MEMBER)
        assert log.count("owner-1") >= CALLS_PER_MEMBER
        assert "PeerTimeout" in log

    def test_a_member_that_drips_is_given_up(
        self, world: GrpcTestWorld, service: StubService, target: Target, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Bytes that are no message yet do not count."""
        with target.connect() as connection:
            stream = connection.call("Upload")
            connection.data(stream, struct.pack(">BI", 0, 1 << 20))
            end = time.monotonic() + 5
            given_up = False
            while not given_up and time.monotonic() < end:
                connection.data(stream, b"x")
                given_up = any(at == stream and kind in _ENDS for kind, _, at, _ in connection.frames(0.05))
            assert given_up
        assert _logged(capsys, "was not sent within 0.6 s", 1)
        assert service.calls == []
        _works_for_owner_0(world)

    def test_who_keeps_the_pace_may_take_all_the_time_there_is(self, world: GrpcTestWorld) -> None:
        service = StubService()
        world.serve("compute-0", service, limits=replace(LIMITS, call_seconds=5.0))

        def slowly() -> Iterator[bytes]:
            for message in codec.write_upload(_upload("owner-1", 400_000)):
                yield message
                time.sleep(1.0)

        owner = world.network(member("owner-1"))
        list(owner.call(member("compute-0"), _UPLOAD, slowly(), 10))
        assert [method for method, *_ in service.calls] == ["upload"]

    def test_waiting_for_the_answer_is_no_fault(self, world: GrpcTestWorld) -> None:
        """An upload may be answered only when its round is over, long after all of it has arrived."""
        world.serve("compute-0", StubService(upload=lambda *_: time.sleep(3 * _RECEIVE_SECONDS)), limits=_LIMITS)
        world.network(member("owner-1")).compute_party("compute-0").upload("", _upload("owner-1"))

    def test_a_pause_is_noticed_before_the_deadline(self) -> None:
        broken = threading.Event()
        sender = Sender(broken.set, seconds=100.0, message_seconds=10.0)
        begin = time.monotonic()
        sender.received(bytes(1000))
        sender.look(begin + 50)  # the message is being worked on: not the sender's time
        assert not broken.is_set()
        sender.waiting()
        sender.look(begin + 9)
        assert not broken.is_set()
        sender.look(begin + 11)
        assert broken.is_set()
        assert sender.problem is not None
        assert sender.problem.startswith("paused for 10 s (so far 1 messages, 1000 bytes)")

    def test_a_chunk_has_the_time_of_the_slowest_connection(self) -> None:
        with Watch(seconds=1000.0, patience_seconds=5.0) as watch, watch.sender(lambda: None) as sender:
            begin = time.monotonic()
            sender.look(begin + CHUNK_BYTES / 50_000 + 4)
            assert sender.problem is None
            sender.look(begin + CHUNK_BYTES / 50_000 + 6)
            assert sender.problem is not None


class TestGreedyCallers:
    def test_a_vector_in_small_pieces_is_refused(self, world: GrpcTestWorld, service: StubService) -> None:
        header, chunk = codec.write_upload(_upload("owner-1"))
        content = share_pb2.UploadPart.FromString(chunk).chunk
        pieces = [share_pb2.UploadPart(chunk=content[at : at + 1]).SerializeToString() for at in range(len(content))]
        owner = world.network(member("owner-1"))
        with raises(ProtocolError, "owner-1", "not full", "all but the last"):
            list(owner.call(member("compute-0"), _UPLOAD, [header, *pieces], 5))
        assert service.calls == []

    def test_compressed_messages_are_refused_unread(self, service: StubService, target: Target) -> None:
        """Whatever a version of gRPC does with four compressed megabytes that become four gigabytes."""
        memory = psutil.Process()
        bomb = gzip.compress(bytes(64 << 20))
        before = peak = memory.memory_info().rss
        answer = b""
        with target.connect() as connection:
            stream = connection.call("Upload", {"grpc-encoding": "gzip"})
            connection.message(stream, bomb, compressed=True)
            for kind, _, at, payload in connection.frames(3):
                peak = max(peak, memory.memory_info().rss)
                answer += payload if at == stream else b""
                if at == stream and kind in _ENDS:
                    break
        assert b"gzip' is disabled" in answer
        assert peak - before < 32 << 20
        assert service.calls == []

    @pytest.mark.parametrize("size", [9_000, 100_000])
    def test_large_headers_are_refused(
        self, world: GrpcTestWorld, service: StubService, target: Target, size: int
    ) -> None:
        with target.connect() as connection:
            fields = {f"x-{number}": "y" * 1000 for number in range(size // 1000)}
            if size < 1 << 14:
                stream = connection.call("Upload", fields)
                connection.message(stream, b"", end=True)
                refused = any(at == stream and kind in _ENDS for kind, _, at, _ in connection.frames(3))
            else:  # more than a frame holds
                with suppress(OSError):
                    connection.call("Upload", fields)
                refused = connection.ends(3)
        assert refused
        assert service.calls == []
        _works_for_owner_0(world)

    def test_a_connection_carries_few_calls_at_once(
        self, world: GrpcTestWorld, target: Target, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The rest costs us no thread, no look at a certificate and no line in the log."""
        world.serve("compute-0", StubService(), limits=replace(LIMITS, call_seconds=5.0))
        with target.connect() as connection:
            for _ in range(100):
                connection.call("Upload")
            refused = {at for kind, _, at, _ in connection.frames(1.0) if kind in _ENDS}
            assert len(refused) >= 100 - CALLS_PER_MEMBER
            assert _calls_under_way() <= CALLS_PER_MEMBER
            _works_for_owner_0(world)
        assert capsys.readouterr().out.count("calls under way already") <= CALLS_PER_MEMBER

    def test_a_flood_of_calls_delays_others_and_loses_none_of_theirs(
        self, world: GrpcTestWorld, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More calls come at once than all members together may have under way, and each takes a while to refuse."""
        refuse = Reception.identify

        def slowly(reception: Reception, names: Sequence[str]) -> Member:
            time.sleep(1.0)
            return refuse(reception, names)

        world.serve("compute-0", StubService(), limits=replace(LIMITS, call_seconds=9))
        party = world.network(member("owner-0")).compute_party("compute-0")
        party.enrol("", Enrolment(REF, "owner-0", bytes(32)))
        monkeypatch.setattr(Reception, "identify", slowly)
        with ExitStack() as stack:
            connections = [stack.enter_context(target.connect()) for _ in range(8)]
            for connection in connections:
                for _ in range(8):
                    connection.call("Upload")
            assert _wait(lambda: _calls_under_way() > CALLS_PER_MEMBER * len(MEMBERS))
            party.enrol("", Enrolment(REF, "owner-0", bytes(32)))

    def test_who_pings_without_end_is_disconnected(
        self, world: GrpcTestWorld, service: StubService, target: Target
    ) -> None:
        with target.connect() as connection:
            with suppress(OSError):
                for _ in range(500):
                    connection.ping()
            assert connection.ends(3)
        _works_for_owner_0(world)

    def test_connections_without_calls_are_closed(
        self, world: GrpcTestWorld, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(options, "_IDLE_SECONDS", 0.5)
        world.serve("compute-0", StubService())
        owner = world.network(member("owner-0"))
        party = owner.compute_party("compute-0")
        party.enrol("", Enrolment(REF, "owner-0", bytes(32)))
        with target.connect() as connection:
            assert connection.ends(4)
        party.enrol("", Enrolment(REF, "owner-0", bytes(32)))  # who was disconnected connects again


class TestCallThreads:
    def test_all_are_run_and_only_so_many_at_once(self) -> None:
        threads = CallThreads(3)
        lock, now, most = threading.Lock(), 0, 0

        def call(number: int) -> int:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= 1
            if number == 7:
                raise ValueError("seven")
            return number

        futures = [threads.submit(call, number) for number in range(20)]
        done = [future.exception(5) or future.result() for future in futures]
        assert [value for value in done if not isinstance(value, ValueError)] == [*range(7), *range(8, 20)]
        assert most == 3


class TestHealth:
    @pytest.mark.parametrize("caller", ["compute-0", "owner-0", "dealer", "coordinator"])
    def test_members_are_told_that_it_serves(self, world: GrpcTestWorld, service: StubService, caller: str) -> None:
        answer = world.network(member(caller)).call(member("compute-0"), HEALTH, [write_health_check()], 5)
        assert read_serving(Reader("compute-0", answer, LIMITS))
        assert service.calls == []

    def test_the_bytes_and_the_name_are_those_of_the_standard(self, service: StubService, target: Target) -> None:
        with target.connect() as connection:
            stream = connection.call("", path="/grpc.health.v1.Health/Check")
            connection.message(stream, b"", end=True)
            data = b"".join(payload for kind, _, at, payload in connection.frames(1.0) if kind == 0 and at == stream)
        assert data == b"\0" + struct.pack(">I", 2) + b"\x08\x01"

    def test_an_unknown_service_is_not_found(self, world: GrpcTestWorld, service: StubService) -> None:
        with raises(ProtocolError, "compute-0", "service", "unknown"):
            list(world.network(member("owner-0")).call(member("compute-0"), HEALTH, [b"\x0a\x05other"], 5))

    def test_strangers_are_told_nothing(self, world: GrpcTestWorld, service: StubService, target: Target) -> None:
        stranger = Target(target.host, target.port, None)
        told: list[int] = []
        with suppress(OSError), stranger.connect() as connection:  # TLS breaks off now or a little later
            connection.call("", path="/grpc.health.v1.Health/Check")
            told = [kind for kind, *_ in connection.frames(2) if kind in (0x0, _HEADERS)]
        assert told == []


@pytest.mark.slow
def test_all_attacks_at_once_leave_others_served(tmp_path: Path) -> None:
    """In a process of its own, for ten seconds: every call of another member is answered, and memory stays bounded."""
    # The server's process is this one; the attackers have their own, else they would only wait for each other.
    with GrpcTestWorld(tmp_path / "world", keepalive_seconds=5.0) as world:
        world.serve("compute-0", StubService(), limits=replace(LIMITS, call_seconds=5.0))
        write_credentials(tmp_path / "attacker", member("owner-1").certificate)
        port = int(world.addresses["compute-0"].rpartition(":")[2])
        party = world.network(member("owner-0")).compute_party("compute-0")
        party.enrol("", Enrolment(REF, "owner-0", bytes(32)))
        before = psutil.Process().memory_info().rss
        with attackers([("127.0.0.1", port, "ComputeParty")], tmp_path / "attacker"):
            slowest, end = 0.0, time.monotonic() + 10
            failed: list[MpcdpError] = []
            while time.monotonic() < end:
                begin = time.monotonic()
                try:
                    party.upload("", _upload("owner-0", 1000))
                except MpcdpError as error:
                    failed.append(error)
                slowest = max(slowest, time.monotonic() - begin)
        assert failed == []
        assert slowest < 5
        assert psutil.Process().memory_info().rss - before < 300 << 20
