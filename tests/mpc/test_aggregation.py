"""What parties agree on before a reveal, and the shares they add up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.errors import ProtocolError
from mpcdp.mpc.aggregation import RoundAgreement, check_same, share_of_sum
from mpcdp.secret_sharing.additive import last_share, mask_nonce, reconstruct
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.secret_sharing.shares import SharedVector

digests = st.binary(min_size=32, max_size=32)
agreements = st.builds(
    RoundAgreement,
    session=digests,
    plan_digest=digests,
    history=digests,
    noise=st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**60)),
    round_index=st.integers(0, 2**31),
    owners=st.just(OwnerSet()),
    nonces=st.just(()),
)
agreements = st.tuples(agreements, st.dictionaries(st.integers(0, 100), digests, max_size=5)).map(
    lambda parts: replace(
        parts[0], owners=OwnerSet.of(parts[1]), nonces=tuple(parts[1][position] for position in sorted(parts[1]))
    )
)


@given(agreements)
def test_agreements_survive_the_wire(agreement: RoundAgreement) -> None:
    assert RoundAgreement.from_bytes(agreement.to_bytes(), proposer="party-3") == agreement


@given(agreements, st.data())
def test_a_changed_byte_never_reads_as_the_same_agreement(agreement: RoundAgreement, data: st.DataObject) -> None:
    original = agreement.to_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        read = RoundAgreement.from_bytes(bytes(changed), proposer="party-3")
    except ProtocolError:
        return
    assert read != agreement


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="party-3"):
        RoundAgreement.from_bytes(data, proposer="party-3")


@given(agreements, st.sets(st.integers(0, 100)))
def test_a_restricted_agreement_keeps_each_owner_s_nonce(agreement: RoundAgreement, enrolled: set[int]) -> None:
    kept = agreement.restricted_to(OwnerSet.of(enrolled))
    before, after = dict(agreement.contributions()), dict(kept.contributions())
    assert after == {position: nonce for position, nonce in before.items() if position in enrolled}
    assert RoundAgreement.from_bytes(kept.to_bytes(), proposer="party-3") == kept


class _Mesh:
    """Answers every exchange with given payloads."""

    rank, size = 0, 2

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers

    def exchange(self, operation: str, payload: bytes | memoryview) -> tuple[bytes, ...]:
        return (bytes(payload), *self._answers)


def test_a_party_that_disagrees_is_named() -> None:
    check_same(_Mesh(b"same"), "plan", b"same", peers=("party-1", "party-2"))
    for other in (b"other", b"", b"same "):
        with pytest.raises(ProtocolError, match="party-2 disagrees on the plan"):
            check_same(_Mesh(other), "plan", b"same", peers=("party-1", "party-2"))


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_the_shares_of_all_parties_add_up_to_the_sum(parties: int) -> None:
    generator = np.random.default_rng(parties)
    vectors = {position: generator.integers(-(2**40), 2**40, size=7) for position in (0, 3, 4, 9)}
    keys = {position: [random_key() for _ in range(parties - 1)] for position in vectors}
    nonces = {
        position: mask_nonce(random_key(), session=b"s" * 32, round_index=3, encoded=vector)
        for position, vector in vectors.items()
    }
    agreement = RoundAgreement(
        session=b"s" * 32,
        plan_digest=b"p" * 32,
        history=b"h" * 32,
        noise=(bytes(16), 0),
        round_index=3,
        owners=OwnerSet.of(vectors),
        nonces=tuple(nonces.values()),
    )
    held = [{position: keys[position][rank] for position in vectors} for rank in range(parties - 1)]
    shares = [share_of_sum(agreement, keys_of_party, dimension=7) for keys_of_party in held]
    uploads = [SharedVector(last_share(vectors[name], keys[name], nonce=nonces[name])) for name in vectors]
    shares.append(SharedVector.total(uploads, dimension=7))
    np.testing.assert_array_equal(reconstruct(shares), sum(vectors.values()))
