"""Messages survive the wire bit by bit; whatever else arrives is a `ProtocolError` that shows nothing of it."""

import json
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_cases import CASES, Case, equal, reader_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from network_worlds import LIMITS, REF, raises

from mpcdp.errors import IdentityError, ProtocolError
from mpcdp.pb import mpc_pb2, session_pb2, share_pb2, types_pb2
from mpcdp.secret_sharing.owner_set import OWNER_LIMIT, OwnerSet
from mpcdp.transport import codec, frames
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Attendance,
    DealRequest,
    Enrolment,
    Finished,
    Greeting,
    NoiseUse,
    Outcome,
    Release,
    Released,
    RoundStarted,
    SessionRef,
    SessionStarted,
    Upload,
)
from mpcdp.transport.reader import CHUNK_BYTES, MESSAGE_BYTES, Reader, printable

_VECTORS = Path(__file__).parent.parent / "vectors" / "codec"

_bytes32 = st.binary(min_size=32, max_size=32)
_refs = st.builds(SessionRef, _bytes32, _bytes32)
_names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
_owners = st.sets(st.integers(0, 200), max_size=9).map(OwnerSet.of)
_rounds = st.integers(0, 2**32 - 1)
_rings = npst.arrays(np.int64, st.integers(1, 50))
_counts = st.integers(0, 2**64 - 1)
_ends = st.integers(2**40 + 1, 2**62 - 1)
_releases = st.builds(Release, _rings, _owners)
_texts = st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=200).map(printable)

_Any = st.SearchStrategy[Any]
_messages: dict[str, tuple[str, _Any]] = {
    "greeting": (
        "owner-0",
        st.builds(
            Greeting,
            st.just("owner-0"),
            _bytes32,
            _texts.map(lambda text: text[:64]),
            st.integers(0, 2**52).map(lambda milliseconds: milliseconds / 1000),
        ),
    ),
    "open_session": ("coordinator", _refs),
    "close_session": ("coordinator", st.tuples(_refs, st.none() | _texts)),
    "enrolment": ("owner-0", st.builds(Enrolment, _refs, st.just("owner-0"), _bytes32 | st.just(b""))),
    "enrolled": (
        "compute-0",
        st.none() | st.builds(NoiseUse, st.binary(min_size=16, max_size=16), st.integers(0, 2**40), _ends),
    ),
    "upload": ("owner-0", st.builds(Upload, _refs, st.just("owner-0"), _rounds, _bytes32, _bytes32, _rings)),
    "aggregate": ("coordinator", st.builds(Aggregate, _refs, _rounds, _owners)),
    "release": ("compute-0", _releases),
    "outcome_request": ("owner-0", _refs),
    "outcome": ("compute-0", st.builds(Outcome, _rounds, _bytes32)),
    "deal_request": (
        "compute-0",
        st.builds(DealRequest, _refs, st.just("compute-0"), _bytes32, _names, _counts, _bytes32),
    ),
    "deal": ("dealer", st.tuples(_bytes32, st.lists(st.binary(min_size=1, max_size=40), max_size=4))),
    "attendance": ("owner-0", st.builds(Attendance, _bytes32, st.just("owner-0"), st.integers(1, 2**64 - 1))),
    "events": (
        "coordinator",
        st.tuples(
            st.lists(
                st.builds(SessionStarted, _refs)
                | st.builds(Released, _refs, _rounds, _releases)
                | st.builds(RoundStarted, _refs, _rounds, st.none() | _releases),
                max_size=3,
            ),
            st.builds(Finished, _refs, st.none() | _releases) | st.builds(Aborted, _texts),
        ).map(lambda parts: [*parts[0], parts[1]]),
    ),
}

_operations = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=64)


def _read_mesh(messages: list[bytes]) -> list[object]:
    hello = frames.write_hello("party-0", frames.Hello(REF, ("party-0",)))
    return list(frames.read_frames(reader_of("party-0", [hello, *messages])))


class TestRoundTrip:
    @pytest.mark.parametrize("name", _messages)
    @given(data=st.data())
    @settings(max_examples=40)
    def test_what_is_written_is_read(self, name: str, data: st.DataObject) -> None:
        sender, strategy = _messages[name]
        value = data.draw(strategy)
        case = CASES[name]
        assert equal(case.read(reader_of(sender, case.write(value))), value)

    @pytest.mark.parametrize("dimension", [131_071, 131_072, 131_073, 1_000_000])
    def test_large_vectors_go_in_chunks(self, dimension: int) -> None:
        values = np.random.default_rng(1).integers(-(2**63), 2**63, dimension, dtype=np.int64)
        upload = Upload(REF, "owner-0", 0, bytes(32), bytes(32), values)
        messages = list(codec.write_upload(upload))
        assert len(messages) == 1 + -(-8 * dimension // CHUNK_BYTES)
        assert max(map(len, messages)) <= CHUNK_BYTES + 16
        assert equal(codec.read_upload(reader_of("owner-0", messages)), upload)

    def test_what_is_read_is_not_what_was_written_to(self) -> None:
        upload = Upload(REF, "owner-0", 0, bytes(32), bytes(32), np.zeros(4, dtype=np.int64))
        received = codec.read_upload(reader_of("owner-0", codec.write_upload(upload)))
        received.values[0] = 1
        assert upload.values[0] == 0

    def test_a_batch_is_written_in_chunks_of_its_blocks(self) -> None:
        parts = list(codec.write_deal(bytes(32), iter([bytes(3 * CHUNK_BYTES + 1), b""])))
        assert [len(mpc_pb2.DealPart.FromString(part).corrections) for part in parts] == [0, *[CHUNK_BYTES] * 3, 1]

    @pytest.mark.parametrize(
        "values",
        [np.zeros(0, dtype=np.int64), np.zeros((2, 2), dtype=np.int64), np.zeros(3), np.zeros(3, dtype=np.int32)],
    )
    def test_only_ring_vectors_are_uploaded(self, values: Any) -> None:
        with pytest.raises(ValueError, match="one dimension"):
            codec.write_upload(Upload(REF, "owner-0", 0, bytes(32), bytes(32), values))

    def test_texts_are_made_harmless(self) -> None:
        assert printable("a\nb\x1b[2Jc\u202e") == "a b [2Jc "
        (event,) = codec.read_events(reader_of("coordinator", codec.write_events([Aborted("a\nb" * 1000)])))
        assert isinstance(event, Aborted)
        assert len(event.reason) == 1000
        assert event.reason.isprintable()


class TestFrames:
    """Frames are made and taken apart by hand, in protobuf's encoding."""

    @given(operation=_operations, sequence=st.integers(0, 2**64 - 1), content=st.binary(max_size=300))
    def test_they_are_what_protobuf_writes(self, operation: str, sequence: int, content: bytes) -> None:
        data = mpc_pb2.MeshData(operation=operation, sequence=sequence, size=len(content), chunk=content)
        expected = mpc_pb2.MeshFrame(data=data).SerializeToString()
        assert frames.write_payload(operation, sequence, content) == [expected]

    @given(operation=_operations, sequence=st.integers(0, 2**64 - 1), content=st.binary(max_size=300))
    def test_they_are_read_without_a_copy(self, operation: str, sequence: int, content: bytes) -> None:
        (frame,) = frames.write_payload(operation, sequence, content)
        (payload,) = [item for item in _read_mesh([frame]) if isinstance(item, frames.Payload)]
        assert (payload.operation, payload.sequence, bytes(payload.content)) == (operation, sequence, content)
        if content:
            assert isinstance(payload.content, memoryview)
            assert payload.content.obj is frame

    @given(content=st.binary(min_size=1, max_size=50), data=st.data())
    def test_whatever_protobuf_reads_is_read_alike(self, content: bytes, data: st.DataObject) -> None:
        """Fields in another order, twice, or unknown: protobuf decides then."""
        parts = [
            mpc_pb2.MeshData(operation="and").SerializeToString(),
            mpc_pb2.MeshData(sequence=3).SerializeToString(),
            mpc_pb2.MeshData(size=len(content)).SerializeToString(),
            mpc_pb2.MeshData(chunk=content).SerializeToString(),
            b"\x78\x01",  # field 15, which does not exist
        ]
        inner = b"".join(parts[index] for index in data.draw(st.permutations([0, 1, 2, 3, 0, 4])))
        message = b"\x12" + bytes((len(inner),)) + inner
        (payload,) = [item for item in _read_mesh([message]) if isinstance(item, frames.Payload)]
        assert (payload.operation, payload.sequence, bytes(payload.content)) == ("and", 3, content)

    def test_long_payloads_go_in_chunks(self) -> None:
        content = np.random.default_rng(1).bytes(2 * CHUNK_BYTES + 3)
        messages = frames.write_payload("and", 0, memoryview(content))
        assert [len(mpc_pb2.MeshFrame.FromString(message).data.chunk) for message in messages] == [
            CHUNK_BYTES,
            CHUNK_BYTES,
            3,
        ]
        (payload,) = [item for item in _read_mesh(messages) if isinstance(item, frames.Payload)]
        assert payload.content == content


class TestVectors:
    """The bytes on the wire are part of the protocol: they must not change by accident."""

    @pytest.mark.parametrize("name", CASES)
    def test_bytes_are_what_they_have_always_been(self, name: str) -> None:
        case = CASES[name]
        vector = json.loads((_VECTORS / f"{name}.json").read_text())
        assert vector["sender"] == case.sender
        messages = [bytes.fromhex(message) for message in vector["messages"]]
        assert list(case.write(case.value)) == messages
        assert equal(case.read(reader_of(case.sender, messages)), case.value)

    @pytest.mark.parametrize("path", sorted(_VECTORS.glob("bad_*.json")), ids=lambda path: path.stem)
    def test_bad_vectors_are_refused(self, path: Path) -> None:
        vector = json.loads(path.read_text())
        messages = [bytes.fromhex(message) for message in vector["messages"]]
        error = {"IdentityError": IdentityError, "ProtocolError": ProtocolError}[vector["error"]]
        with raises(error, vector["sender"], vector["names"]):
            CASES[vector["reads"]].read(reader_of(vector["sender"], messages))

    def test_there_is_a_bad_vector_for_every_message(self) -> None:
        bad = {json.loads(path.read_text())["reads"] for path in _VECTORS.glob("bad_*.json")}
        assert bad == {"greeting", "open_session", "close_session", "enrolment", "upload", "aggregate", "release"} | {
            "enrolled",
            "outcome_request",
            "outcome",
            "deal_request",
            "deal",
            "attendance",
            "events",
            "mesh",
        }


def _mutations(messages: list[bytes], count: int) -> Iterator[list[bytes]]:
    source = random.Random(7)  # noqa: S311 (test data)
    for index in range(len(messages)):
        yield messages[:index]
        yield [*messages[:index], *messages[index + 1 :]]
        yield [*messages[: index + 1], *messages[index:]]
        for cut in range(len(messages[index])):
            yield [*messages[:index], messages[index][:cut], *messages[index + 1 :]]
    for _ in range(count):
        index = source.randrange(len(messages))
        message = bytearray(messages[index])
        for _ in range(source.randint(1, 4)):
            match source.randrange(3):
                case 0 if message:
                    message[source.randrange(len(message))] = source.randrange(256)
                case 1:
                    message.insert(source.randint(0, len(message)), source.randrange(256))
                case _ if message:
                    del message[source.randrange(len(message))]
        yield [*messages[:index], bytes(message), *messages[index + 1 :]]


class TestBadBytes:
    @pytest.mark.parametrize("name", CASES)
    def test_mutated_bytes_give_a_message_or_a_protocol_error(self, name: str) -> None:
        case = CASES[name]
        refused = []
        for mutated in _mutations(list(case.write(case.value)), 400):
            try:
                case.read(reader_of(case.sender, mutated))
            except (ProtocolError, IdentityError) as error:
                refused.append(str(error))
        assert len(refused) > 100
        assert all(text.startswith(f"{case.sender}: ") and text.isprintable() for text in refused)

    @pytest.mark.parametrize("name", CASES)
    @given(noise=st.lists(st.binary(max_size=60), max_size=4))
    @settings(max_examples=60)
    def test_noise_gives_a_message_or_a_protocol_error(self, name: str, noise: list[bytes]) -> None:
        with suppress(ProtocolError, IdentityError):
            CASES[name].read(reader_of(CASES[name].sender, noise))

    @pytest.mark.parametrize("name", ["enrolment", "upload", "deal_request", "attendance"])
    def test_a_sender_speaks_for_itself(self, name: str) -> None:
        case: Case = CASES[name]
        with raises(IdentityError, "owner-1"):
            case.read(reader_of("owner-1", case.write(case.value)))

    def test_errors_show_nothing_of_the_content(self) -> None:
        secret = bytes(range(200, 231))
        message = share_pb2.Enrolment(ref=codec.write_ref(REF), owner="owner-0", key=secret).SerializeToString()
        with pytest.raises(ProtocolError) as raised:
            codec.read_enrolment(reader_of("owner-0", [message]))
        assert str(raised.value) == "owner-0: key has 31 bytes, not 32 or 0"

    def test_nothing_follows_the_end_of_a_session(self) -> None:
        messages = codec.write_events([Aborted("over"), Aborted("over")])
        with raises(ProtocolError, "more messages"):
            list(codec.read_events(reader_of("coordinator", messages)))

    def test_another_version_is_refused(self) -> None:
        # What the first version of the protocol said.
        greeting = types_pb2.Greeting(protocol=1, name="owner-0").SerializeToString()
        with raises(ProtocolError, "owner-0", "version 1, not 2"):
            codec.read_greeting(reader_of("owner-0", [greeting]))

    def test_a_message_above_the_limit_is_not_even_parsed(self) -> None:
        with raises(ProtocolError, "owner-0", str(MESSAGE_BYTES)):
            codec.read_enrolment(reader_of("owner-0", [bytes(MESSAGE_BYTES + 1)]))

    @pytest.mark.parametrize("name", ["Party", "party 0", "", "-party", "o" * 64, "party\n", "pärty"])
    def test_names_are_names(self, name: str) -> None:
        hello = frames.write_hello("party-0", frames.Hello(REF, ("party-0", name)))
        with raises(ProtocolError, "parties"):
            list(frames.read_frames(reader_of("party-0", [hello])))

    def test_a_list_of_parties_names_each_once(self) -> None:
        hello = frames.write_hello("party-0", frames.Hello(REF, ("party-0", "party-1", "party-0")))
        with raises(ProtocolError, "parties", "twice"):
            list(frames.read_frames(reader_of("party-0", [hello])))

    def test_a_set_of_owners_has_a_largest_size(self) -> None:
        request = mpc_pb2.Aggregate(ref=codec.write_ref(REF), owners=bytes(OWNER_LIMIT // 8) + b"\1")
        with raises(ProtocolError, "coordinator: owners"):
            codec.read_aggregate(reader_of("coordinator", [request.SerializeToString()]))


class TestBounds:
    @pytest.mark.parametrize("dimension", [0, LIMITS.dimension + 1, 2**64 - 1])
    def test_a_dimension_is_checked_before_anything_is_allocated(self, dimension: int) -> None:
        header = share_pb2.UploadHeader(
            ref=codec.write_ref(REF), owner="owner-0", nonce=bytes(32), dimension=dimension, history=bytes(32)
        )
        messages = [share_pb2.UploadPart(header=header).SerializeToString()]
        with raises(ProtocolError, "owner-0: dimension"):
            codec.read_upload(reader_of("owner-0", messages))

    def test_a_vector_is_refused_at_its_first_byte_too_much(self) -> None:
        upload = Upload(REF, "owner-0", 0, bytes(32), bytes(32), np.zeros(10, dtype=np.int64))
        header, chunk = codec.write_upload(upload)
        taken = []

        def endless() -> Iterator[bytes]:
            yield header
            while True:
                taken.append(1)
                yield share_pb2.UploadPart(chunk=bytes(64)).SerializeToString()

        with raises(ProtocolError, "owner-0: chunk", "exceeds the 80 bytes"):
            codec.read_upload(reader_of("owner-0", endless()))
        assert len(taken) == 2
        with raises(ProtocolError, "owner-0: call has more messages"):
            codec.read_upload(reader_of("owner-0", [header, chunk, chunk]))
        with raises(ProtocolError, "owner-0: UploadPart is missing"):
            codec.read_upload(reader_of("owner-0", [header]))
        with raises(ProtocolError, "owner-0: chunk is missing: 0 of 80 bytes"):
            codec.read_upload(reader_of("owner-0", [header, header]))

    @pytest.mark.parametrize("size", [0, CHUNK_BYTES + 1])
    def test_a_chunk_has_a_sensible_size(self, size: int) -> None:
        upload = Upload(REF, "owner-0", 0, bytes(32), bytes(32), np.zeros(200_000, dtype=np.int64))
        header = next(codec.write_upload(upload))
        chunk = share_pb2.UploadPart(chunk=bytes(size)).SerializeToString()
        with raises(ProtocolError, f"owner-0: chunk has {size} bytes"):
            codec.read_upload(reader_of("owner-0", [header, chunk]))
        corrections = mpc_pb2.DealPart(corrections=bytes(size)).SerializeToString()
        with raises(ProtocolError, f"dealer: corrections have {size} bytes"):
            list(codec.read_corrections(reader_of("dealer", [corrections])))

    def test_reading_takes_memory_for_one_vector(self) -> None:
        dimension = 1_000_000
        values = np.ones(dimension, dtype=np.int64)
        tracemalloc.start()
        try:
            messages = codec.write_upload(Upload(REF, "owner-0", 0, bytes(32), bytes(32), values))
            codec.read_upload(Reader("owner-0", messages, replace(LIMITS, dimension=dimension)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * dimension + 6 * CHUNK_BYTES

    def test_events_of_a_release_above_the_limit_are_refused(self) -> None:
        started = session_pb2.RoundStarted(ref=codec.write_ref(REF), previous=types_pb2.ReleaseHeader(dimension=2**40))
        part = session_pb2.EventPart(round=started)
        with raises(ProtocolError, "coordinator: dimension"):
            list(codec.read_events(reader_of("coordinator", [part.SerializeToString()])))
