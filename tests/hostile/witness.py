"""What compute parties bound themselves to and opened, noted as it happens, in whatever life of their process."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.roles.journal import Bound, PartyJournal
from mpcdp.roles.training import owner_names
from mpcdp.secret_sharing.shares import NoisedVector, RingVector
from mpcdp.task import Task
from mpcdp.transport.messages import SessionRef

__all__ = ["Testimony", "check_testimonies", "digest_of", "opened_owners", "watch"]


@dataclass(frozen=True)
class Testimony:
    """Something that a compute party did.

    Args:
        party: who.
        kind: it bound itself to a round, opened a share (or was about to), or learned what was released.
        digest: of the share it bound or opened, or of the release.
        session: of the round; with "bound" only, as the next two.
        round_index: the round.
        agreement: to what it bound itself, canonical bytes.
    """

    party: str
    kind: Literal["bound", "opened", "released"]
    digest: str
    session: str = ""
    round_index: int = -1
    agreement: str = ""


def watch(
    backend: type[Any],
    party_of: Callable[[Any], str],
    note: Callable[[Testimony], None],
    patch: Callable[[Any, str, Any], None] = setattr,
) -> None:
    """Patch the journal and a backend so that everything that matters is noted before it happens.

    Args:
        backend: its class.
        party_of: tells whose journal or backend an object is.
        note: takes a testimony; what it raises passes through.
        patch: sets an attribute.
    """
    bind, reveal = PartyJournal.bind_round, backend.reveal

    @functools.wraps(bind)
    def bind_round(journal: PartyJournal, ref: SessionRef, bound: Bound) -> None:
        share, agreement = digest_of(bound.share.values), bound.agreement.hex()
        note(Testimony(party_of(journal), "bound", share, ref.session.hex(), bound.round_index, agreement))
        bind(journal, ref, bound)

    @functools.wraps(reveal)
    def open_share(computation: Any, vector: NoisedVector) -> RingVector:
        party = party_of(computation)
        note(Testimony(party, "opened", digest_of(vector.values)))
        released: RingVector = reveal(computation, vector)
        note(Testimony(party, "released", digest_of(released)))
        return released

    patch(PartyJournal, "bind_round", bind_round)
    patch(backend, "reveal", open_share)


def digest_of(values: RingVector) -> str:
    """Return what stands for a vector in a testimony."""
    return hashlib.sha256(values.tobytes()).hexdigest()


def check_testimonies(task: Task, testimonies: Sequence[Testimony], *, restored: bool = False) -> None:
    """Check that no round was bound to two agreements and that each was opened once, with one result.

    Args:
        task: of the session.
        testimonies: of all parties; those of one party in their order.
        restored: whether states were restored from older copies: then two agreements may have been bound, but never
            opened.

    Raises:
        AssertionError: what is wrong.
    """
    bound: dict[tuple[str, str], Testimony] = {}
    opened: dict[tuple[str, int], set[tuple[str, str]]] = {}
    last: dict[str, tuple[str, int]] = {}
    released: dict[tuple[str, int], set[str]] = {}
    for each in testimonies:
        match each.kind:
            case "bound":
                bound[each.party, each.digest] = each
            case "opened":
                assert (each.party, each.digest) in bound, f"{each.party} opened what it was not bound to"
                what = bound[each.party, each.digest]
                last[each.party] = (what.session, what.round_index)
                opened.setdefault(last[each.party], set()).add((each.party, each.digest))
            case "released":
                released.setdefault(last[each.party], set()).add(each.digest)
    assert len({session for session, _ in opened}) <= 1, "rounds of two sessions of one task were opened"
    for (session, index), shares in opened.items():
        parties = [party for party, _ in shares]
        assert len(parties) == len(set(parties)), f"a party opened two different shares of round {index}"
        agreements = {bound[share].agreement for share in shares}
        assert len(agreements) == 1, f"round {index} was opened under {len(agreements)} agreements"
        for party in task.compute_parties:
            assert any(
                (each.party, each.agreement) == (party.name, *agreements) and each.session == session
                for each in bound.values()
            ), f"round {index} was opened before {party.name} was bound to it"
    for (_, index), results in released.items():
        assert len(results) == 1, f"round {index} was released as {len(results)} different vectors"
    rounds: dict[tuple[str, int], set[str]] = {}
    for each in bound.values():
        rounds.setdefault((each.session, each.round_index), set()).add(each.agreement)
    for (_, index), found in rounds.items():
        assert restored or len(found) == 1, f"round {index} was bound to {len(found)} agreements"


def opened_owners(task: Task, testimonies: Sequence[Testimony]) -> dict[str, set[str]]:
    """Return the owners whose contributions were in what was opened, by session, hexadecimal."""
    opened = {(each.party, each.digest) for each in testimonies if each.kind == "opened"}
    owners: dict[str, set[str]] = {}
    for each in testimonies:
        if each.kind == "bound" and (each.party, each.digest) in opened:
            agreement = RoundAgreement.from_bytes(bytes.fromhex(each.agreement), proposer=each.party)
            owners.setdefault(each.session, set()).update(owner_names(task, agreement.owners))
    return owners
