"""Filling without a coordinator: all make the same, together with the dealer, or nobody gets anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from session_world import make_task

import mpcdp.roles.noise_fill as noise_fill
from mpcdp.errors import ConfigError, MpcdpError, ProtocolError
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.noise_bank import NoisePool, PoolState, pool_state
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.plan import make_plan
from mpcdp.roles.noise_fill import FillDealer, Filled, FillJob, FillParty, pool_of
from mpcdp.task import Task
from mpcdp.transport.in_process import InProcessNetwork, InProcessWorld

PARTIES = ("party-1", "party-2")


@pytest.fixture(name="task", scope="module")
def _task() -> Task:
    per_party = make_task({"owner-1": 20, "owner-2": 35}, parties=2, features=3, seconds=3.0)
    document = per_party.model_dump(mode="json", by_alias=True)
    document["privacy"]["noise"] = "joint"
    document["dealer"] = {"name": "dealer"}
    return Task.model_validate(document)


@contextmanager
def engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[Backend]:
    """Compute in the clear, and take what the dealer dealt."""
    source: Any = correlations
    dealt = sum(len(chunk) for chunk in source._chunks)
    assert (dealt > 0) == (mesh.rank == 0)
    assert len(source.seed) == 32
    yield PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)


def job(task: Task, samples: int = 2000, distribution: Any = "gaussian") -> FillJob:
    return FillJob(task, make_plan(task), distribution, samples)


def run(folder: Path, task: Task, jobs: dict[str, FillJob]) -> dict[str, Any]:
    """Run a filling; results, or errors, by process."""
    world = InProcessWorld()

    def process(name: str) -> Any:
        own = jobs[name]
        me = next(member for member in task.members() if member.name == name)
        network = InProcessNetwork(world, me, task.members(), own.limits, task_digest=task.digest)
        try:
            if name == "dealer":
                return FillDealer(own, network).run()
            return FillParty(name, own, network, folder / name, engine).run()
        except MpcdpError as error:
            return error

    # A dealer whose parties have failed waits for others, until its deadline: the test does not.
    results: dict[str, Any] = {}
    threads = {
        name: Thread(target=lambda name=name: results.update({name: process(name)}), daemon=True) for name in jobs
    }
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        if name != "dealer":
            thread.join(60)
    return results


def everybody(made: FillJob) -> dict[str, FillJob]:
    return dict.fromkeys(("dealer", *PARTIES), made)


def test_all_pools_get_the_same_batches_of_the_asked_law(tmp_path: Path, task: Task) -> None:
    for distribution in ("gaussian", "laplace"):
        filled = run(tmp_path, task, everybody(job(task, 5000, distribution)))
        states = [filled[party].state for party in PARTIES]
        assert states[0] == states[1]
        assert (states[0].ready, states[0].free, states[0].next) == (5120, 5120, 0)
        assert all(pool_state(pool_of(task, party, tmp_path / party, distribution)) == states[0] for party in PARTIES)
    values = []
    for party in PARTIES:
        with NoisePool(pool_of(task, party, tmp_path / party, "laplace")) as pool:
            pool.reserve(b"s" * 32, 5000)
            values.append(pool.take(0, 5000).values)
    total = (values[0] + values[1]) / 2**20
    assert 0.85 * np.sqrt(2) < total.std() < 1.15 * np.sqrt(2)  # Laplace, not Gaussian: its deviation is the root of 2


def test_large_numbers_come_in_batches_and_add_up(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_fill, "_BATCH_SAMPLES", 2048)
    for total in (5120, 6144 + 4096):
        filled = run(tmp_path, task, everybody(job(task, 5000)))
        state: PoolState = filled["party-1"].state
        assert state.free == state.ready == (5120 if total == 5120 else 10240)
    assert [batch.count for batch in state.batches] == [2048, 2048, 1024] * 2
    assert len({batch.name for batch in state.batches}) == 6


@pytest.mark.parametrize("odd", ["dealer", "party-2"])
@pytest.mark.parametrize("change", [{"samples": 4096}, {"distribution": "laplace"}])
def test_who_fills_something_else_is_refused(tmp_path: Path, task: Task, odd: str, change: dict[str, Any]) -> None:
    jobs = everybody(job(task))
    jobs[odd] = replace(jobs[odd], **change)
    filled = run(tmp_path, task, jobs)
    for party in PARTIES:
        assert isinstance(filled[party], MpcdpError)
        assert pool_state(pool_of(task, party, tmp_path / party, "gaussian")).ready == 0
    words = " ".join(str(filled[party]) for party in PARTIES)
    assert (
        ("disagrees on the noise fill" in words) if odd == "party-2" else ("does not fit" in words or "--sam" in words)
    )


def test_an_interrupted_filling_is_done_again_with_fresh_noise(tmp_path: Path, task: Task) -> None:
    first = run(tmp_path, task, everybody(job(task)))["party-1"]
    assert isinstance(first, Filled)
    with_failure = run(tmp_path, task, {"dealer": job(task), "party-1": job(task)})
    assert isinstance(with_failure["party-1"], MpcdpError)
    again = run(tmp_path, task, everybody(job(task)))["party-1"]
    assert again.state.ready == 2 * first.state.ready
    assert again.state.bank == first.state.bank


def test_a_pool_in_use_is_left_alone(tmp_path: Path, task: Task) -> None:
    with NoisePool(pool_of(task, "party-1", tmp_path / "party-1", "gaussian")):
        results = run(tmp_path, task, {"party-1": job(task)})
    assert isinstance(results["party-1"], ConfigError)
    assert "another process uses it" in str(results["party-1"])


def test_neither_party_nor_dealer_takes_part_in_a_session_meanwhile(tmp_path: Path, task: Task) -> None:
    network: Any = None
    party = FillParty("party-1", job(task), network, tmp_path, engine)
    dealer = FillDealer(job(task), network)
    for method in ("open_session", "enrol", "upload", "outcome", "aggregate", "close_session"):
        with pytest.raises(ProtocolError, match="fills its noise pool"):
            getattr(party, method)("coordinator", object())
    for method in ("open_session", "close_session"):
        with pytest.raises(ProtocolError, match="fills noise pools"):
            getattr(dealer, method)("coordinator", object())


def test_there_is_something_to_make_and_a_dealer_to_help(task: Task) -> None:
    with pytest.raises(ConfigError, match="positive number"):
        job(task, 0)
    alone = make_task({"owner-1": 20, "owner-2": 35}, parties=2, features=3)
    with pytest.raises(ConfigError, match="has no dealer"):
        job(alone)


def test_the_session_id_of_fillings_is_nobody_elses_and_carries_no_freshness(task: Task) -> None:
    one, other = job(task), job(task, 4096, "laplace")
    assert one.ref == other.ref
    assert one.digest != other.digest
    assert one.ref.session != task.digest
