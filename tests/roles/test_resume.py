"""Where parties in any states go on together."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.errors import PeerUnavailable, ProtocolError
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.roles.resume import NO_NOISE, Course, Standing, meet, read_release, settle, write_release
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.messages import Outcome, Release

NAMES = ("party-1", "party-2", "party-3")
NOISE = (b"b" * 16, 1024)


def _history(rounds: int) -> bytes:
    return bytes([rounds]) * 32


def _agreement(rounds: int, owners: int = 3) -> bytes:
    chosen = OwnerSet.of(range(owners))
    return RoundAgreement(
        session=b"s" * 32,
        plan_digest=b"p" * 32,
        history=_history(rounds),
        noise=NOISE,
        round_index=rounds,
        owners=chosen,
        nonces=(b"n" * 32,) * owners,
    ).to_bytes()


def _standing(rounds: int, *, bound: bool = False, begun: bool = True, committed: bool = False) -> Standing:
    return Standing(
        begun=begun,
        outcome=Outcome(rounds, _history(rounds)),
        noise=NOISE if begun else NO_NOISE,
        agreement=_agreement(rounds) if bound else b"",
        committed=committed,
    )


standings = st.builds(_standing, st.integers(0, 3), bound=st.booleans(), begun=st.booleans(), committed=st.just(False))


@given(st.lists(standings, min_size=2, max_size=5))
def test_all_go_on_from_the_farthest_and_carry_out_what_is_bound(parties: list[Standing]) -> None:
    names = [f"party-{rank + 1}" for rank in range(len(parties))]
    course = settle(parties, names, own_copies=True)
    farthest = max(standing.outcome.rounds for standing in parties)
    assert course.outcome == Outcome(farthest, _history(farthest))
    assert parties[course.leader].outcome == course.outcome
    assert course.behind == any(standing.outcome.rounds < farthest for standing in parties)
    bound = any(standing.agreement for standing in parties if standing.outcome.rounds == farthest)
    assert (course.agreement is not None) == bound
    if course.agreement is not None:
        assert course.agreement.to_bytes() == _agreement(farthest)
    assert course.begun == any(standing.begun for standing in parties)
    assert course.noise == (NOISE if course.begun else NO_NOISE)


def _refused(parties: list[Standing], words: str, *, own_copies: bool = False) -> None:
    with pytest.raises(ProtocolError, match=words):
        settle(parties, NAMES, own_copies=own_copies)


def test_what_must_not_be_combined_ends_the_session_by_name() -> None:
    two, bound = _standing(2), _standing(2, bound=True)
    other = replace(two, outcome=Outcome(2, b"x" * 32))
    _refused([two, other, two], "party-2 and party-1 know of different releases")
    _refused([two, replace(two, noise=(b"c" * 16, 1024)), two], "different noise")
    _refused([two, replace(two, noise=(b"b" * 16, 0)), two], "different noise")
    _refused(
        [bound, two, replace(bound, agreement=_agreement(2, owners=2))], "party-3 and party-1 are bound to different"
    )
    _refused([two, replace(bound, agreement=_agreement(1)), two], "party-2 is bound to a round that does not follow")
    _refused([two, replace(bound, agreement=b"x"), two], "party-2 sent a malformed round agreement")


def test_a_party_that_lost_its_own_copy_of_the_noise_after_all_were_bound_is_named() -> None:
    """It would draw another copy, and the same sum could be opened under both."""
    committed, lost = _standing(2, bound=True, committed=True), _standing(2)
    _refused([committed, lost, committed], "party-2 has lost the record of round 2", own_copies=True)
    _refused([committed, committed, _standing(1)], "party-3 has lost the record of round 2", own_copies=True)
    # With joint noise its share is the same again; and before all were bound, nothing can have been opened.
    assert settle([committed, lost, committed], NAMES, own_copies=False).agreement is not None
    bound = replace(committed, committed=False)
    assert settle([bound, lost, bound], NAMES, own_copies=True).agreement is not None


@given(st.integers(0, 2**40), st.booleans(), st.booleans(), st.binary(max_size=200))
def test_standings_survive_the_wire(rounds: int, begun: bool, committed: bool, agreement: bytes) -> None:
    standing = Standing(begun, Outcome(rounds, b"h" * 32), NOISE, agreement, committed)
    assert Standing.from_bytes(standing.to_bytes(), sender="party-2") == standing


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_a_standing_or_refused_by_name(data: bytes) -> None:
    if len(data) < len(_standing(0).to_bytes()) or max(data[:2]) > 1:
        with pytest.raises(ProtocolError, match="party-2"):
            Standing.from_bytes(data, sender="party-2")
    else:
        assert Standing.from_bytes(data, sender="party-2").to_bytes() == data


@given(st.integers(1, 20), st.sets(st.integers(0, 40)))
def test_releases_survive_the_wire(dimension: int, owners: set[int]) -> None:
    values = np.random.default_rng(dimension).integers(-(2**62), 2**62, dimension)
    release = Release(values=values, owners=OwnerSet.of(owners))
    data = write_release(release)
    read = read_release(data, dimension=dimension, sender="party-1")
    assert read.owners == release.owners
    assert read.values.tolist() == values.tolist()
    for bad in (data[:-1], data + b"x", b"", data[:3]):
        with pytest.raises(ProtocolError, match="party-1"):
            read_release(bad, dimension=dimension, sender="party-1")
    assert write_release(None) == b""


class _Mesh:
    """Two parties whose second one may hear something else than it is told."""

    rank, size = 0, 2

    def __init__(self, theirs: Standing, *, deaf: bool = False) -> None:
        self._theirs = theirs
        self._deaf = deaf

    def exchange(self, operation: str, payload: bytes | memoryview) -> Any:
        if operation == "meet":
            return payload, b"n" * 32 + self._theirs.to_bytes()
        return payload, bytes(32) if self._deaf else payload


def test_every_attempt_has_a_name_of_its_own() -> None:
    mine, theirs = _standing(1), _standing(2, bound=True)
    names = set()
    for _ in range(5):
        name, heard = meet(_Mesh(theirs), mine, peers=NAMES[:2])
        assert heard == [mine, theirs]
        names.add(name)
    assert len(names) == 5


def test_parties_that_hear_different_things_do_not_go_on() -> None:
    """Two processes of one party never take part in one attempt; the next attempt may be without the second one."""
    with pytest.raises(PeerUnavailable, match="party-2") as raised:
        meet(_Mesh(_standing(1), deaf=True), _standing(1), peers=NAMES[:2])
    assert not raised.value.final


def test_a_course_is_a_plain_value() -> None:
    parties = [_standing(1, bound=True), _standing(1)]
    assert settle(parties, NAMES[:2], own_copies=True) == settle(parties, NAMES[:2], own_copies=True)
    assert isinstance(settle(parties, NAMES[:2], own_copies=True), Course)
