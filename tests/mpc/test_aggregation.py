"""What parties agree on before a reveal, and the shares they add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.errors import ProtocolError
from mpcdp.mpc.aggregation import RoundAgreement, check_same, share_of_sum
from mpcdp.secret_sharing.additive import last_share, mask_nonce, reconstruct
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.secret_sharing.shares import SharedVector

digests = st.binary(min_size=32, max_size=32)
agreements = st.builds(
    RoundAgreement,
    session=digests,
    round_index=st.integers(0, 2**31),
    plan_digest=digests,
    model_digest=digests,
    owners=st.lists(st.tuples(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), digests), max_size=5).map(tuple),
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
    vectors = {f"owner-{i}": generator.integers(-(2**40), 2**40, size=7) for i in range(4)}
    keys = {name: [random_key() for _ in range(parties - 1)] for name in vectors}
    nonces = {
        name: mask_nonce(random_key(), session=b"s" * 32, round_index=3, encoded=vector)
        for name, vector in vectors.items()
    }
    agreement = RoundAgreement(
        session=b"s" * 32, round_index=3, plan_digest=b"p" * 32, model_digest=b"m" * 32, owners=tuple(nonces.items())
    )
    held = [{name: keys[name][rank] for name in vectors} for rank in range(parties - 1)]
    shares = [share_of_sum(agreement, keys_of_party, dimension=7) for keys_of_party in held]
    uploads = [SharedVector(last_share(vectors[name], keys[name], nonce=nonces[name])) for name in vectors]
    shares.append(SharedVector.total(uploads, dimension=7))
    np.testing.assert_array_equal(reconstruct(shares), sum(vectors.values()))
