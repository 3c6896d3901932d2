"""What compute parties agree on before they add up and reveal a round."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.secret_sharing.additive import NONCE_BYTES, mask_share
from mpcdp.secret_sharing.shares import SharedVector

__all__ = ["RoundAgreement", "check_same", "share_of_sum"]


@dataclass(frozen=True)
class RoundAgreement:
    """What a round's release will be made of: everything that must be equal at all parties.

    Args:
        session: session id.
        round_index: the round, which is also the index of its noise: noise number t serves round t and no other.
        plan_digest: SHA-256 of the plan, which fixes mechanism, scale and noise.
        model_digest: SHA-256 of the model that owners computed their contributions for.
        owners: (name, nonce of the masks) of each owner in the sum, in the task's order.
    """

    session: bytes
    round_index: int
    plan_digest: bytes
    model_digest: bytes
    owners: tuple[tuple[str, bytes], ...]

    @property
    def owner_names(self) -> tuple[str, ...]:
        """The owners in the sum."""
        return tuple(name for name, _ in self.owners)

    def to_bytes(self) -> bytes:
        """Return the canonical form: equal agreements have equal bytes."""
        document = {
            "session": self.session.hex(),
            "round": self.round_index,
            "plan": self.plan_digest.hex(),
            "model": self.model_digest.hex(),
            "owners": [[name, nonce.hex()] for name, nonce in self.owners],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, proposer: str) -> "RoundAgreement":
        """Read what another party proposes.

        Raises:
            ProtocolError: the bytes are not the canonical form of an agreement.
        """
        try:
            document = json.loads(data)
            agreement = cls(
                session=bytes.fromhex(document["session"]),
                round_index=int(document["round"]),
                plan_digest=bytes.fromhex(document["plan"]),
                model_digest=bytes.fromhex(document["model"]),
                owners=tuple((str(name), bytes.fromhex(nonce)) for name, nonce in document["owners"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ProtocolError(f"{proposer} sent a malformed round agreement") from error
        if agreement.to_bytes() != data or any(len(nonce) != NONCE_BYTES for _, nonce in agreement.owners):
            raise ProtocolError(f"{proposer} sent a round agreement that is not in canonical form")
        return agreement


def check_same(mesh: Mesh, operation: str, digest: bytes, *, peers: Sequence[str]) -> None:
    """Compare a digest with every other party's. One round.

    Args:
        mesh: the parties.
        operation: what is compared, such as ``"plan"`` or ``"commit"``.
        digest: this party's.
        peers: names by rank, for the error.

    Raises:
        ProtocolError: a party holds another value; nothing has been revealed.
    """
    for name, theirs in zip(peers, mesh.exchange(operation, digest), strict=True):
        if bytes(theirs) != digest:
            raise ProtocolError(
                f"{name} disagrees on the {operation}: run the same version of mpcdp with the same task"
            )


def share_of_sum(agreement: RoundAgreement, keys: Mapping[str, bytes], *, dimension: int) -> SharedVector:
    """Add up the pseudo-random shares that a party other than the last holds of a round. No communication.

    Args:
        agreement: the round's owners and nonces.
        keys: this party's mask key of each owner.
        dimension: number of coordinates d.
    """
    total = SharedVector.total([], dimension=dimension)
    for owner, nonce in agreement.owners:
        share = mask_share(keys[owner], nonce=nonce, dimension=dimension)
        total = SharedVector.total([total, share], dimension=dimension)
    return total
