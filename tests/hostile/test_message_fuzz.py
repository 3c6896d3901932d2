"""Damaged messages: through the codec, through the whole reception of processes in a session, and over real TLS."""

import logging
import random
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
from codec_cases import CASES, equal, reader_of
from mutations import mutate_call
from network_worlds import REF, GrpcTestWorld, StubService, member
from siege import STAGES, besiege, memory
from thread_sessions import hurried, quiet, without_noise

from mpcdp.errors import IdentityError, ProtocolError
from mpcdp.transport.access import MESH, REACH
from mpcdp.transport.grpc.options import path_of

_CODEC = 40_000
_LIVE = 60_000
_OVER_TLS = 2_000
_QUICK = 50
_log = logging.getLogger(__name__)


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
    before, start = memory(), time.monotonic()
    ends = _fuzz_codec(_CODEC, seed=3)
    _log.info("%s in %.1f s", ends, time.monotonic() - start)
    assert ends["refused"] > 5 * ends["accepted"] > 0
    assert memory() - before < 64 << 20


@pytest.mark.parametrize("stage", STAGES)
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
    siege = besiege(tmp_path, STAGES[stage], monkeypatch, count=count, seed=4)
    _log.info("%s in %.1f s", siege.ends, time.monotonic() - start)
    attacked = {method for method, _ in siege.ends}
    wanted = {"Dealer/Deal", "Coordinator/Attend", "ComputeParty/OpenSession"}
    if stage == "opening":
        wanted = {"ComputeParty/Enrol", "ComputeParty/Upload", "ComputeParty/Aggregate", MESH, REACH}
    assert wanted <= attacked or count == _QUICK
    assert sum(siege.ends.values()) == count
    # A call whose caller is gone is given up; all others are refused, or say again what was said before.
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
        before = memory()
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
        assert memory() - before < 64 << 20
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
