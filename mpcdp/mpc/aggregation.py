"""What compute parties agree on before they add up and reveal a round."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.secret_sharing.additive import NONCE_BYTES, mask_share
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import SharedVector

__all__ = ["RoundAgreement", "check_same", "share_of_sum"]

_LAYOUT = struct.Struct("<16s32s32s32s16sQQI")
_DOMAIN = b"mpcdp/round/3\0\0\0"


@dataclass(frozen=True)
class RoundAgreement:
    """What a round's release will be made of: everything that must be equal at all parties.

    Args:
        session: session id, 32 bytes.
        plan_digest: SHA-256 of the plan, which fixes mechanism, scale and noise; 32 bytes.
        history: digest of the releases before this round; 32 bytes.
        noise: which joint noise the session has: id of the parties' pools, 16 bytes, and its first position in them;
            zeros when every party samples its own.
        round_index: the round, which is also the index of its noise: noise number t serves round t and no other.
        owners: the owners in the sum.
        nonces: of their masks, in the order of their positions; 32 bytes each.
    """

    session: bytes
    plan_digest: bytes
    history: bytes
    noise: tuple[bytes, int]
    round_index: int
    owners: OwnerSet
    nonces: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical form: equal agreements have equal bytes."""
        bitmap = self.owners.to_bytes()
        head = _LAYOUT.pack(
            _DOMAIN, self.session, self.plan_digest, self.history, *self.noise, self.round_index, len(bitmap)
        )
        return b"".join((head, bitmap, *self.nonces))

    @classmethod
    def from_bytes(cls, data: bytes, *, proposer: str) -> "RoundAgreement":
        """Read what another party proposes.

        Raises:
            ProtocolError: the bytes are not the canonical form of an agreement.
        """
        try:
            domain, session, plan_digest, history, bank, first, round_index, length = _LAYOUT.unpack_from(data)
            start = _LAYOUT.size + length
            owners = OwnerSet.from_bytes(data[_LAYOUT.size : start])
        except (struct.error, ValueError) as error:
            raise ProtocolError(f"{proposer} sent a malformed round agreement") from error
        nonces = tuple(data[at : at + NONCE_BYTES] for at in range(start, len(data), NONCE_BYTES))
        if domain != _DOMAIN or len(data) != start + NONCE_BYTES * len(owners):
            raise ProtocolError(f"{proposer} sent a malformed round agreement")
        return cls(session, plan_digest, history, (bank, first), round_index, owners, nonces)

    def restricted_to(self, enrolled: OwnerSet) -> "RoundAgreement":
        """Leave out the owners that are not in a set."""
        kept = self.owners & enrolled
        nonces = tuple(nonce for position, nonce in self.contributions() if position in kept)
        return replace(self, owners=kept, nonces=nonces)

    def contributions(self) -> Iterator[tuple[int, bytes]]:
        """Yield each owner's position and nonce."""
        return zip(self.owners, self.nonces, strict=True)


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


def share_of_sum(agreement: RoundAgreement, keys: Mapping[int, bytes], *, dimension: int) -> SharedVector:
    """Add up the pseudo-random shares that a party other than the last holds of a round. No communication.

    Args:
        agreement: the round's owners and nonces.
        keys: this party's mask key of each owner, by position.
        dimension: number of coordinates d.
    """
    shares = (
        mask_share(keys[position], nonce=nonce, dimension=dimension) for position, nonce in agreement.contributions()
    )
    return SharedVector.total(shares, dimension=dimension)
