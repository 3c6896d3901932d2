"""CrypTen's own samplers, as they come, over our mesh: to be timed beside ours, and for nothing else.

What they return must never protect anything. Their provider lets the party of rank 0 read every secret, their
generators have seeds of 32 bits, and their laws are not what they are called (`randn` has a variance of 1.03 and wrong
tails, 2^-16 of the logarithms are of zero). So the names here end in ``Unsafe`` or ``unsafe``, only the benchmark
imports this module, and it runs before or after a `mpcdp.mpc.crypten_session`, never within one.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.crypten_session import MeshCommunicator
from mpcdp.secret_sharing.shares import RingVector

# isort: split
# CrypTen can be imported only after `crypten_session` has prepared torch for it.
import crypten

__all__ = ["BASELINE_SCALE", "BaselineCommunicatorUnsafe", "crypten_baseline_unsafe", "laplace_unsafe", "randn_unsafe"]

BASELINE_SCALE = 2**16
"""CrypTen's fixed point: a value is the sum of all shares divided by this."""


class _Done:
    """A transfer that is over."""

    def wait(self) -> None:
        """Return at once."""


class BaselineCommunicatorUnsafe(MeshCommunicator):
    """The communicator with what CrypTen needs besides openings: to agree on seeds, and to truncate among three.

    The mesh sends one payload to all peers. So seeds reach every party instead of one, and shares that are scattered or
    gathered take the bytes of as many broadcasts; among two parties there is nothing to scatter or gather.
    """

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(mesh)
        self._outgoing: torch.Tensor | None = None

    def isend(self, tensor: torch.Tensor, dst: int) -> _Done:
        """Keep a tensor until `irecv`, with which it makes one round."""
        self._outgoing = tensor
        return _Done()

    def irecv(self, tensor: torch.Tensor, src: int) -> _Done:
        """Exchange what `isend` kept, and fill ``tensor`` with what ``src`` kept. One round."""
        outgoing, self._outgoing = self._outgoing, None
        tensor.copy_(self._exchange("send", outgoing, (src,), tensor)[0])
        return _Done()

    def broadcast(self, tensor: torch.Tensor, src: int) -> torch.Tensor:
        """Return the tensor of ``src`` to all. One round."""
        return self._exchange("broadcast", tensor if self.get_rank() == src else None, (src,), tensor)[0]

    def scatter(
        self, tensors: Sequence[torch.Tensor], src: int, size: object = None, device: object = None
    ) -> torch.Tensor:
        """Return the tensor that ``src`` has at this party's place in its list. One round, the list to everybody."""
        others = torch.stack([tensor for rank, tensor in enumerate(tensors) if rank != src])
        received = self._exchange("scatter", others if self.get_rank() == src else None, (src,), others)
        if self.get_rank() == src:
            return tensors[src]
        return received[0][self.get_rank() - (self.get_rank() > src)]

    def gather(self, tensor: torch.Tensor, dst: int) -> list[torch.Tensor | None]:
        """Return every party's tensor, in order of rank, to ``dst``. One round, every other party's to everybody."""
        senders = [rank for rank in range(self.get_world_size()) if rank != dst]
        received = self._exchange("gather", None if self.get_rank() == dst else tensor, senders, tensor)
        if self.get_rank() != dst:
            return [None]
        return [*received[:dst], tensor, *received[dst:]]

    def _exchange(
        self, operation: str, outgoing: torch.Tensor | None, senders: Sequence[int], like: torch.Tensor
    ) -> list[torch.Tensor]:
        """Send a tensor, or nothing, to all; return what the senders sent, shaped like ``like``. One round."""
        payload = np.empty(0, dtype=np.int64) if outgoing is None else outgoing.contiguous().numpy().reshape(-1)
        start = time.perf_counter()
        received = self._mesh.exchange(f"crypten/{operation}", payload.view(np.uint8).data)
        self.comm_time += time.perf_counter() - start
        self.comm_rounds += 1
        self.comm_bytes += payload.nbytes * (self.get_world_size() - 1)
        for sender in senders:
            if len(received[sender]) != 8 * like.numel():
                raise ProtocolError(
                    f"compute party {sender} sent {len(received[sender])} bytes to CrypTen's {operation}"
                )
        return [
            torch.from_numpy(np.frombuffer(received[sender], dtype=np.int64).copy()).view(like.shape)
            for sender in senders
        ]


@contextmanager
def crypten_baseline_unsafe(mesh: Mesh) -> Iterator[BaselineCommunicatorUnsafe]:
    """Run CrypTen as it comes, but over a mesh, until the context ends; then put everything back. Two rounds.

    As in a `crypten_session`, torch computes on one thread.

    Args:
        mesh: connects all parties.

    Raises:
        RuntimeError: a session of ours, or other code, uses CrypTen in this process.
    """
    if crypten.is_initialized():
        raise RuntimeError("CrypTen is in use in this process: its own samplers are for comparison, outside a session")
    communicator = BaselineCommunicatorUnsafe(mesh)
    generators: dict[str, dict[torch.device, Any]] = {name: {} for name in crypten.generators}
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        for owner, name, value in (
            (crypten.communicator, "DistributedCommunicator", communicator),
            (crypten, "generators", generators),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        stack.enter_context(crypten.cfg.temp_override({"mpc.provider": "TFP", "mpc.protocol": "beaver"}))
        crypten.init()
        stack.callback(crypten.uninit)
        communicator.reset_communication_stats()
        yield communicator


def randn_unsafe(count: int) -> RingVector:
    """Share CrypTen's normal samples, shape (count,), in units of 1 / `BASELINE_SCALE`."""
    return _share(crypten.randn(count))


def laplace_unsafe(count: int) -> RingVector:
    """Share -log(u) times a sign, shape (count,), in units of 1 / `BASELINE_SCALE`, from CrypTen's uniform samples.

    The sign is a second uniform sample compared with 1/2, as one would write it. (A converted random bit would do, and
    save 8 of 43 rounds and 39 % of the bytes between two parties.)
    """
    magnitude = -crypten.rand(count).log(input_in_01=True)
    sign = 2 * (crypten.rand(count) > 0.5) - 1
    return _share(magnitude * sign)


def _share(tensor: Any) -> RingVector:
    share: RingVector = tensor.share.numpy()
    return share
