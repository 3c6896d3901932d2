import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcdp.errors import ProtocolError
from mpcdp.mpc.crypten_session import DealtTupleProvider, MeshCommunicator, crypten_session
from mpcdp.mpc.dealing import ReceivedCorrelations

# isort: split
import crypten
import crypten.communicator.distributed_communicator as original
import torch
from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor, beaver
from torch.distributed import ReduceOp


class ScriptedMesh:
    """A mesh whose peers answer what a function of our own payload says."""

    def __init__(self, rank: int, size: int, answer: Callable[[int, bytes], bytes]) -> None:
        self.rank = rank
        self.size = size
        self.frames: list[tuple[str, bytes]] = []
        self._answer = answer

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        self.frames.append((operation, bytes(payload)))
        return [payload if peer == self.rank else self._answer(peer, bytes(payload)) for peer in range(self.size)]


def echo(size: int = 3, rank: int = 1) -> ScriptedMesh:
    return ScriptedMesh(rank, size, lambda peer, payload: payload)


def tensor(*words: int) -> torch.Tensor:
    return torch.tensor(words, dtype=torch.int64)


def test_sums_wrap_and_xors_combine_all_parties() -> None:
    with crypten_session(echo(), None) as session:
        total = session.communicator.all_reduce(tensor(2**62, -5))
        parity = session.communicator.all_reduce(tensor(2**62, -5), op=ReduceOp.BXOR)
    assert total.tolist() == [3 * 2**62 - 2**64, -15]
    assert parity.tolist() == [2**62, -5]


def test_batched_tensors_are_one_frame() -> None:
    mesh = echo()
    matrix = torch.arange(6).reshape(2, 3)
    inputs = [matrix.t(), torch.tensor(7), torch.empty(0, 4, dtype=torch.int64)]
    with crypten_session(mesh, None) as session:
        outputs = session.communicator.all_reduce(inputs, batched=True)
        stats = session.communicator.get_communication_stats()
    assert [output.tolist() for output in outputs] == [(3 * matrix.t()).tolist(), 21, []]
    assert [output.shape for output in outputs] == [part.shape for part in inputs]
    assert [operation for operation, _ in mesh.frames] == ["crypten/sum"]
    assert np.frombuffer(mesh.frames[0][1], dtype="<i8").tolist() == [0, 3, 1, 4, 2, 5, 7]
    assert (stats["rounds"], stats["bytes"]) == (1, 2 * 7 * 8)


def test_inputs_stay_as_they_are() -> None:
    share = tensor(1, 2, 3)
    with crypten_session(echo(), None) as session:
        result = session.communicator.all_reduce(share)
        result += 1
    assert share.tolist() == [1, 2, 3]


@pytest.mark.parametrize("length", [0, 8, 15, 24])
def test_a_peers_frame_of_another_length_names_the_peer(length: int) -> None:
    mesh = ScriptedMesh(1, 3, lambda peer, payload: payload if peer == 0 else bytes(length))
    with (
        crypten_session(mesh, None) as session,
        pytest.raises(ProtocolError, match=f"compute party 2 sent {length} bytes .* instead of 16"),
    ):
        session.communicator.all_reduce(tensor(1, 2))


def test_other_collectives_raise() -> None:
    names = {name for name in vars(original.DistributedCommunicator) if not name.startswith("_")}
    names |= {name for name in vars(original.Communicator) if not name.startswith("_")}
    supported = {"is_initialized", "initialize", "shutdown", "get", "get_rank", "get_world_size", "all_reduce"}
    supported |= {"reset_communication_stats", "print_communication_stats", "get_communication_stats"}
    refused = names - supported - {"BYTES_PER_ELEMENT", "instance"}
    assert len(refused) > 15
    communicator = MeshCommunicator(echo())
    for name in refused:
        with pytest.raises(NotImplementedError, match=f"{name} is not available in a CrypTen session"):
            getattr(communicator, name)(tensor(1), 0)


def test_other_reductions_and_types_raise() -> None:
    communicator = MeshCommunicator(echo())
    with pytest.raises(NotImplementedError, match="only SUM and BXOR"):
        communicator.all_reduce(tensor(1), op=ReduceOp.MAX)
    with pytest.raises(TypeError, match="int64"):
        communicator.all_reduce(torch.zeros(1))
    with pytest.raises(NotImplementedError, match="trusted third party"):
        communicator.initialize(0, 2, init_ttp=True)


def _globals() -> dict[str, object]:
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "crypten"}
    state = {f"{name}:{key}": value for name, module in modules.items() for key, value in vars(module).items()}
    state["threads"] = torch.get_num_threads()
    state["generators"] = {name: dict(devices) for name, devices in crypten.generators.items()}
    state["instance"] = original.DistributedCommunicator.instance
    return {key: value for key, value in state.items() if not key.endswith("__builtins__")}


@pytest.mark.parametrize("failure", [None, ZeroDivisionError])
def test_a_session_leaves_nothing_behind(failure: type[Exception] | None) -> None:
    before = _globals()
    try:
        with crypten_session(echo(), None) as session:
            during = _globals()
            assert crypten.is_initialized()
            assert not torch.distributed.is_initialized()
            assert torch.get_num_threads() == 1
            if failure is not None:
                raise failure
    except ZeroDivisionError:
        pass
    after = _globals()
    assert not crypten.is_initialized()
    assert not session.communicator.is_initialized()
    assert before.keys() == during.keys() == after.keys()
    assert [key for key in before if before[key] is not after[key] and before[key] != after[key]] == []
    assert sum(before[key] is not during[key] for key in before) > 8


def test_one_session_at_a_time() -> None:
    errors: list[str] = []

    def second() -> None:
        try:
            with crypten_session(echo(), None):
                pass
        except RuntimeError as error:
            errors.append(str(error))

    with crypten_session(echo(), None):
        second()
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert crypten.is_initialized()
    assert len(errors) == 2
    assert all("use a process for each session" in error for error in errors)
    second()
    assert len(errors) == 2


def test_a_process_that_uses_crypten_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypten, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="initialised by other code"), crypten_session(echo(), None):
        pass
    monkeypatch.undo()
    with crypten_session(echo(), None):
        pass


def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("torch's generator was used")

    for name in ("randint", "rand", "randn", "randperm", "bernoulli", "Generator"):
        monkeypatch.setattr(torch, name, refuse)


def test_crypten_draws_from_the_partys_keystream(monkeypatch: pytest.MonkeyPatch) -> None:
    _poison(monkeypatch)
    with pytest.raises(AssertionError, match="torch's generator"):
        crypten.common.rng.generate_random_ring_element((2,), generator=object())
    with crypten_session(echo(), None):
        words = BinarySharedTensor.rand(100, 40).share
        bits = BinarySharedTensor.rand(1000, bits=3).share
        secret = ArithmeticSharedTensor.PRSS((50,)).share
    assert words.shape == (100, 40)
    assert words.unique().numel() == 4000
    assert int(np.bitwise_or.reduce(words.numpy().ravel())) == -1
    assert set(bits.tolist()) == set(range(8))
    assert secret.unique().numel() == 50


def test_sessions_do_not_share_a_keystream() -> None:
    draws = []
    for _ in range(2):
        with crypten_session(echo(), None):
            draws.append(BinarySharedTensor.rand(4).share.tolist())
    assert not set(draws[0]) & set(draws[1])


def test_sharings_of_zero_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _poison(monkeypatch)
    with crypten_session(echo(), None):
        with pytest.raises(NotImplementedError, match="make tensors from_shares"):
            BinarySharedTensor.PRZS((2,))
        with pytest.raises(NotImplementedError, match="make tensors from_shares"):
            ArithmeticSharedTensor(tensor(1), precision=0)
        with pytest.raises(NotImplementedError, match="64-bit words"):
            crypten.common.rng.generate_random_ring_element((2,), ring_size=2**32)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: beaver.mul(x, x),
        beaver.square,
        beaver.wraps,
        lambda x: beaver.truncate(x, 2),
        beaver.B2A_single_bit,
        lambda x: crypten.mpc.get_default_provider().trace(),
    ],
)
def test_only_dealt_correlations_are_available(use: Callable[[Any], object]) -> None:
    source = ReceivedCorrelations(b"s" * 32, iter(()))
    with crypten_session(echo(), source):
        share = ArithmeticSharedTensor.from_shares(tensor(1, 2), precision=0)
        with pytest.raises(NotImplementedError, match="CrypTen session of mpcdp"):
            use(share)


def test_a_session_without_a_dealer_has_no_triples() -> None:
    with crypten_session(echo(), None) as session:
        bits = BinarySharedTensor.from_shares(tensor(1, 2), precision=0)
        with pytest.raises(RuntimeError, match="without a dealer"):
            beaver.AND(bits, bits)
        with pytest.raises(RuntimeError, match="without a dealer"):
            _ = session.provider.dealt


def test_triples_are_not_broadcast() -> None:
    source = ReceivedCorrelations(b"s" * 32, iter(()))
    with (
        crypten_session(echo(), source) as session,
        pytest.raises(ValueError, match=r"one shape, not \(2,\) and \(3,\)"),
    ):
        session.provider.generate_binary_triple((2,), (3,))


def test_cryptens_own_and_takes_dealt_triples() -> None:
    with crypten_session(echo(), ReceivedCorrelations(b"s" * 32, iter(()))) as session:
        assert isinstance(crypten.mpc.get_default_provider(), DealtTupleProvider)
        triple = session.provider.generate_binary_triple((2, 3), (2, 3))
        assert [tuple(share.share.shape) for share in triple] == [(2, 3)] * 3
        assert len(set(torch.cat([share.share for share in triple]).flatten().tolist())) == 18
        x, y = (BinarySharedTensor.from_shares(torch.arange(6).reshape(2, 3), precision=0) for _ in range(2))
        assert beaver.AND(x, y).share.shape == (2, 3)


@pytest.mark.slow
def test_import_warns_of_nothing_without_compiled_files(tmp_path: Path) -> None:
    """On a read-only or fresh installation Python compiles CrypTen's sources, invalid escapes included."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-X",
        f"pycache_prefix={tmp_path}",
        "-c",
        "import mpcdp.mpc.crypten_session",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
