"""A set of a task's owners, as small as it can be: sums, releases and agreements all carry one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["OWNER_LIMIT", "OwnerSet"]

OWNER_LIMIT = 2**20
"""Most owners a task may have; bounds the size of a set on the wire to 128 KiB."""


@dataclass(frozen=True)
class OwnerSet:
    """Some of the owners of a task, by their position in its list.

    Args:
        bits: bit i is set when the owner at position i is in the set.

    Raises:
        ValueError: a position is negative or at least `OWNER_LIMIT`.
    """

    bits: int = 0

    def __post_init__(self) -> None:
        if self.bits < 0 or self.bits.bit_length() > OWNER_LIMIT:
            raise ValueError(f"positions of owners are 0 to {OWNER_LIMIT - 1}")

    @classmethod
    def of(cls, positions: Iterable[int]) -> "OwnerSet":
        """Make a set of positions; the order does not matter."""
        bitmap = bytearray()
        for position in positions:
            if not 0 <= position < OWNER_LIMIT:
                raise ValueError(f"positions of owners are 0 to {OWNER_LIMIT - 1}, not {position}")
            if position // 8 >= len(bitmap):
                bitmap.extend(bytes(position // 8 + 1 - len(bitmap)))
            bitmap[position // 8] |= 1 << position % 8
        return cls(int.from_bytes(bitmap, "little"))

    @classmethod
    def from_bytes(cls, bitmap: bytes) -> "OwnerSet":
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: too long, or not the shortest form.
        """
        if len(bitmap) > OWNER_LIMIT // 8 or bitmap.endswith(b"\0"):
            raise ValueError("the bitmap of owners is too long or ends with zeros")
        return cls(int.from_bytes(bitmap, "little"))

    def to_bytes(self) -> bytes:
        """Return the bitmap, position 0 in the lowest bit of the first byte, without zero bytes at its end."""
        return self.bits.to_bytes(-(-self.bits.bit_length() // 8), "little")

    def __iter__(self) -> Iterator[int]:
        """Yield the positions in ascending order."""
        for index, byte in enumerate(self.to_bytes()):
            for bit in range(8):
                if byte >> bit & 1:
                    yield 8 * index + bit

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __and__(self, other: "OwnerSet") -> "OwnerSet":
        return OwnerSet(self.bits & other.bits)

    def __or__(self, other: "OwnerSet") -> "OwnerSet":
        return OwnerSet(self.bits | other.bits)

    def __sub__(self, other: "OwnerSet") -> "OwnerSet":
        return OwnerSet(self.bits & ~other.bits)

    def __le__(self, other: "OwnerSet") -> bool:
        return self.bits & other.bits == self.bits

    def __contains__(self, position: int) -> bool:
        return position >= 0 and bool(self.bits >> position & 1)
