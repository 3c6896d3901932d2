"""Public coins of the compute parties: random bits that all of them know and the dealer does not."""

import hashlib

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import Mesh, Words
from mpcdp.secret_sharing.randomness import KEY_BYTES, KeyStream, derive_key, random_key

__all__ = ["CommonCoins"]


class CommonCoins:
    """Random words that are equal at all parties; a key is agreed on when the first are drawn.

    The key is HKDF over a fresh contribution of 32 bytes from every party, sent over the parties' own mesh. It lives as
    long as this object, so no two sessions have the same coins.

    Args:
        mesh: connects all parties, and nobody else reads it. The first draw takes one round.

    Guarantees:
        Uniform to whoever does not read the mesh, the dealer above all: the key is fresh if one contribution is.
        Every compute party knows them, so what they mask must be hidden from parties by something else.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._stream: KeyStream | None = None

    def __repr__(self) -> str:
        return "CommonCoins(<redacted>)"

    def words(self, count: int) -> Words:
        """Return the next ``count`` words, shape (count,), equal at all parties.

        Raises:
            ProtocolError: a peer's contribution does not have 32 bytes.
            PeerError: a peer is gone or late.
        """
        if self._stream is None:
            self._stream = KeyStream(self._agree())
        return self._stream.words(count)

    def _agree(self) -> bytes:
        contributions = [bytes(each) for each in self._mesh.exchange("coins", random_key())]
        for rank, contribution in enumerate(contributions):
            if len(contribution) != KEY_BYTES:
                raise ProtocolError(
                    f"compute party {rank} contributed {len(contribution)} bytes to the common coins instead of "
                    f"{KEY_BYTES}; run the same release of mpcdp at all compute parties"
                )
        salt = hashlib.sha256(b"mpcdp/1/coins" + len(contributions).to_bytes(8, "big")).digest()
        return derive_key(b"".join(contributions), salt=salt, purpose="common coins")
