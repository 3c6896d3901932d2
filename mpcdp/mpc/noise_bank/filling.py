"""How the compute parties keep their pools alike: they compare them before every use, and fill them together."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from mpcdp.errors import ProtocolError
from mpcdp.mpc.aggregation import check_same
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations
from mpcdp.mpc.noise import UniversalNoise
from mpcdp.mpc.noise_bank.pool import NoisePool
from mpcdp.mpc.noise_bank.sources import PooledNoise
from mpcdp.mpc.noise_bank.state import ID_BYTES, Batch, PoolState, agree
from mpcdp.secret_sharing.shares import NoiseShare

__all__ = ["fill", "reconcile", "session_noise"]

_NONCE_BYTES = 32
_Engine = Callable[[Mesh, CorrelationSource | None], AbstractContextManager[Backend]]


def reconcile(
    pool: NoisePool, mesh: Mesh, *, peers: Sequence[str], session: bytes = b"", begun: bool = False
) -> PoolState:
    """Bring all parties' pools to the same state; see `mpcdp.mpc.noise_bank.state.agree`. One round.

    Args:
        pool: this party's.
        mesh: the parties.
        peers: names by rank, for errors.
        session: the session that is about to use the pools, if one is.
        begun: whether the session may have used some of its range already; then it gets no other one.

    Returns:
        The state that all pools are in now.

    Raises:
        ProtocolError: the pools do not belong together, or not all of them have the range of a session that has begun;
            nothing was changed.
    """
    nonces, contents = _exchange(mesh, "noise pool", pool.state(session).to_bytes(), peers)
    states = [PoolState.from_bytes(content, sender=peer) for content, peer in zip(contents, peers, strict=True)]
    agreed = agree(states, peers, fresh_bank=lambda: _fresh_id(b"bank", nonces))
    if begun and agreed.reserved is None:
        raise _lost_range(states, peers)
    pool.agree(agreed, session)
    return agreed


def _lost_range(states: Sequence[PoolState], peers: Sequence[str]) -> ProtocolError:
    """Name the party because of which a session that has begun cannot go on."""
    ranges = [state.reserved for state in states if state.reserved is not None]
    kept = max(ranges, key=ranges.count, default=None)
    for state, peer in zip(states, peers, strict=True):
        if kept is None or state.reserved != kept or not state.covers(kept[0], sum(kept)):
            return ProtocolError(
                f"{peer} has lost the noise of this session, which has begun and gets no other: its state was deleted "
                "or restored from an older copy; agree on a new task"
            )
    return ProtocolError("the compute parties hold different noise for this session: agree on a new task")


def fill(
    pool: NoisePool,
    noise: UniversalNoise,
    backend: Backend,
    mesh: Mesh,
    *,
    samples: int,
    peers: Sequence[str],
    finish: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda made: None,
) -> None:
    """Make one batch of noise together and add it to all pools, or to none. Memory: one chunk of samples.

    It takes the correlated randomness of ``noise.schedule(samples)`` and, beside the rounds of the sampler, two rounds.
    Interrupted at any moment, the batch is discarded by the next `reconcile`, and nothing of it is ever used.

    Args:
        pool: this party's, after `reconcile` over this mesh.
        noise: joint universal noise.
        backend: the parties' joint computation.
        mesh: the parties.
        samples: how many; whole blocks.
        peers: names by rank, for errors.
        finish: called when all samples are made and before any counts; checks that the dealer dealt no more.
        progress: told how many samples a chunk has, after each.

    Raises:
        ProtocolError: the parties disagree.
        PeerError: a party failed.
    """
    nonces, _ = _exchange(mesh, "noise batch", b"", peers)
    batch = Batch(pool.state().made, samples, _fresh_id(b"batch", nonces))
    pool.store(batch, _counted(noise.chunks(backend, samples), progress))
    finish()
    # Every party has the batch on disk, and knows it of all others, before anybody uses it.
    digest = hashlib.sha256(PoolState(made=batch.end, batches=(batch,)).to_bytes()).digest()
    check_same(mesh, "noise batch", digest, peers=peers)
    pool.commit(batch)


@contextmanager
def session_noise(
    pool: NoisePool,
    noise: UniversalNoise,
    mesh: Mesh,
    engine: _Engine,
    ask_dealer: Callable[[int], ReceivedCorrelations],
    *,
    session: bytes,
    dimension: int,
    rounds: int,
    peers: Sequence[str],
    begun: bool = False,
) -> Iterator[tuple[Backend, PooledNoise]]:
    """Prepare a session's noise from the pools, making what they lack.

    When the context ends, the noise stays: the session may be interrupted, and goes on with the same. Whoever knows
    that it is over calls `NoisePool.release`.

    Args:
        pool: this party's.
        noise: the plan's joint universal noise.
        mesh: the parties.
        engine: starts the joint computation.
        ask_dealer: asks for the correlated randomness of so many samples; not called if the pools suffice.
        session: session id.
        dimension: number of coordinates d of a round.
        rounds: number of rounds T.
        peers: names by rank, for errors.
        begun: whether owners may have been told which noise the session gets.

    Yields:
        The joint computation and the session's noise.

    Raises:
        ProtocolError: the pools do not belong together, or the dealer did not deal what was asked.
        PeerError: a party or the dealer failed.
    """
    pool.release_others(session)
    state = reconcile(pool, mesh, peers=peers, session=session, begun=begun)
    missing = state.missing(dimension * rounds) if state.reserved is None else 0
    source = ask_dealer(missing) if missing else None
    with engine(mesh, source) as backend:
        if source is not None:
            fill(pool, noise, backend, mesh, samples=missing, peers=peers, finish=source.finish)
        reserved = pool.reserve(session, dimension * rounds)
        check_same(mesh, "noise range", hashlib.sha256(repr(reserved).encode()).digest(), peers=peers)
        yield backend, PooledNoise(pool, reserved, dimension=dimension, rounds=rounds)


def _exchange(mesh: Mesh, operation: str, content: bytes, peers: Sequence[str]) -> tuple[bytes, list[bytes]]:
    """Send a fresh nonce and some content to all; return all nonces in one, and the contents, by rank."""
    answers = [bytes(answer) for answer in mesh.exchange(operation, secrets.token_bytes(_NONCE_BYTES) + content)]
    for answer, peer in zip(answers, peers, strict=True):
        if len(answer) < _NONCE_BYTES:
            raise ProtocolError(f"{peer} sent no nonce for its {operation}: run the same version of mpcdp everywhere")
    return b"".join(answer[:_NONCE_BYTES] for answer in answers), [answer[_NONCE_BYTES:] for answer in answers]


def _fresh_id(purpose: bytes, nonces: bytes) -> bytes:
    """Derive an id from what all parties have just drawn: it never comes again."""
    return hashlib.sha256(b"mpcdp/1/noise " + purpose + b"\0" + nonces).digest()[:ID_BYTES]


def _counted(chunks: Iterator[NoiseShare], progress: Callable[[int], None]) -> Iterator[NoiseShare]:
    for chunk in chunks:
        yield chunk
        progress(chunk.dimension)
