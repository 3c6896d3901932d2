"""Run a function as every compute party of a joint computation, each in a process of its own, over a mesh of pipes.

The parent is the dealer: it derives the seeds, and streams the corrections of a schedule to the party of rank 0.
"""

import multiprocessing
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from queue import SimpleQueue
from typing import Any

from mpcdp.errors import PeerTimeout, PeerUnavailable, ProtocolError
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.dealing import ReceivedCorrelations, batch_seeds, deal
from mpcdp.secret_sharing.randomness import random_key

__all__ = ["Dealer", "Job", "PartyFailed", "PipeMesh", "run_parties"]

Job = Callable[..., Any]
"""What a party does: called with (mesh, correlations, *arguments); a module-level function with a picklable result."""

Dealer = Callable[[Sequence[CorrelationRequest], Sequence[bytes]], Iterator[bytes]]
"""`mpcdp.mpc.dealing.deal`, or something that stands in for it."""


class PartyFailed(Exception):
    """A party raised, died or did not end in time; the text has each party's traceback."""


class PipeMesh:
    """A `Mesh` of one pipe to each peer, and a thread for each that sends, so that large frames cannot deadlock."""

    def __init__(self, rank: int, peers: dict[int, Connection], seconds: float) -> None:
        self.rank = rank
        self.size = len(peers) + 1
        self._peers = peers
        self._seconds = seconds
        self._outboxes: dict[int, SimpleQueue[tuple[str, bytes | memoryview]]] = {}
        for peer, connection in peers.items():
            self._outboxes[peer] = SimpleQueue()
            threading.Thread(target=self._send, args=(connection, self._outboxes[peer]), daemon=True).start()

    @staticmethod
    def _send(connection: Connection, outbox: "SimpleQueue[tuple[str, bytes | memoryview]]") -> None:
        with suppress(OSError):  # the peer is gone: our next receive says so
            while True:
                operation, payload = outbox.get()
                connection.send_bytes(operation.encode())
                connection.send_bytes(payload)

    def _receive(self, peer: int) -> bytes:
        if not self._peers[peer].poll(self._seconds):
            raise PeerTimeout(f"compute party {peer}", f"nothing came within {self._seconds} s")
        try:
            return self._peers[peer].recv_bytes()
        except (EOFError, OSError):
            raise PeerUnavailable(f"compute party {peer}", "its pipe is closed") from None

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        for outbox in self._outboxes.values():
            outbox.put((operation, payload))
        received: list[bytes | memoryview] = [b""] * self.size
        received[self.rank] = payload
        for peer in self._peers:
            theirs = self._receive(peer).decode()
            if theirs != operation:
                raise ProtocolError(f"compute party {peer} is at {theirs!r} while this one is at {operation!r}")
            received[peer] = self._receive(peer)
        return received


def _chunks(pipe: Connection) -> Iterator[bytes]:
    while chunk := pipe.recv_bytes():
        yield chunk


def _party(
    job: Job,
    arguments: tuple[Any, ...],
    rank: int,
    peers: dict[int, Connection],
    seed: bytes,
    corrections: Connection | None,
    seconds: float,
    outcome: Connection,
) -> None:
    """Run one party's job and report its result; the body of a party's process."""
    source = ReceivedCorrelations(seed, iter(()) if corrections is None else _chunks(corrections))
    try:
        result = job(PipeMesh(rank, peers, seconds), source, *arguments)
        source.finish()
        outcome.send((True, result))
        outcome.recv()  # keep the pipes open until all parties are done, or the first to end looks like a failure
    except Exception:  # noqa: BLE001  # the parent raises it
        outcome.send((False, traceback.format_exc()))
        raise SystemExit(1) from None


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mpcdp.mpc.crypten_backend", "pytest", "scipy.stats"])
    return context


def _stream(pipe: Connection, chunks: Iterator[bytes]) -> None:
    with suppress(OSError):  # rank 0 is gone: the parent collects why
        for chunk in chunks:
            pipe.send_bytes(chunk)
        pipe.send_bytes(b"")


def run_parties(
    party_count: int,
    job: Job,
    *arguments: Any,
    schedule: Sequence[CorrelationRequest] = (),
    dealer: Dealer = deal,
    seconds: float = 60.0,
) -> list[Any]:
    """Run ``job(mesh, correlations, *arguments)`` as every party and return the results in rank order.

    Args:
        party_count: number of parties k.
        job: module-level function; it must consume exactly the correlations of ``schedule``.
        arguments: picklable; the same at each party.
        schedule: what the dealer deals.
        dealer: computes the corrections; a test may put a dishonest one here.
        seconds: deadline of the whole run.

    Raises:
        PartyFailed: a party failed, or left correlations over. No process is left running.
    """
    context = _context()
    seeds = batch_seeds(random_key(), [random_key() for _ in range(party_count)], b"test", "test")
    peers: list[dict[int, Connection]] = [{} for _ in range(party_count)]
    for low in range(party_count):
        for high in range(low + 1, party_count):
            peers[low][high], peers[high][low] = context.Pipe()
    inbox, corrections = context.Pipe(duplex=False)
    outcomes: list[Connection] = []
    processes: list[ForkServerProcess] = []
    try:
        for rank in range(party_count):
            ours, theirs = context.Pipe()
            outcomes.append(ours)
            stream = inbox if rank == 0 else None
            process = context.Process(
                target=_party,
                args=(job, arguments, rank, peers[rank], seeds[rank], stream, seconds, theirs),
                daemon=True,
            )
            process.start()
            processes.append(process)
            for connection in (theirs, *peers[rank].values()):
                connection.close()
        inbox.close()
        threading.Thread(target=_stream, args=(corrections, dealer(schedule, seeds)), daemon=True).start()
        return _collect(outcomes, seconds)
    finally:
        for process in processes:
            process.join(0.5)
            process.kill()
            process.join()
            process.close()
        for connection in (*outcomes, corrections):
            connection.close()


def _collect(outcomes: list[Connection], seconds: float) -> list[Any]:
    """Receive every party's result; after a failure wait briefly for the others' tracebacks."""
    results: dict[int, Any] = {}
    failures: dict[int, str] = {}
    pending = {connection: rank for rank, connection in enumerate(outcomes)}
    deadline = time.monotonic() + seconds
    while pending:
        ready = wait(list(pending), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for connection in ready:
            assert isinstance(connection, Connection)
            rank = pending.pop(connection)
            try:
                succeeded, value = connection.recv()
            except EOFError:
                succeeded, value = False, "its process died"
            (results if succeeded else failures)[rank] = value
            if not succeeded:
                deadline = min(deadline, time.monotonic() + 2.0)
    if failures or pending:
        problems = [f"party {rank}: {text}" for rank, text in failures.items()]
        problems += [f"party {rank}: not done in time" for rank in pending.values()]
        raise PartyFailed("\n".join(problems))
    for connection in outcomes:
        connection.send(None)
    return [results[rank] for rank in range(len(outcomes))]
