"""The uploads of very many owners, without the network: what of a session grows with the owners, in one process."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from mpcdp.bench.report import peak_memory_mib
from mpcdp.secret_sharing.additive import NONCE_BYTES, mask_share
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.randomness import KEY_BYTES
from mpcdp.secret_sharing.shares import SharedVector
from mpcdp.transport import codec
from mpcdp.transport.channel import Limits
from mpcdp.transport.messages import SessionRef, Upload
from mpcdp.transport.reader import Reader

__all__ = ["LEFT_OUT", "Simulation", "simulate_uploads"]

LEFT_OUT = (
    "sockets, TLS and gRPC on both sides; the owners' own work; enrolments and what is written to disk for them; the "
    "locks of a process that many call at once; noise, binding and reveal, which hardly grow with the owners"
)
_BATCH = 1000


@dataclass(frozen=True)
class Simulation:
    """What it takes to read and add the uploads of some owners; times are a processor's, whatever else it does.

    Args:
        owners: number of owners m.
        dimension: number of coordinates d.
        last_party_seconds: at the party that gets the uploads: each is read from its messages by the transport's own
            reader, checked and kept until all are there, then all are added up.
        other_party_seconds: at every other party: the owners' masks are computed from their keys, and added up.
        peak_memory_mib: largest size of this process, all uploads kept.
    """

    owners: int
    dimension: int
    last_party_seconds: float
    other_party_seconds: float
    peak_memory_mib: float

    @property
    def seconds(self) -> float:
        """The longer one: the parties work at the same time, each on a machine of its own."""
        return max(self.last_party_seconds, self.other_party_seconds)

    def as_dict(self) -> dict[str, float]:
        """Return everything, for JSON."""
        return asdict(self) | {"seconds": self.seconds}


def simulate_uploads(*, owners: int, dimension: int) -> Simulation:
    """Do what compute parties do with the uploads of a round.

    Args:
        owners: number of owners m.
        dimension: number of coordinates d.

    Raises:
        ValueError: what was added up is not the sum of what was sent.
    """
    ref = SessionRef(task_digest=bytes(32), session=secrets.token_bytes(32))
    limits = Limits(
        dimension=dimension,
        connect_seconds=1.0,
        call_seconds=1.0,
        prepare_seconds=1.0,
        message_seconds=1.0,
        session_seconds=1.0,
    )
    values = np.arange(dimension, dtype=np.int64)
    kept: dict[int, Upload] = {}
    seconds = 0.0
    for first in range(0, owners, _BATCH):
        # The owners' part is not measured.
        batch = list(_uploads(ref, values, first, min(first + _BATCH, owners)))
        begin = time.process_time()
        for position, (name, messages) in enumerate(batch, first):
            kept[position] = codec.read_upload(Reader(name, messages, limits))
        seconds += time.process_time() - begin
    begin = time.process_time()
    total = SharedVector.total(
        (SharedVector(kept[position].values) for position in OwnerSet.of(kept)), dimension=dimension
    )
    seconds += time.process_time() - begin
    if not np.array_equal(total.values, owners * values):
        raise ValueError("the uploads do not add up to what was sent: this is a bug")
    return Simulation(owners, dimension, seconds, _mask_seconds(owners, dimension), peak_memory_mib())


def _uploads(ref: SessionRef, values: np.ndarray, first: int, end: int) -> Iterator[tuple[str, list[bytes]]]:
    for position in range(first, end):
        upload = Upload(
            ref=ref,
            owner=f"owner-{position}",
            round_index=0,
            history=bytes(32),
            nonce=secrets.token_bytes(NONCE_BYTES),
            values=values,
        )
        yield upload.owner, list(codec.write_upload(upload))


def _mask_seconds(owners: int, dimension: int) -> float:
    keys = [(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)) for _ in range(owners)]
    begin = time.process_time()
    SharedVector.total((mask_share(key, nonce=nonce, dimension=dimension) for key, nonce in keys), dimension=dimension)
    return time.process_time() - begin
