"""Messages between compute parties: a contract that every network keeps."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from network_worlds import LIMITS, PARTIES, REF, NetworkWorld, StubService, member, raises, threads_at_work

from mpcdp.errors import MpcdpError, PeerTimeout, PeerUnavailable, ProtocolError, SessionAborted
from mpcdp.pb import mpc_pb2
from mpcdp.transport.access import MESH
from mpcdp.transport.channel import Limits, MessageMesh, Network
from mpcdp.transport.frames import PAYLOAD_BYTES, Hello, write_goodbye, write_hello, write_payload
from mpcdp.transport.messages import SessionRef
from mpcdp.transport.peer_network import PeerNetwork

__all__ = ["MeshContract"]

_QUICK = replace(LIMITS, connect_seconds=0.4, message_seconds=0.4)
_OTHER = SessionRef(task_digest=bytes(32), session=bytes(range(32)))
_TWO = PARTIES[:2]


def oversized(frame: bytes) -> bytes:
    """Return a frame that announces a payload of more than is accepted."""
    message = mpc_pb2.MeshFrame.FromString(frame)
    message.data.size = PAYLOAD_BYTES + 1
    return message.SerializeToString()


Script = Callable[[MessageMesh], Any]


def _run(networks: Sequence[Network], script: Script | Sequence[Script], ref: SessionRef = REF) -> list[Any]:
    """Run every party's script on a thread of its own; returns results or the errors they ended with."""
    names = PARTIES[: len(networks)]
    scripts = list(script) if isinstance(script, Sequence) else [script] * len(networks)

    def party(network: Network, script: Script) -> Any:
        try:
            with network.mesh(ref, names) as mesh:
                return script(mesh)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            return error

    with ThreadPoolExecutor(len(networks)) as pool:
        return list(pool.map(party, networks, scripts))


def _parties(world: NetworkWorld, count: int, limits: Limits = LIMITS) -> list[Network]:
    return [world.serve(name, StubService(), limits=limits) for name in PARTIES[:count]]


class _RawParty:
    """compute-1, sending compute-0 whatever bytes it likes."""

    def __init__(self, network: PeerNetwork) -> None:
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.answers = network.call(member("compute-0"), MESH, iter(self._frames.get, None), 10)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self._frames.put(frame)

    def hello(self, parties: Sequence[str] = _TWO, ref: SessionRef = REF) -> None:
        self.send(write_hello("compute-1", Hello(ref, tuple(parties))))

    def end(self) -> None:
        self._frames.put(None)

    def leave(self) -> None:
        self.end()
        self.answers.cancel()


class MeshContract:
    """Inherit, and give a ``world``."""

    def _exchange_with(self, network: Network, rounds: int = 1) -> Future[Any]:
        """Let compute-0 exchange with a raw compute-1, and give its result or raise its error."""
        result: Future[Any] = Future()

        def run() -> None:
            try:
                with network.mesh(REF, _TWO) as mesh:
                    try:
                        result.set_result([mesh.exchange("step", b"mine")[1] for _ in range(rounds)])
                    except MpcdpError as error:
                        result.set_exception(error)
                        raise
            except MpcdpError as error:
                if not result.done():
                    result.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return result

    # -- exchange --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [2, 3])
    @pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 8 << 20])
    def test_everybody_gets_everybodys_payload_by_rank(self, world: NetworkWorld, count: int, size: int) -> None:
        payloads = [np.random.default_rng(rank).bytes(size) for rank in range(count)]

        def script(mesh: MessageMesh) -> list[bytes]:
            assert mesh.size == count
            return [bytes(entry) for entry in mesh.exchange("step", payloads[mesh.rank])]

        assert _run(_parties(world, count), script) == [payloads] * count

    def test_many_exchanges_stay_in_order(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> bool:
            delays = np.random.default_rng(mesh.rank).uniform(0, 0.002, 100)
            for index in range(100):
                time.sleep(delays[index])
                received = mesh.exchange(f"step-{index % 3}", bytes([index, mesh.rank]) * (1 + index * mesh.rank))
                assert [entry[:2] for entry in received] == [bytes([index, rank]) for rank in range(3)]
                # Payloads of another size are the business of whoever asked for them.
                assert [len(entry) for entry in received] == [2 * (1 + index * rank) for rank in range(3)]
            return True

        assert _run(_parties(world, 3), script) == [True] * 3

    def test_a_buffer_may_be_used_again_after_the_exchange(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> list[int]:
            buffer = np.zeros(300_000, dtype=np.int64)
            seen = []
            for index in range(5):
                buffer[:] = index
                (received,) = [mesh.exchange("step", buffer.data)[rank] for rank in range(2) if rank != mesh.rank]
                buffer[:] = -1
                values = np.frombuffer(received, dtype=np.int64)
                assert (values == values[0]).all()
                seen.append(int(values[0]))
            return seen

        assert _run(_parties(world, 2), script) == [[0, 1, 2, 3, 4]] * 2

    def test_bytes_are_counted_for_every_peer(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3)
        _run(networks, lambda mesh: mesh.exchange("step", bytes(10_000)))
        for network, name in zip(networks, PARTIES, strict=True):
            sent = network.bytes_sent()
            assert set(sent) == set(PARTIES) - {name}
            assert all(10_000 < count < 10_600 for count in sent.values())

    def test_a_session_can_follow_another(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3)
        for ref in (REF, _OTHER, REF):
            assert _run(networks, lambda mesh: len(mesh.exchange("step", b"x")), ref) == [3] * 3

    # -- losing step -----------------------------------------------------------------------------------------------

    def test_another_step_is_an_error_that_names_both(self, world: NetworkWorld) -> None:
        results = _run(_parties(world, 2), lambda mesh: mesh.exchange(("and", "reveal")[mesh.rank], b"x"))
        assert [type(result) for result in results] == [ProtocolError] * 2
        assert str(results[0]).startswith("compute-1: ")
        assert str(results[1]).startswith("compute-0: ")
        for result in results:
            assert "'and'" in str(result)
            assert "'reveal'" in str(result)

    def test_a_party_that_is_done_too_early_is_an_error(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> None:
            for _ in range(2 if mesh.rank else 1):
                mesh.exchange("step", b"x")

        results = _run(_parties(world, 3, replace(LIMITS, message_seconds=1.0)), script)
        assert all(isinstance(result, MpcdpError) for result in results)
        assert any(isinstance(result, ProtocolError) and "goodbye" in str(result) for result in results)

    def test_after_an_error_the_mesh_stays_shut(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> None:
            with raises(ProtocolError):
                mesh.exchange(("and", "reveal")[mesh.rank], b"x")
            with raises(ProtocolError, "'and'", "'reveal'"):
                mesh.exchange("step", b"x")

        assert any(isinstance(result, MpcdpError) for result in _run(_parties(world, 2, _QUICK), script))

    def test_a_replayed_frame_is_an_error(self, world: NetworkWorld) -> None:
        (network,) = _parties(world, 1)
        raw = _RawParty(world.network(member("compute-1")))
        result = self._exchange_with(network, rounds=2)
        frames = write_payload("step", 0, b"theirs")
        raw.hello()
        raw.send(*frames, *frames)
        with raises(ProtocolError, "compute-1", "message 0", "message 1"):
            result.result(5)
        raw.leave()

    @pytest.mark.parametrize(
        ("frames", "words"),
        [
            ([b"\xff\xff\xff"], "malformed"),
            ([b""], "kind"),
            ([write_hello("compute-1", Hello(REF, _TWO))], "kind"),
            (write_payload("step", 0, bytes(3 << 20))[:1] + write_payload("step", 1, bytes(3 << 20))[1:], "continue"),
            ([write_payload("step", 0, bytes(3 << 20))[0], write_goodbye(None)], "continue"),
            (write_payload("", 0, b"theirs"), "operation"),
            (write_payload("s" * 65, 0, b"theirs"), "operation"),
            ([oversized(write_payload("step", 0, b"theirs")[0])], "size"),
            ([write_goodbye(None), *write_payload("step", 0, b"theirs")], "goodbye"),
            ([write_goodbye("the disk is full")], "the disk is full"),
            ([frame for sequence in range(3) for frame in write_payload("step", sequence, b"x")], "ahead"),
        ],
    )
    def test_bad_frames_are_errors_that_name_the_peer(
        self, world: NetworkWorld, frames: list[bytes], words: str
    ) -> None:
        (network,) = _parties(world, 1)
        raw = _RawParty(world.network(member("compute-1")))
        raw.hello()
        raw.send(*frames)
        time.sleep(0.1)
        result = self._exchange_with(network, rounds=3)
        error = result.exception(5)
        assert isinstance(error, ProtocolError | PeerUnavailable)
        assert str(error).startswith("compute-1: ")
        assert words in str(error)
        raw.leave()

    def test_a_stream_that_breaks_off_is_an_error(self, world: NetworkWorld) -> None:
        (network,) = _parties(world, 1)
        raw = _RawParty(world.network(member("compute-1")))
        raw.hello()
        raw.send(write_payload("step", 0, bytes(3 << 20))[0])
        raw.end()
        with raises(ProtocolError, "compute-1", "too early"):
            self._exchange_with(network).result(5)

    def test_a_stream_without_a_goodbye_is_an_error(self, world: NetworkWorld) -> None:
        (network,) = _parties(world, 1)
        raw = _RawParty(world.network(member("compute-1")))
        raw.hello()
        raw.end()
        with raises(PeerUnavailable, "compute-1", "goodbye"):
            self._exchange_with(network).result(5)

    # -- joining ---------------------------------------------------------------------------------------------------

    def test_parties_may_come_in_any_order(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3)

        for first in range(3):
            order: list[Any] = [None] * 3

            def join(rank: int, wait: float, order: list[Any] = order) -> None:
                time.sleep(wait)
                with networks[rank].mesh(REF, PARTIES) as mesh:
                    order[rank] = len(mesh.exchange("step", b"x"))

            threads = [threading.Thread(target=join, args=(rank, 0.0 if rank == first else 0.05)) for rank in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert order == [3, 3, 3]

    def test_a_party_that_does_not_come_is_named(self, world: NetworkWorld) -> None:
        networks = _parties(world, 2, _QUICK)
        start = time.monotonic()
        with raises(PeerTimeout, "compute-1", "0.4 s"), networks[0].mesh(REF, _TWO):
            pass
        with raises(PeerTimeout, "compute-0", "0.4 s"), networks[1].mesh(REF, _TWO):
            pass
        with raises(PeerUnavailable, "compute-2"), networks[0].mesh(REF, ("compute-2", "compute-0")):
            pass
        assert time.monotonic() - start < 4

    def test_parties_of_different_sessions_refuse_each_other(self, world: NetworkWorld) -> None:
        networks = _parties(world, 2, _QUICK)
        with ThreadPoolExecutor(2) as pool:
            errors = list(pool.map(_run_alone, networks, (REF, _OTHER), (_TWO, _TWO)))
        assert isinstance(errors[0], PeerTimeout)
        assert isinstance(errors[1], ProtocolError)
        assert "another session" in str(errors[1])

    def test_parties_that_disagree_about_ranks_refuse_each_other(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3, _QUICK)
        orders = [PARTIES, ("compute-0", "compute-2", "compute-1"), PARTIES]
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(_run_alone, networks, [REF] * 3, orders))
        assert all(isinstance(result, MpcdpError) for result in results)
        assert any(isinstance(result, ProtocolError) and "other compute parties" in str(result) for result in results)

    def test_a_second_stream_of_one_party_replaces_the_first_for_the_next_mesh(self, world: NetworkWorld) -> None:
        """A party that was started again need not wait until everybody has noticed that it was away."""
        (network,) = _parties(world, 1)
        one = _RawParty(world.network(member("compute-1")))
        one.hello()
        result = self._exchange_with(network)
        assert next(one.answers)
        two = _RawParty(world.network(member("compute-1")))
        two.hello()
        with raises(PeerUnavailable, "compute-1", "connected again"):
            result.result(5)
        one.send(*write_payload("step", 0, b"theirs of the first"))
        again = self._exchange_with(network)
        two.send(*write_payload("step", 0, b"theirs"))
        assert next(two.answers)
        assert again.result(5) == [b"theirs"]
        two.send(write_goodbye(None))
        one.leave()
        two.end()

    def test_a_broken_connection_is_told_also_to_who_waits_for_something_else(self, world: NetworkWorld) -> None:
        networks = _parties(world, 2)
        lost: queue.SimpleQueue[MpcdpError] = queue.SimpleQueue()
        left = threading.Event()

        def stay() -> None:
            with suppress(MpcdpError), networks[0].mesh(REF, _TWO, lost.put) as mesh:
                mesh.exchange("step", b"x")
                error = lost.get(timeout=5)
                assert isinstance(error, PeerUnavailable)
                assert error.peer == "compute-1"
                left.set()
                raise error

        thread = threading.Thread(target=stay)
        thread.start()
        with suppress(ProtocolError), networks[1].mesh(REF, _TWO) as mesh:
            mesh.exchange("step", b"x")
            raise ProtocolError("no more")
        thread.join()
        assert left.is_set()

    @pytest.mark.parametrize("waits_for", ["a message", "a peer", "an address"])
    def test_who_gives_up_waits_for_nobody(self, world: NetworkWorld, waits_for: str) -> None:
        networks = _parties(world, 1 if waits_for == "an address" else 2)
        names = ("compute-1", "compute-0") if waits_for == "an address" else _TWO
        timer = threading.Timer(0.3, networks[0].give_up, (SessionAborted("it is over"),))
        start = time.monotonic()

        def wait_in_vain() -> None:
            with networks[0].mesh(REF, names) as mesh:
                mesh.exchange("step", b"x")

        with ThreadPoolExecutor(1) as pool:
            peer = pool.submit(_run_silent, networks[1]) if waits_for == "a message" else None
            timer.start()
            with raises(SessionAborted, "it is over"):
                wait_in_vain()
            if peer is not None:
                assert "it is over" in str(peer.result(5))
        with raises(SessionAborted, "it is over"):
            wait_in_vain()
        assert time.monotonic() - start < 3

    def test_the_lower_rank_does_not_call(self, world: NetworkWorld) -> None:
        (network,) = _parties(world, 1, _QUICK)
        raw = _RawParty(world.network(member("compute-1")))
        raw.hello(parties=("compute-1", "compute-0"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_run_alone, network, REF, ("compute-1", "compute-0"))
            with raises(ProtocolError, "compute-0", "lower rank"):
                next(raw.answers)
        raw.leave()

    def test_a_stream_that_says_nothing_is_dropped(self, world: NetworkWorld) -> None:
        _parties(world, 1, _QUICK)
        raw = _RawParty(world.network(member("compute-1")))
        with raises(ProtocolError, "compute-0", "hello"):
            next(raw.answers)
        raw.leave()

    def test_a_stream_that_nobody_expects_is_dropped(self, world: NetworkWorld) -> None:
        _parties(world, 1, _QUICK)
        raw = _RawParty(world.network(member("compute-1")))
        raw.hello()
        with raises(PeerTimeout, "compute-0", "join"):
            next(raw.answers)
        raw.leave()

    def test_one_mesh_at_a_time(self, world: NetworkWorld) -> None:
        networks = _parties(world, 2)

        def script(mesh: MessageMesh) -> None:
            with raises(ProtocolError, "one at a time"), networks[mesh.rank].mesh(_OTHER, _TWO):
                pass

        assert _run(networks, script) == [None, None]

    # -- leaving ---------------------------------------------------------------------------------------------------

    def test_everybody_waits_for_everybodys_goodbye(self, world: NetworkWorld) -> None:
        left: list[float] = []

        def script(mesh: MessageMesh) -> None:
            mesh.exchange("step", b"x")
            time.sleep(0.15 * mesh.rank)
            left.append(time.monotonic())

        networks = _parties(world, 3)
        assert _run(networks, script) == [None] * 3
        assert time.monotonic() >= max(left)

    def test_a_peer_that_says_no_goodbye_is_named(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> None:
            time.sleep(0.8 * mesh.rank)

        results = _run(_parties(world, 2, _QUICK), script)
        assert isinstance(results[0], PeerTimeout)
        assert str(results[0]).startswith("compute-1: it did not say goodbye within 0.4 s")

    def test_a_late_peer_is_named(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> None:
            if mesh.rank == 1:
                time.sleep(0.8)
            mesh.exchange("slow", b"x")

        start = time.monotonic()
        results = _run(_parties(world, 3, _QUICK), script)
        for rank in (0, 2):
            assert isinstance(results[rank], PeerTimeout | PeerUnavailable)
            assert "compute-1: it did not answer 'slow', message 0, within 0.4 s" in str(results[rank])
        assert isinstance(results[1], PeerUnavailable)
        assert time.monotonic() - start < 5

    @pytest.mark.parametrize("rank", [0, 1, 2])
    def test_a_party_that_fails_tells_the_others_why(self, world: NetworkWorld, rank: int) -> None:
        def script(mesh: MessageMesh) -> None:
            mesh.exchange("step", b"x")
            if mesh.rank == rank:
                raise ProtocolError("the plans differ: give everybody the same task.toml")
            mesh.exchange("step", b"x")

        start = time.monotonic()
        results = _run(_parties(world, 3), script)
        assert isinstance(results[rank], ProtocolError)
        for other in set(range(3)) - {rank}:
            assert isinstance(results[other], PeerUnavailable)
            assert f"compute-{rank}: it left the session: the plans differ: give everybody" in str(results[other])
        assert time.monotonic() - start < 3

    def test_a_party_with_a_bug_tells_the_others_nothing_more(self, world: NetworkWorld) -> None:
        def script(mesh: MessageMesh) -> None:
            if mesh.rank == 0:
                raise RuntimeError("a private detail")
            mesh.exchange("step", b"x")

        results = _run(_parties(world, 2), script)
        assert isinstance(results[0], RuntimeError)
        assert isinstance(results[1], PeerUnavailable)
        assert "internal error" in str(results[1])
        assert "private" not in str(results[1])

    def test_a_party_that_dies_is_noticed_at_once(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3)
        died: list[float] = []

        def script(mesh: MessageMesh) -> None:
            mesh.exchange("step", b"x")
            if mesh.rank == 2:
                died.append(time.monotonic())
                world.kill(networks[2])
            mesh.exchange("step", b"x")

        results = _run(networks, script)
        for rank in (0, 1):
            assert isinstance(results[rank], PeerUnavailable)
            assert "compute-2" in str(results[rank])
        assert time.monotonic() - died[0] < 2.5

    def test_a_clean_session_leaves_no_thread_behind(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3)
        _run(networks, lambda mesh: mesh.exchange("step", b"x"))
        assert threads_at_work() == []

    def test_a_failed_session_leaves_no_thread_behind(self, world: NetworkWorld) -> None:
        networks = _parties(world, 3)

        def script(mesh: MessageMesh) -> None:
            if mesh.rank == 1:
                raise ProtocolError("no more")
            mesh.exchange("step", b"x")

        _run(networks, script)
        assert threads_at_work() == []


def _run_alone(network: Network, ref: SessionRef, names: Sequence[str]) -> Exception | None:
    try:
        with network.mesh(ref, names):
            return None
    except MpcdpError as error:
        return error


def _run_silent(network: Network) -> Exception | None:
    """Join, and say nothing until the other party leaves."""
    lost: queue.SimpleQueue[MpcdpError] = queue.SimpleQueue()
    try:
        with network.mesh(REF, _TWO, lost.put):
            raise lost.get(timeout=5)
    except MpcdpError as error:
        return error
