"""CrypTen's own samplers for comparison: they are CrypTen's, they run over our mesh, and never in a session of ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from party_processes import PartyFailed, run_parties

from mpcdp.mpc.backend import CorrelationSource, Mesh
from mpcdp.mpc.crypten_baseline import (
    BASELINE_SCALE,
    BaselineCommunicatorUnsafe,
    crypten_baseline_unsafe,
    laplace_unsafe,
    randn_unsafe,
)
from mpcdp.mpc.crypten_session import MeshCommunicator, crypten_session
from mpcdp.secret_sharing.shares import RingVector

# isort: split
import crypten
import torch

COUNT = 20_000


class EchoMesh:
    """Two peers that send back whatever rank 1 sends; rank 0 also knows seeds."""

    rank = 1
    size = 3

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        answer = bytes(payload) if len(payload) else bytes(8)
        return [answer, payload, answer]


def sample_job(mesh: Mesh, correlations: CorrelationSource, sampler: str) -> tuple[RingVector, int, int]:
    with crypten_baseline_unsafe(mesh) as communicator:
        share = randn_unsafe(COUNT) if sampler == "randn" else laplace_unsafe(COUNT)
        statistics = communicator.get_communication_stats()
    return share, statistics["rounds"], statistics["bytes"]


def run(parties: int, sampler: str) -> tuple[NDArray[np.float64], int, int]:
    shares, rounds, sent = zip(*run_parties(parties, sample_job, sampler), strict=True)
    assert len(set(rounds)) == 1
    values: NDArray[np.float64] = np.sum(shares, axis=0) / BASELINE_SCALE
    return values, rounds[0], max(sent)


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize(("sampler", "variance"), [("randn", 1.03), ("laplace", 2.03)])
def test_samples_are_what_crypten_calls_noise(sampler: str, variance: float, parties: int) -> None:
    values, _, _ = run(parties, sampler)
    assert values.shape == (COUNT,)
    assert abs(values.mean()) < 0.05
    assert 0.93 * variance < values.var() < 1.07 * variance
    assert np.corrcoef(values[1:], values[:-1])[0, 1] < 0.05


def test_two_parties_open_as_much_as_over_cryptens_own_communicator() -> None:
    """So the comparison is not with a CrypTen that our mesh makes talk more. Above two parties it does, a little."""
    for sampler, expected in (("randn", (81, 576)), ("laplace", (43, 856))):
        _, rounds, sent = run(2, sampler)
        assert (rounds, sent / COUNT) == expected


def collectives_job(mesh: Mesh, correlations: CorrelationSource) -> dict[str, Any]:
    with crypten_baseline_unsafe(mesh) as communicator:
        rank, size = communicator.get_rank(), communicator.get_world_size()
        own = torch.arange(6).reshape(2, 3) + 100 * rank
        gathered = communicator.gather(own, 1)
        scattered = communicator.scatter([own + to for to in range(size)], 1)
        received = torch.zeros(2, 3, dtype=torch.int64)
        communicator.isend(own, (rank + 1) % size).wait()
        communicator.irecv(received, (rank - 1) % size).wait()
        return {
            "gathered": [None if each is None else each.tolist() for each in gathered],
            "scattered": scattered.tolist(),
            "broadcast": communicator.broadcast(own, 2).tolist(),
            "received": received.tolist(),
            "seeds": [crypten.generators[name][torch.device("cpu")].initial_seed() for name in ("prev", "next")],
            "common": crypten.generators["global"][torch.device("cpu")].initial_seed(),
            "statistics": communicator.get_communication_stats(),
        }


def test_collectives_deliver_what_torch_would() -> None:
    results = run_parties(3, collectives_job)
    matrices = [(np.arange(6).reshape(2, 3) + 100 * rank).tolist() for rank in range(3)]
    assert [result["gathered"] for result in results] == [[None], matrices, [None]]
    assert [result["scattered"] for result in results] == [
        (np.arange(6).reshape(2, 3) + 100 + rank).tolist() for rank in range(3)
    ]
    assert all(result["broadcast"] == matrices[2] for result in results)
    assert [result["received"] for result in results] == [matrices[2], matrices[0], matrices[1]]
    # Neighbours share a seed, and all share one: CrypTen's sharings of zero depend on it.
    assert all(results[rank]["seeds"][1] == results[(rank + 1) % 3]["seeds"][0] for rank in range(3))
    assert len({result["common"] for result in results}) == 1
    assert [result["statistics"]["rounds"] for result in results] == [4, 4, 4]
    # Rank 1 scatters two matrices to everybody and gathers nothing; all swap one; rank 2 broadcasts one.
    assert [result["statistics"]["bytes"] // (2 * 48) for result in results] == [2, 3, 3]


def wrong_length_job(mesh: Mesh, correlations: CorrelationSource) -> None:
    with crypten_baseline_unsafe(mesh) as communicator:
        communicator.broadcast(torch.zeros(1 + mesh.rank, dtype=torch.int64), 0)


def test_a_frame_of_another_length_is_an_error() -> None:
    with pytest.raises(PartyFailed, match="compute party 0 sent 8 bytes to CrypTen's broadcast"):
        run_parties(2, wrong_length_job)


def test_it_refuses_to_run_in_a_session_and_a_session_in_it() -> None:
    with (
        crypten_session(EchoMesh(), None),
        pytest.raises(RuntimeError, match="for comparison, outside a session"),
        crypten_baseline_unsafe(EchoMesh()),
    ):
        pass
    with (
        crypten_baseline_unsafe(EchoMesh()),
        pytest.raises(RuntimeError, match="initialised by other code"),
        crypten_session(EchoMesh(), None),
    ):
        pass


def test_samplers_need_a_baseline() -> None:
    for sampler in (randn_unsafe, laplace_unsafe):
        with pytest.raises(RuntimeError, match="not initialized"):
            sampler(10)
        with crypten_session(EchoMesh(), None), pytest.raises((NotImplementedError, AttributeError)):
            sampler(10)


@pytest.mark.parametrize("failure", [None, ZeroDivisionError])
def test_it_leaves_nothing_behind(failure: type[Exception] | None) -> None:
    class_before = crypten.communicator.DistributedCommunicator
    generators_before = crypten.generators
    configuration_before = crypten.cfg.config
    threads_before = torch.get_num_threads()
    try:
        with crypten_baseline_unsafe(EchoMesh()) as communicator:
            assert isinstance(communicator, BaselineCommunicatorUnsafe)
            assert crypten.is_initialized()
            assert crypten.communicator.get() is communicator
            assert torch.get_num_threads() == 1
            if failure is not None:
                raise failure
    except ZeroDivisionError:
        pass
    assert not crypten.is_initialized()
    assert crypten.communicator.DistributedCommunicator is class_before
    assert crypten.generators is generators_before
    assert not any(crypten.generators.values())
    assert crypten.cfg.config is configuration_before
    assert torch.get_num_threads() == threads_before
    assert not torch.distributed.is_initialized()


def test_the_sessions_communicator_still_refuses_what_the_baseline_can() -> None:
    communicator = MeshCommunicator(EchoMesh())
    for name in ("isend", "irecv", "broadcast", "scatter", "gather"):
        with pytest.raises(NotImplementedError, match=f"{name} is not available"):
            getattr(communicator, name)(torch.zeros(1, dtype=torch.int64), 0)
