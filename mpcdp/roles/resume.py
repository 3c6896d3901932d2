"""How the compute parties of a session find out where to go on, at its beginning and after any interruption.

Every attempt begins with the same two exchanges: each party tells where it stands, and all make sure that they heard
the same. From that every party computes the same course:

* The farthest party is right. A party that is behind, because it crashed before it wrote the last release down or was
  restored from an older copy, takes over the digest of all releases and the last one.
* A round that any party is bound to is carried out exactly as bound: same owners, same masks, same noise. It was not
  opened unless *all* were bound, so at most it is opened again, with the same bytes.
* A round that nobody is bound to begins anew. Nothing of it was opened.

The nonces of the first exchange name the attempt, and with it the batch that the dealer is asked for. Two processes of
one party cannot both be in an attempt: some party would have heard another nonce.
"""

import hashlib
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpcdp.errors import PeerUnavailable, ProtocolError
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.mpc.backend import Mesh
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.messages import Outcome, Release

__all__ = ["NO_NOISE", "Course", "Standing", "meet", "read_release", "settle", "write_release"]

_NONCE_BYTES = 32
_HEAD = struct.Struct("<BBQ32s16sQ")
_RELEASE = struct.Struct("<I")
_RESTORED = "its state was deleted or restored from an older copy"

NO_NOISE = (bytes(16), 0)
"""Stands for the range of joint noise where there is none, or none yet."""


@dataclass(frozen=True)
class Standing:
    """Where a party stands in a session, as it tells the others.

    Args:
        begun: whether an owner has enrolled here.
        outcome: what it knows to be released.
        noise: bank and first position of the joint noise that owners were told of; `NO_NOISE` before.
        agreement: of the round after the last release, if it is bound to it; else empty.
        committed: whether it knows that all parties are bound to that agreement.
    """

    begun: bool
    outcome: Outcome
    noise: tuple[bytes, int]
    agreement: bytes
    committed: bool

    def to_bytes(self) -> bytes:
        """Return the canonical form."""
        rounds, history = self.outcome.rounds, self.outcome.history
        return _HEAD.pack(self.begun, self.committed, rounds, history, *self.noise) + self.agreement

    @classmethod
    def from_bytes(cls, data: bytes, *, sender: str) -> "Standing":
        """Read what another party sent.

        Raises:
            ProtocolError: the bytes are not the canonical form of a standing.
        """
        try:
            begun, committed, rounds, history, bank, start = _HEAD.unpack_from(data)
        except struct.error as error:
            raise ProtocolError(f"{sender} sent a malformed standing") from error
        if begun > 1 or committed > 1:
            raise ProtocolError(f"{sender} sent a malformed standing")
        outcome = Outcome(rounds=rounds, history=history)
        return cls(bool(begun), outcome, (bank, start), data[_HEAD.size :], bool(committed))


@dataclass(frozen=True)
class Course:
    """What the parties do next, the same at all of them.

    Args:
        begun: whether owners were told which noise the session has.
        noise: bank and first position of it, `NO_NOISE` if it has not begun or has none.
        outcome: the releases that all parties go on from.
        leader: lowest rank of a party that knows them.
        behind: whether some party does not.
        agreement: of the next round, if any party is bound to it.
    """

    begun: bool
    noise: tuple[bytes, int]
    outcome: Outcome
    leader: int
    behind: bool
    agreement: RoundAgreement | None


def meet(mesh: Mesh, standing: Standing, *, peers: Sequence[str]) -> tuple[str, list[Standing]]:
    """Tell all parties where this one stands, and hear where they do. Two rounds.

    Args:
        mesh: the parties.
        standing: this party's.
        peers: names by rank, for errors.

    Returns:
        A fresh name for what follows, and the standings by rank; the same at all parties.

    Raises:
        ProtocolError: a party sent something else.
        PeerUnavailable: a party heard something else, so one of them has two processes, or is being replaced.
    """
    answers = [
        bytes(answer) for answer in mesh.exchange("meet", secrets.token_bytes(_NONCE_BYTES) + standing.to_bytes())
    ]
    heard = hashlib.sha256(b"mpcdp/1/meet")
    for answer in answers:
        heard.update(len(answer).to_bytes(8, "big") + answer)
    for theirs, peer in zip(mesh.exchange("met", heard.digest()), peers, strict=True):
        if bytes(theirs) != heard.digest():
            raise PeerUnavailable(
                peer, "it speaks with other processes than this party does: end second processes of a party"
            )
    standings = [
        Standing.from_bytes(answer[_NONCE_BYTES:], sender=peer) for answer, peer in zip(answers, peers, strict=True)
    ]
    return heard.hexdigest()[:16], standings


def settle(standings: Sequence[Standing], peers: Sequence[str], *, own_copies: bool) -> Course:
    """Compute the course from all standings. Every party computes the same.

    Args:
        standings: by rank.
        peers: names by rank.
        own_copies: whether every party samples its own noise. Then a party that lost a binding would draw another copy
            of noise under which the round may already have been opened; with joint noise it has the same share again.

    Raises:
        ProtocolError: the parties know of different releases, noise or agreements, or one has lost what it must not.
    """
    rounds = max(standing.outcome.rounds for standing in standings)
    leaders = [rank for rank, standing in enumerate(standings) if standing.outcome.rounds == rounds]
    leader = standings[leaders[0]]
    for rank in leaders:
        if standings[rank].outcome != leader.outcome:
            raise ProtocolError(
                f"{peers[rank]} and {peers[leaders[0]]} know of different releases of this session: agree on a new task"
            )
    ranges = {standing.noise for standing in standings if standing.begun}
    if len(ranges) > 1:
        raise ProtocolError("owners were told of different noise by the compute parties: agree on a new task")
    return Course(
        begun=bool(ranges),
        noise=next(iter(ranges), NO_NOISE),
        outcome=leader.outcome,
        leader=leaders[0],
        behind=len(leaders) < len(standings),
        agreement=_bound_agreement(standings, peers, leader.outcome, own_copies=own_copies),
    )


def _bound_agreement(
    standings: Sequence[Standing], peers: Sequence[str], outcome: Outcome, *, own_copies: bool
) -> RoundAgreement | None:
    """Return the one agreement that parties are bound to after the last release, None if none is."""
    bound = {
        rank: standing.agreement
        for rank, standing in enumerate(standings)
        if standing.agreement and standing.outcome == outcome
    }
    if not bound:
        return None
    first = min(bound)
    for rank, data in bound.items():
        if data != bound[first]:
            raise ProtocolError(
                f"{peers[rank]} and {peers[first]} are bound to different owners in round {outcome.rounds}, which can "
                "therefore never be released: agree on a new task, and keep the parties' state from restores"
            )
    agreement = RoundAgreement.from_bytes(bound[first], proposer=peers[first])
    if (agreement.round_index, agreement.history) != (outcome.rounds, outcome.history):
        raise ProtocolError(f"{peers[first]} is bound to a round that does not follow the last release")
    if own_copies and any(standings[rank].committed for rank in bound):
        for rank, peer in enumerate(peers):
            if rank not in bound:
                raise ProtocolError(
                    f"{peer} has lost the record of round {outcome.rounds}, to which it was bound: {_RESTORED}; "
                    "agree on a new task"
                )
    return agreement


def write_release(release: Release | None) -> bytes:
    """Serialize a release for a party that missed it; no bytes for None."""
    if release is None:
        return b""
    bitmap = release.owners.to_bytes()
    return _RELEASE.pack(len(bitmap)) + bitmap + np.ascontiguousarray(release.values, dtype="<i8").tobytes()


def read_release(data: bytes, *, dimension: int, sender: str) -> Release:
    """Read a release that this party missed.

    Raises:
        ProtocolError: the bytes are not the canonical form of a release of ``dimension`` coordinates.
    """
    try:
        (length,) = _RELEASE.unpack_from(data)
        start = _RELEASE.size + length
        if len(data) != start + 8 * dimension:
            raise ValueError("other length")
        values = np.frombuffer(data, dtype="<i8", offset=start).astype(np.int64)
        return Release(values=values, owners=OwnerSet.from_bytes(data[_RELEASE.size : start]))
    except (struct.error, ValueError) as error:
        raise ProtocolError(f"{sender} sent a malformed release") from error
