"""CrypTen on our network and our randomness. This module and `crypten_backend` are the only ones that import CrypTen.

CrypTen keeps its communicator, its generators and its tuple provider in module globals, so a process runs one session
at a time. A session replaces

* the communicator: an opening is one frame to each peer over our mesh, and torch.distributed is never initialised;
* the randomness: CrypTen draws from torch's Mersenne Twister, whose seeds have 32 bits; in a session it draws from an
  AES-256 keystream of this party, and refuses to share zeros from seeds common to neighbours, which nothing needs;
* the provider: triples come from the dealer instead of the party of rank 0, which could then read every secret.
"""

import math
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

import numpy as np
import torch
from torch.distributed import ReduceOp

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import CorrelationSource, Mesh, Words
from mpcdp.mpc.common_coins import CommonCoins
from mpcdp.mpc.dealing import DealtCorrelations
from mpcdp.secret_sharing.randomness import KeyStream, random_key

__all__ = ["CryptenSession", "DealtTupleProvider", "MeshCommunicator", "crypten_session"]


@contextmanager
def _crypten_importable() -> Iterator[None]:
    """Let CrypTen 0.4.1 be imported: it names a module that newer torch moved, and has bad escapes in docstrings."""
    old_name = "torch.onnx._internal.registration"
    if find_spec(old_name) is None:
        sys.modules[old_name] = import_module("torch.onnx._internal.torchscript_exporter.registration")
    with warnings.catch_warnings():
        for category in (
            DeprecationWarning,
            SyntaxWarning,
        ):  # Python 3.11; 3.12 on. Only where nothing is compiled yet.
            warnings.filterwarnings("ignore", r".*invalid escape sequence", category, module=r".*crypten")
        yield


with _crypten_importable():
    import crypten
    from crypten.communicator import Communicator
    from crypten.mpc.primitives import BinarySharedTensor
    from crypten.mpc.provider.provider import TupleProvider

_CPU = torch.device("cpu")
_REDUCTIONS: dict[Any, tuple[str, Callable[..., Words]]] = {
    ReduceOp.SUM: ("crypten/sum", np.add),
    ReduceOp.BXOR: ("crypten/xor", np.bitwise_xor),
}
_session_lock = threading.Lock()


def _refuse(name: str, reason: str) -> Callable[..., NoReturn]:
    """Return a method that raises NotImplementedError."""

    def method(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(f"{name} is not available in a CrypTen session of mpcdp: {reason}")

    return method


class MeshCommunicator(Communicator):  # type: ignore[misc]  # CrypTen is untyped
    """CrypTen's communicator over a mesh: sums and XORs that every party learns, one round and one frame to each peer.

    CrypTen looks up ``crypten.communicator.DistributedCommunicator`` at each call and uses its class methods; an object
    of this class stands there instead, so that nothing outlives the session. All other collectives raise
    NotImplementedError.

    `get_communication_stats` counts rounds, payload bytes sent to all peers together, and seconds.

    Args:
        mesh: connects all parties of the session.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._initialized = False
        self.reset_communication_stats()

    def is_initialized(self) -> bool:
        """Return whether `crypten.init` has run."""
        return self._initialized

    def initialize(self, rank: int, world_size: int, init_ttp: bool = False) -> None:
        """Mark the communicator as ready; rank and size are the mesh's, whatever CrypTen passes."""
        if init_ttp:
            raise NotImplementedError("CrypTen's own trusted third party is not available: the dealer replaces it")
        self._initialized = True

    def shutdown(self) -> None:
        """Mark the communicator as closed; the mesh belongs to the caller."""
        self._initialized = False

    def get(self) -> "MeshCommunicator":
        """Return the communicator."""
        return self

    def get_rank(self) -> int:
        """Return this party's index."""
        return self._mesh.rank

    def get_world_size(self) -> int:
        """Return the number of parties."""
        return self._mesh.size

    def all_reduce(self, tensors: Any, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """Add or XOR tensors over all parties. One round, one frame of all tensors' bytes to each peer.

        Args:
            tensors: an int64 CPU tensor; if ``batched``, a list of them.
            op: SUM or BXOR.
            batched: whether ``tensors`` is a list.

        Returns:
            New tensors of the same shapes.

        Raises:
            ProtocolError: a peer's frame has another length.
            PeerError: a peer is gone or late.
        """
        if op not in _REDUCTIONS:
            raise NotImplementedError(f"only SUM and BXOR are opened in a CrypTen session of mpcdp, not {op}")
        parts: Sequence[torch.Tensor] = tensors if batched else [tensors]
        if any(part.dtype != torch.int64 for part in parts):
            raise TypeError("only int64 tensors are opened in a CrypTen session of mpcdp")
        words = [part.contiguous().numpy().reshape(-1) for part in parts]
        total = torch.from_numpy(self._reduce(words[0] if len(words) == 1 else np.concatenate(words), op))
        pieces = torch.split(total, [part.numel() for part in parts])
        results = [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]
        return results if batched else results[0]

    def _reduce(self, frame: Words, op: Any) -> Words:
        """Exchange a frame, shape (n,), and combine all parties' frames into a new array.

        The frame itself is never written to: the mesh may still be sending it when the peers' frames have arrived.
        """
        operation, combine = _REDUCTIONS[op]
        start = time.perf_counter()
        received = self._mesh.exchange(operation, frame.view(np.uint8).data)
        self.comm_time += time.perf_counter() - start
        self.comm_rounds += 1
        self.comm_bytes += frame.nbytes * (self._mesh.size - 1)
        total: Words | None = None
        for rank, payload in enumerate(received):
            if rank == self._mesh.rank:
                continue
            if len(payload) != frame.nbytes:
                raise ProtocolError(
                    f"compute party {rank} sent {len(payload)} bytes at the step {operation!r} instead of "
                    f"{frame.nbytes}; run the same release of mpcdp and the same task at all compute parties"
                )
            peer = np.frombuffer(payload, dtype="<i8")
            total = combine(frame, peer) if total is None else combine(total, peer, out=total)
        if total is None:
            raise ProtocolError("an opening needs at least two compute parties")
        return total


for _name in (
    *("send", "recv", "isend", "irecv", "scatter", "reduce", "gather", "all_gather", "broadcast", "barrier"),
    *("send_obj", "recv_obj", "broadcast_obj", "get_ttp_rank", "get_distributed_backend", "set_name", "get_name"),
):
    setattr(MeshCommunicator, _name, _refuse(_name, "its parties only open sums and XORs to all"))


class DealtTupleProvider(TupleProvider):  # type: ignore[misc]  # CrypTen is untyped
    """CrypTen's source of correlated randomness: this party's shares of what the dealer dealt, each used once.

    CrypTen itself asks for the triples of its own AND, `BinarySharedTensor.__and__`. Nothing is dealt for
    multiplications, comparisons or truncations; they raise NotImplementedError.

    Args:
        correlations: what the dealer sent, or None in a session without a dealer.
    """

    NAME = "mpcdp"

    def __init__(self, correlations: DealtCorrelations | None) -> None:
        super().__init__()
        self._correlations = correlations

    @property
    def dealt(self) -> DealtCorrelations:
        """What the dealer dealt.

        Raises:
            RuntimeError: the session has no dealer.
        """
        if self._correlations is None:
            raise RuntimeError("this CrypTen session was opened without a dealer's correlations")
        return self._correlations

    def supply(self, correlations: DealtCorrelations) -> None:
        """Hand out another batch from now on."""
        self._correlations = correlations

    def generate_binary_triple(self, size0: Any, size1: Any, device: Any = None) -> tuple[Any, Any, Any]:
        """Return XOR shares of (a, b, c) with c = a & b and a, b uniform, each of the shape ``size0``.

        Raises:
            ValueError: ``size1`` differs; shapes are not broadcast.
            ProtocolError: the dealer sent too few corrections.
        """
        if tuple(size0) != tuple(size1):
            raise ValueError(f"a triple has one shape, not {tuple(size0)} and {tuple(size1)}")
        (left, right), (product,) = self.dealt.products(1, math.prod(size0))
        a, b, c = (
            BinarySharedTensor.from_shares(torch.from_numpy(share.reshape(size0)), precision=0)
            for share in (left, right, product)
        )
        return a, b, c


for _name in ("generate_additive_triple", "square", "wrap_rng", "trace", "fill_cache", "save_cache", "load_cache"):
    setattr(DealtTupleProvider, _name, _refuse(_name, "the dealer deals what CryptenBackend uses"))
DealtTupleProvider.B2A_rng = _refuse("B2A_rng", "it opens 64 times too much; use CryptenBackend.unmask")


class _SharedGenerators(dict[torch.device, KeyStream]):
    """Stands where CrypTen keeps generators whose seeds several parties know; refuses every look-up."""

    def __missing__(self, device: torch.device) -> KeyStream:
        raise NotImplementedError(
            "CrypTen's sharings of zero are not available in a CrypTen session of mpcdp: make tensors from_shares"
        )


def _ring_words(size: Any, ring_size: int = 2**64, generator: KeyStream | None = None, **_: Any) -> torch.Tensor:
    """Draw uniform ring elements; stands where CrypTen has ``generate_random_ring_element``."""
    if ring_size != 2**64:
        raise NotImplementedError("only the ring of 64-bit words is available in a CrypTen session of mpcdp")
    stream: KeyStream = generator or crypten.generators["local"][_CPU]
    return torch.from_numpy(stream.words(math.prod(size)).reshape(tuple(size)))


def _kbit_words(size: Any, bitlength: int | None = None, generator: KeyStream | None = None, **_: Any) -> torch.Tensor:
    """Draw uniform numbers of some bits; stands where CrypTen has ``generate_kbit_random_tensor``."""
    words = _ring_words(size, generator=generator)
    return words if bitlength in (None, 64) else words & ((1 << bitlength) - 1)


@dataclass(frozen=True)
class CryptenSession:
    """What one party holds while CrypTen runs on its mesh.

    Args:
        communicator: opens values; counts rounds, bytes and seconds.
        provider: hands out the dealer's correlations.
        coins: random words that are public among the parties.
    """

    communicator: MeshCommunicator
    provider: DealtTupleProvider
    coins: CommonCoins


def _replacements(session: CryptenSession) -> Iterator[tuple[Any, str, object]]:
    """Yield what a session puts in the place of CrypTen's globals: (owner, name, value)."""
    yield crypten.communicator, "DistributedCommunicator", session.communicator
    yield crypten.mpc, "get_default_provider", lambda: session.provider
    yield crypten, "_setup_prng", lambda: None
    shared = _SharedGenerators()
    local = {_CPU: KeyStream(random_key())}
    yield crypten, "generators", {"prev": shared, "next": shared, "global": shared, "local": local}
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("crypten")]
    for name, value in (("generate_random_ring_element", _ring_words), ("generate_kbit_random_tensor", _kbit_words)):
        original = getattr(crypten.common.rng, name)
        for module in modules:
            if vars(module).get(name) is original:
                yield module, name, value


@contextmanager
def crypten_session(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[CryptenSession]:
    """Run CrypTen over a mesh until the context ends; then put everything back. No communication yet.

    Torch computes on one thread meanwhile: all parties of a demo share a machine, and words are small.

    Args:
        mesh: connects all parties of the session.
        correlations: what the dealer sent to this party; None if nothing in the session needs a dealer.

    Raises:
        RuntimeError: CrypTen is already in use in this process.
    """
    if not _session_lock.acquire(blocking=False):
        raise RuntimeError("CrypTen already runs a session in this process; use a process for each session")
    with ExitStack() as stack:
        stack.callback(_session_lock.release)
        if crypten.is_initialized():
            raise RuntimeError("CrypTen was initialised by other code in this process; use a process for each session")
        dealt = None if correlations is None else DealtCorrelations(correlations, rank=mesh.rank)
        session = CryptenSession(MeshCommunicator(mesh), DealtTupleProvider(dealt), CommonCoins(mesh))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        for owner, name, value in _replacements(session):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        crypten.init()
        stack.callback(crypten.uninit)
        yield session
