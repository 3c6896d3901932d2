"""Damaged messages: through the codec, through the whole reception of processes in a session, and over real TLS."""

import logging
import random
import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import grpc
import pytest
from codec_cases import CASES, equal, reader_of
from mortal_world import MortalWorld
from mutations import mutate_call
from network_worlds import LIMITS, REF, GrpcTestWorld, StubService, member
from thread_sessions import SECONDS, check_end, hurried, make_world, quiet, without_noise

from mpcdp.errors import IdentityError, MpcdpError, ProtocolError
from mpcdp.transport import codec, frames
from mpcdp.transport.access import CALLERS, MESH, REACH
from mpcdp.transport.channel import Member
from mpcdp.transport.grpc.options import path_of
from mpcdp.transport.in_process import Parcel
from mpcdp.transport.reader import Reader

_CODEC = 40_000
_LIVE = 60_000
_OVER_TLS = 2_000
_QUICK = 50
_log = logging.getLogger(__name__)


def _memory() -> int:
    """Return the largest resident memory so far, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _fuzz_codec(count: int, seed: int) -> Counter[str]:
    """Read damaged messages of every kind: what is accepted must be a message that can be written."""
    generator = random.Random(seed)  # noqa: S311 (a test's damage)
    written = {name: [bytes(message) for message in case.write(case.value)] for name, case in CASES.items()}
    others = [message for messages in written.values() for message in messages]
    ends: Counter[str] = Counter()
    for name in generator.choices(list(CASES), k=count):
        case = CASES[name]
        try:
            value = case.read(reader_of(case.sender, mutate_call(written[name], others, generator)))
        except (ProtocolError, IdentityError):
            ends["refused"] += 1
            continue
        ends["accepted"] += 1
        if isinstance(value, list) and not name.startswith("events"):
            continue  # a mesh stream that was cut may end anywhere
        again = case.read(reader_of(case.sender, [bytes(each) for each in case.write(value)]))
        assert equal(value, again), name
    return ends


def test_the_codec_refuses_what_is_no_message() -> None:
    ends = _fuzz_codec(20 * _QUICK, seed=1)
    assert ends["refused"] > 5 * ends["accepted"] > 0


@pytest.mark.exhaustive
def test_the_codec_refuses_forty_thousand_damaged_messages() -> None:
    _fuzz_codec(1000, seed=2)
    before, start = _memory(), time.monotonic()
    ends = _fuzz_codec(_CODEC, seed=3)
    _log.info("%s in %.1f s", ends, time.monotonic() - start)
    assert ends["refused"] > 5 * ends["accepted"] > 0
    assert _memory() - before < 64 << 20


_BLOCKING: dict[str, Callable[[Reader], object]] = {
    "Coordinator/Attend": codec.read_attendance,
    "ComputeParty/OpenSession": codec.read_open_session,
    "ComputeParty/Aggregate": codec.read_aggregate,
    "ComputeParty/CloseSession": codec.read_close_session,
    "Dealer/OpenSession": codec.read_open_session,
    "Dealer/Deal": codec.read_deal_request,
    "Dealer/CloseSession": codec.read_close_session,
    MESH: lambda reader: next(frames.read_frames(reader)),
}
"""Calls that wait for what the session does next, end it, or begin it anew, as a party that comes back does: a damaged
one that is still valid is not sent."""


class _Siege:
    """Holds a session up, attacks its processes with damaged copies of what was sent so far, and lets go.

    Args:
        until: the message that is held up, and everything after it.
        count: number of attacks.
        seed: of the damage.
    """

    def __init__(self, until: Callable[[Parcel], bool], *, count: int, seed: int) -> None:
        self._until = until
        self._count = count
        self._generator = random.Random(seed)  # noqa: S311 (a test's damage)
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str, str], list[bytes]] = {}
        self._laid = threading.Event()
        self._lifted = threading.Event()
        self.world: MortalWorld
        self.ends: Counter[tuple[str, str]] = Counter()

    def on_message(self, number: int, parcel: Parcel) -> None:
        with self._lock:
            if self._until(parcel):
                self._laid.set()
            elif not self._laid.is_set():
                self._calls.setdefault((parcel.sender, parcel.receiver, parcel.method), []).append(parcel.message)
        if self._laid.is_set():
            assert self._lifted.wait(850)

    def attack(self) -> None:
        """Attack when the session is held up, then let it go on.

        Raises:
            AssertionError: an attack had an effect that it must not have.
        """
        try:
            assert self._laid.wait(SECONDS)
            time.sleep(0.2)  # what was delivered before has arrived
            before, threads, memory = self._on_disk(), threading.active_count(), _memory()
            self._send_all()
            assert self._on_disk() == before
            assert threading.active_count() <= threads
            assert _memory() - memory < 64 << 20
        finally:
            self._lifted.set()

    def _on_disk(self) -> dict[Path, object]:
        """Return everything in the state folders."""
        found: dict[Path, object] = {}
        for state in self.world.states().values():
            for path in state.rglob("*"):
                if path.suffix == ".db":
                    with closing(sqlite3.connect(path)) as database:
                        found[path] = list(database.iterdump())
                elif path.is_file() and not path.name.endswith(("-wal", "-shm", "-journal")):
                    found[path] = path.read_bytes()
        return found

    def _send_all(self) -> None:
        members = {each.name: each for each in self.world.members}
        calls = {
            (caller, receiver, method): messages
            for (caller, receiver, method), messages in self._calls.items()
            if members[caller].role in CALLERS.get((members[receiver].role, method), ())
            and self.world.reception(receiver) is not None
        }
        others = [message for messages in calls.values() for message in messages]
        methods = sorted({method for _, _, method in calls})
        for method in self._generator.choices(methods, k=self._count):
            caller, receiver, _ = self._generator.choice([key for key in calls if key[2] == method])
            messages = mutate_call(calls[caller, receiver, method], others, self._generator)
            self.ends[method, self._send(members[caller], receiver, method, messages)] += 1

    def _send(self, caller: Member, receiver: str, method: str, messages: Sequence[bytes]) -> str:
        if method in _BLOCKING:
            with suppress(MpcdpError):
                _BLOCKING[method](Reader(caller.name, messages, LIMITS))
                return "valid"
        reception = self.world.reception(receiver)
        assert reception is not None, f"{receiver} listens no more"
        try:
            answers = reception.answer(caller, method, iter(messages), lambda callback: callback())
            with closing(cast(Generator[bytes], answers)):
                next(answers, None)
        except MpcdpError as error:
            return type(error).__name__
        return "accepted"


def _besiege(
    folder: Path, until: Callable[[Parcel], bool], monkeypatch: pytest.MonkeyPatch, *, count: int, seed: int
) -> _Siege:
    siege = _Siege(until, count=count, seed=seed)
    world, task = make_world(folder, "output joint 3", monkeypatch, on_message=siege.on_message, seconds=900.0)
    siege.world = world
    with world:
        world.start()
        siege.attack()
        world.join(SECONDS)
        assert check_end(world, task), world.errors()
    return siege


def _dealing(parcel: Parcel) -> bool:
    return parcel.sender == "dealer" and parcel.method == "Dealer/Deal"


def _opening(parcel: Parcel) -> bool:
    return b"reveal" in parcel.message


# A call whose caller is gone is given up; all others are refused, or say again what was said before.
_ENDS = {"accepted", "valid", "ProtocolError", "IdentityError", "LateUpload", "PeerUnavailable"}
_STAGES = {"dealing": _dealing, "opening": _opening}


@pytest.mark.parametrize("stage", _STAGES)
@pytest.mark.parametrize(
    "count", [_QUICK, pytest.param(_LIVE // 2, marks=[pytest.mark.exhaustive, pytest.mark.timeout(900)])]
)
def test_a_session_under_attack_by_its_own_members_goes_on_as_if_nothing_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, count: int
) -> None:
    """Damaged messages, each from the member whose message it was: refused, or the same that was said before."""
    hurried(monkeypatch)
    without_noise(monkeypatch)
    quiet(monkeypatch)
    start = time.monotonic()
    siege = _besiege(tmp_path, _STAGES[stage], monkeypatch, count=count, seed=4)
    _log.info("%s in %.1f s", siege.ends, time.monotonic() - start)
    attacked = {method for method, _ in siege.ends}
    wanted = {"Dealer/Deal", "Coordinator/Attend", "ComputeParty/OpenSession"}
    if stage == "opening":
        wanted = {"ComputeParty/Enrol", "ComputeParty/Upload", "ComputeParty/Aggregate", MESH, REACH}
    assert wanted <= attacked or count == _QUICK
    assert sum(siege.ends.values()) == count
    assert {end for _, end in siege.ends} <= {
        "accepted",
        "valid",
        "ProtocolError",
        "IdentityError",
        "LateUpload",
        "PeerUnavailable",
    }
    assert sum(number for (_, end), number in siege.ends.items() if end == "accepted") < count / 4


@pytest.mark.exhaustive
def test_damaged_messages_over_tls_are_refused_and_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    generator = random.Random(5)  # noqa: S311 (a test's damage)
    written = {name: [bytes(message) for message in case.write(case.value)] for name, case in CASES.items()}
    others = [message for messages in written.values() for message in messages]
    targets = {
        "enrolment": "compute-0:ComputeParty/Enrol",
        "upload": "compute-0:ComputeParty/Upload",
        "outcome_request": "compute-0:ComputeParty/Outcome",
        "open_session": "compute-0:ComputeParty/OpenSession",
        "aggregate": "compute-0:ComputeParty/Aggregate",
        "close_session": "compute-0:ComputeParty/CloseSession",
        "attendance": "coordinator:Coordinator/Attend",
        "deal_request": "dealer:Dealer/Deal",
    }
    codes: Counter[grpc.StatusCode] = Counter()
    told: set[str] = set()
    with GrpcTestWorld(tmp_path) as world:
        for name in ("compute-0", "coordinator", "dealer"):
            world.serve(name, StubService())
        networks = {case: world.network(member(CASES[case].sender)) for case in targets}
        before = _memory()
        for case in generator.choices(list(targets), k=_OVER_TLS):
            receiver, _, method = targets[case].partition(":")
            network = networks[case]
            channel = network._channel(member(receiver))
            start: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path_of(method))
            call = start(iter(mutate_call(written[case], others, generator)), timeout=10)
            try:
                list(call)
                codes[grpc.StatusCode.OK] += 1
            except grpc.RpcError as error:
                codes[error.code()] += 1
                told.add(error.details() or "")
        assert _memory() - before < 64 << 20
        world.network(member("coordinator")).compute_party("compute-0").close_session("", REF, None)
    _log.info("%s", codes)
    assert not any("Traceback" in text or "internal error" in text for text in told)
    assert codes.keys() <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    assert codes[grpc.StatusCode.FAILED_PRECONDITION] > _OVER_TLS / 2
