"""What the compute parties' pools have in common: positions, batches, and how parties with different ones agree.

Everything here is a plain value; `pool` keeps it on disk and `filling` carries it between the parties.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mpcdp.errors import ProtocolError

__all__ = ["BLOCK_SAMPLES", "ID_BYTES", "Batch", "NoiseRange", "PoolState", "agree", "whole_blocks"]

BLOCK_SAMPLES = 1024
"""Samples that share a checksum; every range begins and ends at whole blocks."""

ID_BYTES = 16

_END = 1 << 60
"""No position reaches it."""

_HEAD = struct.Struct("<16sQQQQI")
_BATCH = struct.Struct("<QQ16s")
_CURE = "run `mpcdp noise discard` at every compute party, and fill the pools again"


def whole_blocks(samples: int) -> int:
    """Return the number of samples in the fewest whole blocks that hold so many."""
    return -(-samples // BLOCK_SAMPLES) * BLOCK_SAMPLES


@dataclass(frozen=True)
class NoiseRange:
    """A session's samples.

    Args:
        bank: id of the pools, the same at all parties, 16 bytes.
        start: first position.
        count: number of samples, of whole blocks.
    """

    bank: bytes
    start: int
    count: int

    @property
    def end(self) -> int:
        """First position after it."""
        return self.start + self.count


@dataclass(frozen=True, order=True)
class Batch:
    """Samples that all parties made together.

    Args:
        start: first position.
        count: number of samples, of whole blocks.
        name: id that the parties derived for it from fresh randomness of all of them, 16 bytes.

    Raises:
        ValueError: it does not consist of whole blocks, or the id has another length.
    """

    start: int
    count: int
    name: bytes

    def __post_init__(self) -> None:
        if self.start % BLOCK_SAMPLES or self.count % BLOCK_SAMPLES or self.start < 0 or self.count < 1:
            raise ValueError("a batch consists of whole blocks")
        if len(self.name) != ID_BYTES:
            raise ValueError(f"the id of a batch has {ID_BYTES} bytes, not {len(self.name)}")

    @property
    def end(self) -> int:
        """First position after it."""
        return self.start + self.count


@dataclass(frozen=True)
class PoolState:
    """What the parties compare before they use their pools.

    Args:
        bank: id of the pool, 16 bytes; empty before it has one.
        next: first position that no session has reserved.
        made: first position that no batch, finished or not, ever had.
        batches: those that are ready, in order.
        reserved: start and count of the range of the session that asks; None if it has none, or none asks.

    Raises:
        ValueError: the figures contradict each other.
    """

    bank: bytes = b""
    next: int = 0
    made: int = 0
    batches: tuple[Batch, ...] = ()
    reserved: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        ends = [0, *(batch.end for batch in self.batches)]
        starts = [*(batch.start for batch in self.batches), self.made]
        if self.next % BLOCK_SAMPLES or self.made % BLOCK_SAMPLES or not 0 <= self.next <= self.made < _END:
            raise ValueError("positions of a pool are at whole blocks, and only made ones are reserved")
        if any(start < end for end, start in zip(ends, starts, strict=True)):
            raise ValueError("the batches of a pool do not overlap and are in order")
        if len(self.bank) not in (0, ID_BYTES):
            raise ValueError(f"the id of a pool has {ID_BYTES} bytes, not {len(self.bank)}")

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever made in this pool."""
        return self.made == 0

    @property
    def ready(self) -> int:
        """Number of samples in ready batches, reserved or not."""
        return sum(batch.count for batch in self.batches)

    @property
    def free(self) -> int:
        """Number of samples that no session has reserved."""
        return sum(end - start for start, end in self._runs())

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield the free ranges without a gap, in order."""
        start = end = self.next
        for batch in self.batches:
            if batch.start > end:
                if end > start:
                    yield start, end
                start = batch.start
            end = max(end, batch.end)
        if end > start:
            yield start, end

    def place(self, samples: int) -> int | None:
        """Return the first position of the first free range that holds so many samples; None if there is none."""
        return next((start for start, end in self._runs() if end - start >= samples), None)

    def missing(self, samples: int) -> int:
        """Return how many samples have to be made before `place` finds room for so many; whole blocks."""
        if self.place(samples) is not None:
            return 0
        last = max((end - start for start, end in self._runs() if end == self.made), default=0)
        return whole_blocks(samples) - last

    def covers(self, start: int, end: int) -> bool:
        """Tell whether ready batches hold a whole range."""
        held = sum(max(0, min(batch.end, end) - max(batch.start, start)) for batch in self.batches)
        return held == end - start

    def to_bytes(self) -> bytes:
        """Return the canonical form."""
        head = _HEAD.pack(self.bank, self.next, self.made, *(self.reserved or (0, 0)), len(self.batches))
        return head + b"".join(_BATCH.pack(batch.start, batch.count, batch.name) for batch in self.batches)

    @classmethod
    def from_bytes(cls, data: bytes, *, sender: str) -> "PoolState":
        """Read what another party sent.

        Raises:
            ProtocolError: the bytes are not the canonical form of a state.
        """
        try:
            bank, following, made, start, count, batches = _HEAD.unpack_from(data)
            rows = [Batch(*fields) for fields in _BATCH.iter_unpack(data[_HEAD.size :])]
            state = cls(
                bank=b"" if bank == bytes(ID_BYTES) else bank,
                next=following,
                made=made,
                batches=tuple(rows),
                reserved=(start, count) if count else None,
            )
        except (struct.error, ValueError) as error:
            raise ProtocolError(f"{sender} sent a malformed state of its noise pool") from error
        if len(rows) != batches:
            raise ProtocolError(f"{sender} sent a malformed state of its noise pool")
        return state


def agree(states: Sequence[PoolState], names: Sequence[str], *, fresh_bank: Callable[[], bytes]) -> PoolState:
    """Compute the one state that pools in different states go on from. Every party computes the same.

    Positions never go back: the farthest that any party knows of counts for all, so a party that was restored from an
    older copy brings no used noise back. What not all parties have, a batch or a session's range, is nobody's.

    Args:
        states: the parties', by rank.
        names: the parties', by rank.
        fresh_bank: derives an id for pools in which nothing was ever made.

    Raises:
        ProtocolError: the pools do not belong together.
    """
    used = next((rank for rank, state in enumerate(states) if not state.untouched), None)
    if used is None:
        return PoolState(bank=fresh_bank())
    bank = states[used].bank
    for state, name in zip(states, names, strict=True):
        if state.bank != bank:
            problem = "has lost the noise pool it shared with" if state.untouched else "has another noise pool than"
            raise ProtocolError(f"{name} {problem} {names[used]}: {_CURE}")
    common = set.intersection(*(set(state.batches) for state in states))
    agreed = PoolState(
        bank=bank,
        next=max(state.next for state in states),
        made=max(state.made for state in states),
        batches=tuple(sorted(common)),
    )
    ranges = {state.reserved for state in states}
    reserved = ranges.pop() if len(ranges) == 1 else None
    if reserved is None or not agreed.covers(reserved[0], sum(reserved)):
        return agreed
    return PoolState(agreed.bank, agreed.next, agreed.made, agreed.batches, reserved)
