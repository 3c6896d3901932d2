"""What calls do, and how they fail: a contract that every network keeps."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from network_worlds import LIMITS, REF, NetworkWorld, StubService, member, raises, threads_at_work

from mpcdp import __version__, errors
from mpcdp.errors import (
    BegunAnew,
    MpcdpError,
    PeerError,
    PeerTimeout,
    PeerUnavailable,
    ProcessStopped,
    ProtocolError,
)
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport import codec, reception
from mpcdp.transport.greeting import greeting_of
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Attendance,
    DealRequest,
    Enrolment,
    Finished,
    Release,
    RoundStarted,
    SessionEvent,
    SessionStarted,
    Upload,
)
from mpcdp.transport.peer_network import PeerNetwork
from mpcdp.transport.reception import CALLS_PER_MEMBER
from mpcdp.transport.waiting import wait_with_caller

__all__ = ["CallContract"]

_LARGE = 1_000_003
"""Coordinates: more than a message holds, and not a multiple of a chunk."""

_QUICK = replace(LIMITS, connect_seconds=0.5, call_seconds=0.2, prepare_seconds=0.2, message_seconds=0.2)
_ENROLMENT = Enrolment(REF, "owner-0", bytes(range(100, 132)))
_DEAL = DealRequest(ref=REF, party="compute-0", nonce=bytes(32), batch="noise", samples=64, schedule_digest=bytes(32))
_TRAVELLING = [
    getattr(errors, name) for name in errors.__all__ if name not in ("MpcdpError", "InputError", "RefusedError")
]


def _upload(dimension: int) -> Upload:
    values = np.random.default_rng(5).integers(-(2**63), 2**63, dimension, dtype=np.int64)
    return Upload(ref=REF, owner="owner-0", round_index=3, history=bytes(32), nonce=bytes(range(32)), values=values)


class CallContract:
    """Inherit, and give a ``world``."""

    # -- messages --------------------------------------------------------------------------------------------------

    def test_messages_arrive_as_they_were_sent(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("compute-0", service)
        owner, coordinator = world.network(member("owner-0")), world.network(member("coordinator"))
        owner.compute_party("compute-0").enrol("", _ENROLMENT)
        request = Aggregate(REF, 2, OwnerSet.of([0, 1]))
        release = coordinator.compute_party("compute-0").aggregate("", request)
        coordinator.compute_party("compute-0").close_session("", REF, "owner-1 left: start it again")
        assert service.calls == [
            ("enrol", "owner-0", _ENROLMENT),
            ("aggregate", "coordinator", request),
            ("close_session", "coordinator", (REF, "owner-1 left: start it again")),
        ]
        assert release.values.tolist() == [0, 1, 2]
        assert release.owners == OwnerSet.of([0])

    def test_large_vectors_arrive_whole(self, world: NetworkWorld) -> None:
        upload = _upload(_LARGE)
        release = Release(values=upload.values[::-1].copy(), owners=OwnerSet.of([0, 1]))
        service = StubService(aggregate=lambda caller, request: release)
        world.serve("compute-0", service)
        owner = world.network(member("owner-0"))
        owner.compute_party("compute-0").upload("", upload)
        (_, _, received) = service.calls[0]
        assert isinstance(received, Upload)
        assert np.array_equal(received.values, upload.values)
        assert (received.ref, received.owner, received.round_index) == (REF, "owner-0", 3)
        assert received.nonce == upload.nonce
        answer = (
            world.network(member("coordinator")).compute_party("compute-0").aggregate("", Aggregate(REF, 0, OwnerSet()))
        )
        assert np.array_equal(answer.values, release.values)
        assert answer.owners == release.owners
        assert 8 * _LARGE < owner.bytes_sent()["compute-0"] < 8 * _LARGE + 1000

    def test_both_sides_count_what_they_send(self, world: NetworkWorld) -> None:
        server = world.serve("compute-0", StubService())
        owner = world.network(member("owner-0"))
        owner.compute_party("compute-0").enrol("", _ENROLMENT)
        enrolled = owner.bytes_sent()["compute-0"]
        owner.compute_party("compute-0").enrol("", _ENROLMENT)
        assert set(owner.bytes_sent()) == {"compute-0"}
        # The second call needs no greeting: 32 bytes of key, 64 of reference, and little else.
        assert 96 < owner.bytes_sent()["compute-0"] - enrolled < 150
        assert set(server.bytes_sent()) == {"owner-0"}

    def test_a_vector_above_the_limit_is_refused(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("compute-0", service, limits=replace(LIMITS, dimension=1000))
        party = world.network(member("owner-0")).compute_party("compute-0")
        with raises(ProtocolError, "compute-0", "dimension", "1001"):
            party.upload("", _upload(1001))
        party.upload("", _upload(1000))
        assert len(service.calls) == 1

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda messages: messages[:-1], "too early"),
            (lambda messages: [*messages[:-1], messages[-1][:-8]], "malformed"),
            (lambda messages: [*messages, messages[-1]], "more messages"),
            (lambda messages: messages[1:], "header"),
            (lambda messages: [messages[0]], "too early"),
            (lambda messages: [], "too early"),
            (lambda messages: [messages[0], bytes(5 << 20)], ""),
        ],
    )
    def test_a_spoilt_upload_is_refused_whole(
        self, world: NetworkWorld, spoil: Callable[[list[bytes]], list[bytes]], words: str
    ) -> None:
        service = StubService()
        world.serve("compute-0", service)
        messages = spoil(list(codec.write_upload(_upload(300_000))))
        with raises(ProtocolError, "compute-0", words):
            list(world.network(member("owner-0")).call(member("compute-0"), "ComputeParty/Upload", messages, 5))
        assert service.calls == []

    def test_an_upload_that_breaks_off_is_forgotten(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("compute-0", service)
        owner = world.network(member("owner-0"))
        sent = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield from list(codec.write_upload(_upload(300_000)))[:-1]
            sent.set()
            time.sleep(0.2)

        stream = owner.call(member("compute-0"), "ComputeParty/Upload", slowly(), 5)
        assert sent.wait(5)
        world.kill(owner)
        with raises(PeerUnavailable, "compute-0"):
            next(stream)
        world.network(member("owner-1")).compute_party("compute-0").enrol("", Enrolment(REF, "owner-1", bytes(32)))
        assert [method for method, _, _ in service.calls] == ["enrol"]

    def test_events_arrive_one_by_one_with_their_releases(self, world: NetworkWorld) -> None:
        values = np.random.default_rng(6).integers(-(2**63), 2**63, size=_LARGE)
        seen = threading.Semaphore(0)
        events: list[SessionEvent] = [
            SessionStarted(REF),
            RoundStarted(REF, 1, Release(values, OwnerSet.of([0, 1]))),
            Finished(REF, Release(~values, OwnerSet.of([1]))),
        ]

        def attend(caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
            for event in events:
                yield event
                assert seen.acquire(timeout=5)

        world.serve("coordinator", StubService(attend=attend))
        stream = (
            world.network(member("owner-0")).coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 17))
        )
        received = []
        for event in stream:
            received.append(event)
            seen.release()
        assert received[0] == events[0]
        assert isinstance(received[1], RoundStarted)
        assert received[1].previous is not None
        assert np.array_equal(received[1].previous.values, values)
        assert isinstance(received[2], Finished)
        assert received[2].last is not None
        assert np.array_equal(received[2].last.values, ~values)
        assert received[2].last.owners == OwnerSet.of([1])

    def test_attending_begins_before_the_first_event_is_asked_for(self, world: NetworkWorld) -> None:
        service = StubService()
        world.serve("coordinator", service)
        stream = (
            world.network(member("owner-0")).coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 17))
        )
        end = time.monotonic() + 5
        while not service.calls and time.monotonic() < end:
            time.sleep(0.01)
        assert service.calls == [("attend", "owner-0", Attendance(bytes(32), "owner-0", 17))]
        assert list(stream) == [Aborted("nothing to do: come back later")]

    def test_a_stream_of_events_must_not_end_early(self, world: NetworkWorld) -> None:
        world.serve("coordinator", StubService(attend=lambda *_: [SessionStarted(REF)]))
        stream = (
            world.network(member("owner-0")).coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 17))
        )
        assert next(stream) == SessionStarted(REF)
        with raises(ProtocolError, "coordinator", "too early"):
            next(stream)

    def test_corrections_are_made_as_they_are_taken(self, world: NetworkWorld) -> None:
        made = []

        def corrections() -> Iterator[bytes]:
            for index in range(64):
                made.append(index)
                yield bytes([index]) * (3 << 19)

        world.serve("dealer", StubService(deal=lambda *_: (bytes(range(32)), corrections())))
        seed, stream = world.network(member("compute-0")).dealer("dealer").deal("", _DEAL)
        assert seed == bytes(range(32))
        first = next(stream)
        time.sleep(0.25)
        # 96 MiB are to come; what is in buffers is a small part of them.
        assert len(made) < 32
        whole = first + b"".join(stream)
        assert len(whole) == 64 * (3 << 19)
        assert [whole[index * (3 << 19)] for index in range(64)] == list(range(64))

    def test_a_party_without_corrections_gets_only_its_seed(self, world: NetworkWorld) -> None:
        world.serve("dealer", StubService(deal=lambda *_: (bytes(32), iter(()))))
        seed, stream = world.network(member("compute-0")).dealer("dealer").deal("", _DEAL)
        assert (seed, list(stream)) == (bytes(32), [])

    # -- errors ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", _TRAVELLING, ids=lambda kind: kind.__name__)
    def test_errors_travel_by_kind_and_name_the_peer(self, world: NetworkWorld, kind: type[MpcdpError]) -> None:
        def fail(caller: str, message: object) -> None:
            raise kind("compute-2", "gäbe es das?") if issubclass(kind, PeerError) else kind("gäbe es das?")

        world.serve("compute-0", StubService(enrol=fail))
        # One that ends but not its session looks like a crash: its callers come again.
        expected = PeerUnavailable if kind is ProcessStopped else kind
        with raises(expected, "compute-0: ", "gäbe es das?") as caught:
            world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        if isinstance(caught.error, PeerError):
            assert caught.error.final == (kind not in (ProcessStopped, BegunAnew))

    def test_who_waits_for_an_answer_waits_no_longer_than_its_caller(self, world: NetworkWorld) -> None:
        """Else a caller that calls again and again would use up the calls it may have under way."""
        answer: Future[None] = Future()
        world.serve("compute-0", StubService(enrol=lambda *_: wait_with_caller(answer, 30)))
        for _ in range(CALLS_PER_MEMBER + 2):
            network = world.network(member("owner-0"), limits=replace(LIMITS, call_seconds=0.2))
            with raises(PeerTimeout, "compute-0"):
                network.compute_party("compute-0").enrol("", _ENROLMENT)
        assert threads_at_work() == []
        assert not answer.done()

    def test_all_who_wait_for_an_answer_get_it(self, world: NetworkWorld) -> None:
        answer: Future[None] = Future()
        service = StubService(enrol=lambda *_: wait_with_caller(answer, 30))
        world.serve("compute-0", service)
        network = world.network(member("owner-0"))
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(network.compute_party("compute-0").enrol, "", _ENROLMENT) for _ in range(3)]
            while len(service.calls) < 3:
                time.sleep(0.01)
            answer.set_exception(ProtocolError("not now"))
            for call in calls:
                with raises(ProtocolError, "not now"):
                    call.result(5)

    def test_a_peer_that_comes_back_is_waited_for(self, world: NetworkWorld) -> None:
        """As long as at the start, and then it is no use to go on trying."""
        world.serve("compute-0", StubService())
        network = world.network(member("owner-0"), limits=replace(LIMITS, connect_seconds=1.0))
        party = network.compute_party("compute-0")
        party.enrol("", _ENROLMENT)
        world.stop("compute-0")
        with raises(PeerUnavailable, "compute-0") as broken:
            party.enrol("", _ENROLMENT)
        assert not getattr(broken.error, "final", True)
        with raises(PeerUnavailable, "compute-0", "within 1 s") as away:
            party.enrol("", _ENROLMENT)
        assert getattr(away.error, "final", False)
        timer = threading.Timer(0.3, lambda: world.serve("compute-0", StubService()))
        timer.start()
        party.enrol("", _ENROLMENT)
        timer.join()

    def test_a_peer_that_names_itself_is_named_once(self, world: NetworkWorld) -> None:
        def fail(caller: str, message: object) -> None:
            raise PeerTimeout("compute-0", "it is late")

        world.serve("compute-0", StubService(enrol=fail))
        with pytest.raises(PeerTimeout) as raised:
            world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        assert str(raised.value) == "compute-0: it is late"
        assert raised.value.peer == "compute-0"

    def test_a_bug_stays_at_home(self, world: NetworkWorld, capsys: pytest.CaptureFixture[str]) -> None:
        def fail(caller: str, enrolment: Enrolment) -> None:
            secret = enrolment.key.hex()
            raise RuntimeError("a private detail" + secret[:0])

        world.serve("compute-0", StubService(enrol=fail))
        with raises(PeerError, "compute-0: internal error, see compute-0's log"):
            world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        log = "".join(capsys.readouterr())
        assert "a private detail" in log
        assert "Traceback" in log
        assert _ENROLMENT.key.hex() not in log
        assert repr(_ENROLMENT.key)[2:-1] not in log

    def test_an_error_in_the_middle_of_an_answer_arrives(self, world: NetworkWorld) -> None:
        def corrections() -> Iterator[bytes]:
            yield b"12345678"
            raise ProtocolError("the schedule ends here")

        world.serve("dealer", StubService(deal=lambda *_: (bytes(32), corrections())))
        _, stream = world.network(member("compute-0")).dealer("dealer").deal("", _DEAL)
        assert next(stream) == b"12345678"
        with raises(ProtocolError, "dealer: the schedule ends here"):
            next(stream)

    def test_texts_of_peers_are_one_harmless_line(self, world: NetworkWorld) -> None:
        def fail(caller: str, message: object) -> None:
            raise ProtocolError("first\nsecond \x1b[31mred " + "x" * 100_000)

        world.serve("compute-0", StubService(enrol=fail))
        with pytest.raises(ProtocolError) as raised:
            world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        assert str(raised.value).isprintable()
        assert "first second" in str(raised.value)
        assert len(str(raised.value)) < 1100

    # -- deadlines and absence -------------------------------------------------------------------------------------

    def test_a_peer_with_another_task_is_refused_before_anything_else_is_said(
        self, world: NetworkWorld, capsys: pytest.CaptureFixture[str]
    ) -> None:
        service = StubService()
        server = world.serve("compute-0", service)
        owner = world.network(member("owner-0"), task_digest=b"\xab" * 32)
        for _ in range(2):
            with raises(ProtocolError, "compute-0: it holds task 0000000000000000", "abababababababab", "task.toml"):
                owner.compute_party("compute-0").enrol("", _ENROLMENT)
        assert service.calls == []
        assert "another task" in capsys.readouterr().out
        assert isinstance(server, PeerNetwork)
        # What `mpcdp doctor` compares is there nevertheless, on both sides.
        greeting = owner.greet("compute-0", seconds=5)
        assert (greeting.name, greeting.task_digest, greeting.version) == ("compute-0", bytes(32), __version__)
        assert abs(greeting.time - time.time()) < 60
        (received, arrived) = server.greeted()["owner-0"]
        assert received.task_digest == b"\xab" * 32
        assert abs(received.time - arrived) < 60

    def test_a_peer_with_another_version_is_mentioned(
        self, world: NetworkWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.serve("compute-0", StubService())
        monkeypatch.setattr(
            reception, "greeting_of", lambda me, digest: replace(greeting_of(me, digest), version="0.0.9")
        )
        world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        assert f"compute-0: it runs mpcdp 0.0.9, this is {__version__}" in capsys.readouterr().out

    def test_a_peer_that_is_not_there_is_named_after_the_connect_deadline(self, world: NetworkWorld) -> None:
        start = time.monotonic()
        with raises(PeerUnavailable, "compute-0", "0.5 s", "start it", "[peers]"):
            world.network(member("owner-0"), limits=_QUICK).compute_party("compute-0").enrol("", _ENROLMENT)
        assert 0.4 < time.monotonic() - start < 2

    def test_a_peer_that_starts_late_is_waited_for(self, world: NetworkWorld) -> None:
        service = StubService()
        late = threading.Timer(0.4, world.serve, ("compute-0", service))
        late.start()
        world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
        late.join()
        assert len(service.calls) == 1

    def test_a_peer_that_left_is_noticed_at_once(self, world: NetworkWorld) -> None:
        world.serve("compute-0", StubService())
        party = world.network(member("owner-0")).compute_party("compute-0")
        party.enrol("", _ENROLMENT)
        world.stop("compute-0")
        start = time.monotonic()
        with raises(PeerUnavailable, "compute-0"):
            party.enrol("", _ENROLMENT)
        assert time.monotonic() - start < 2

    def test_who_gives_up_calls_nobody_any_more(self, world: NetworkWorld) -> None:
        """A thread that repeats its call until it is answered must not keep a process that ends."""
        asked = []
        world.serve("compute-0", StubService(enrol=lambda *_: asked.append(1)))
        network = world.network(member("owner-0"))
        party = network.compute_party("compute-0")
        party.enrol("", _ENROLMENT)
        network.give_up(ProcessStopped("stopped by SIGTERM"))
        with raises(ProcessStopped, "stopped by SIGTERM"):
            party.enrol("", _ENROLMENT)
        assert asked == [1]

    def test_every_call_has_its_deadline(self, world: NetworkWorld) -> None:
        over = threading.Event()

        def hang(caller: str, message: object) -> Any:
            over.wait(10)
            raise ProtocolError("nobody reads this")

        names = ("attend", "open_session", "enrol", "upload", "outcome", "aggregate", "deal", "close_session")
        service = StubService(**dict.fromkeys(names, hang))
        for name in ("coordinator", "dealer", "compute-0"):
            world.serve(name, service)
        quick = replace(_QUICK, session_seconds=0.2)
        owner, coordinator = (world.network(member(name), limits=quick) for name in ("owner-0", "coordinator"))
        dealer = world.network(member("compute-0"), limits=quick).dealer("dealer")
        party = coordinator.compute_party("compute-0")
        calls: dict[str, Callable[[], object]] = {
            "Attend": lambda: list(owner.coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 1))),
            "Enrol": lambda: owner.compute_party("compute-0").enrol("", _ENROLMENT),
            "Upload": lambda: owner.compute_party("compute-0").upload("", _upload(3)),
            "Outcome": lambda: owner.compute_party("compute-0").outcome("", REF),
            "OpenSession": lambda: party.open_session("", REF),
            "Aggregate": lambda: party.aggregate("", Aggregate(REF, 0, OwnerSet())),
            "CloseSession": lambda: party.close_session("", REF, None),
            "Deal": lambda: dealer.deal("", _DEAL),
            "Dealer/CloseSession": lambda: coordinator.dealer("dealer").close_session("", REF, None),
        }
        try:
            for method, call in calls.items():
                start = time.monotonic()
                with raises(PeerTimeout, method, "[deadlines]"):
                    call()
                assert time.monotonic() - start < 1.5, method
        finally:
            over.set()
            threads_at_work()

    def test_an_owner_that_leaves_lets_its_place_go(self, world: NetworkWorld) -> None:
        closed = threading.Event()

        class Events:
            """Waits for an event that never comes, and can be told that nobody waits any more."""

            def __iter__(self) -> Iterator[SessionEvent]:
                return self

            def __next__(self) -> SessionEvent:
                assert closed.wait(10)
                raise StopIteration

            def close(self) -> None:
                closed.set()

        world.serve("coordinator", StubService(attend=lambda *_: Events()))
        owner = world.network(member("owner-0"))
        stream = owner.coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 1))
        assert not closed.wait(0.2)
        world.kill(owner)
        assert closed.wait(2)
        with raises(PeerUnavailable, "coordinator"):
            next(stream)

    def test_leaving_a_stream_of_events_ends_the_call(self, world: NetworkWorld) -> None:
        ended = threading.Event()

        def attend(caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
            try:
                while True:
                    yield SessionStarted(REF)
                    time.sleep(0.01)
            finally:
                ended.set()

        world.serve("coordinator", StubService(attend=attend))
        stream = (
            world.network(member("owner-0")).coordinator("coordinator").attend("", Attendance(bytes(32), "owner-0", 1))
        )
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert ended.wait(2)

    # -- many calls ------------------------------------------------------------------------------------------------

    def test_one_member_cannot_use_up_the_places_of_the_others(self, world: NetworkWorld) -> None:
        over = threading.Event()
        entered = threading.Semaphore(0)

        def hold(caller: str, message: object) -> None:
            if caller == "owner-0":
                entered.release()
                over.wait(10)

        world.serve("compute-0", StubService(enrol=hold))
        greedy = world.network(member("owner-0")).compute_party("compute-0")
        threads = [threading.Thread(target=greedy.enrol, args=("", _ENROLMENT)) for _ in range(CALLS_PER_MEMBER)]
        try:
            for thread in threads:
                thread.start()
            for _ in threads:
                assert entered.acquire(timeout=5)
            with raises(ProtocolError, "compute-0", "owner-0", "under way"):
                greedy.enrol("", _ENROLMENT)
            other = world.network(member("owner-1")).compute_party("compute-0")
            other.enrol("", Enrolment(REF, "owner-1", bytes(32)))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        greedy.enrol("", _ENROLMENT)

    def test_two_processes_cannot_answer_at_one_place(self, world: NetworkWorld) -> None:
        world.serve("compute-0", StubService())
        with (
            raises(errors.ConfigError, "compute-0", "another process"),
            world.network(member("compute-0")).serve(StubService()),
        ):
            pass

    def test_stopping_lets_calls_under_way_finish(self, world: NetworkWorld) -> None:
        entered = threading.Event()

        def slow(caller: str, message: object) -> None:
            entered.set()
            time.sleep(0.2)

        world.serve("compute-0", StubService(enrol=slow))
        failures: list[BaseException] = []

        def call() -> None:
            try:
                world.network(member("owner-0")).compute_party("compute-0").enrol("", _ENROLMENT)
            except MpcdpError as error:
                failures.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert entered.wait(5)
        world.stop("compute-0")
        thread.join()
        assert failures == []
