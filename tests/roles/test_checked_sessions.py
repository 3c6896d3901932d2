"""Whole sessions with a contribution check: who cheats is left out and named, and nobody else notices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from session_world import SessionWorld, make_dataset, make_task
from structlog.testing import capture_logs

from mpcdp.errors import PeerUnavailable, ProtocolError
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations
from mpcdp.mpc.noise_bank import PooledNoise
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.dealer import Dealer
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.owner import Owner
from mpcdp.roles.training import History
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.secret_sharing.shares import NoiseShare, Verdicts
from mpcdp.simulation import simulate
from mpcdp.task import Task
from mpcdp.transport.channel import Member
from mpcdp.transport.in_process import Parcel
from mpcdp.transport.messages import SessionRef, Upload

RECORDS = {"owner-1": 20, "owner-2": 35, "owner-3": 10}

Cheat = Callable[[NDArray[np.float64], float], NDArray[np.float64]]
"""From an honest contribution and the norm that would just be accepted to what is uploaded instead."""


def checked_task(*, minimum: int = 2, rounds: int = 1) -> Task:
    document = make_task(RECORDS, features=3, minimum=minimum, seconds=10.0).model_dump(mode="json", by_alias=True)
    document["privacy"]["noise"] = "joint"
    document["dealer"] = {"name": "dealer"}
    document["session"]["contribution_check"] = True
    if rounds > 1:
        document["method"] = {"kind": "gradient-perturbation", "rounds": rounds}
        document["model"] = {"kind": "logistic-regression", "regularization": 0.1}
    return Task.model_validate(document)


class DrainingBackend(PlaintextBackend):
    """Takes what the dealer sends, and has no use for it."""

    def supply(self, correlations: CorrelationSource) -> None:
        drain(correlations)


def drain(correlations: CorrelationSource | None) -> None:
    if isinstance(correlations, ReceivedCorrelations):
        for _ in correlations._chunks:
            pass


@contextmanager
def engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[Backend]:
    drain(correlations)
    yield DrainingBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)


class CheatingOwner(Owner):
    """Uploads what it likes."""

    cheat: Cheat

    def _share(self, ref: SessionRef, history: History, contribution: NDArray[np.float64]) -> Upload:
        honest, position = self._plan, list(RECORDS).index(self._name)
        vector = self.cheat(contribution, honest.accepted_norms[position])
        lax = Encoding(scale=honest.encoding.scale, bound=2.0**61 / honest.encoding.scale)
        object.__setattr__(honest, "encoding", lax)
        try:
            return super()._share(ref, history, vector)
        finally:
            object.__setattr__(honest, "encoding", Encoding(scale=lax.scale, bound=max(self._bounds())))

    def _bounds(self) -> list[float]:
        return [self._method.contribution_bound(count) for count in self._plan.record_counts]


@dataclass
class CheckedWorld(SessionWorld):
    """A session with a dealer, and owners that cheat."""

    cheats: dict[str, Cheat] = field(default_factory=dict)

    def _run_role(self, member: Member) -> Any:
        name, state = member.name, self.folder / member.name
        if member.role == "dealer":
            return Dealer(self.task, self.plan, self.network(name)).run()
        if member.role == "compute":
            with PartyJournal(state) as journal:
                return ComputeParty(name, self.task, self.plan, self.network(name), journal, engine).run()
        if name in self.cheats:
            from mpcdp.plan import make_plan

            with Ledger(state / "ledger.db") as ledger:
                plan = make_plan(self.task)  # of its own: it will change it
                owner = CheatingOwner(name, self.task, plan, self.datasets[name], self.network(name), ledger, state)
                owner.cheat = self.cheats[name]
                return owner.run()
        return super()._run_role(member)


def make_world(folder: Path, task: Task, **cheats: Cheat) -> CheckedWorld:
    datasets = {owner.name: make_dataset(task, owner.name, seed=i) for i, owner in enumerate(task.owners)}
    return CheckedWorld(
        folder, task, datasets, cheats={name.replace("_", "-"): cheat for name, cheat in cheats.items()}
    )


def scaled(factor: float) -> Cheat:
    return lambda honest, accepted: honest / np.linalg.norm(honest) * accepted * factor


CHEATS: dict[str, Cheat] = {
    "slightly too long": scaled(1.001),
    "a thousand times too long": scaled(1000.0),
    "one huge coordinate": lambda honest, accepted: honest + np.eye(honest.size)[0] * 1e9,
    "as large as the ring": lambda honest, accepted: np.full(honest.size, 2.0**60),
}


@pytest.fixture
def _no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(noise: PooledNoise, index: int) -> NoiseShare:
        return NoiseShare(np.zeros(noise._dimension, dtype=np.int64))

    monkeypatch.setattr(PooledNoise, "take", zeros)


@pytest.mark.usefixtures("_no_noise")
@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_left_out_and_named_and_the_model_is_that_of_the_others(tmp_path: Path, cheat: str) -> None:
    world = make_world(tmp_path, checked_task(), owner_2=CHEATS[cheat])
    with capture_logs() as logs:
        world.run()
    assert not world.errors
    left_out = [entry for entry in logs if entry["event"] == "left out: the contribution is longer than it may be"]
    assert [(entry["owners"], entry["log_level"]) for entry in left_out] == [("owner-2", "warning")] * 3
    assert [entry["owners"] for entry in logs if entry["event"] == "owners left out"] == ["owner-2"]
    (told,) = (entry for entry in logs if entry["event"] == "left out of a round")
    assert "failed the contribution check" in told["problem"]
    present = {name: world.datasets[name] for name in ("owner-1", "owner-3")}
    exact = simulate(world.task, present, noise=False)
    offset = world.plan.decode_offset / world.plan.encoding.scale / 30
    assert set(world.models) == {"coordinator", *RECORDS}
    for model in world.models.values():
        assert model.owners == ("owner-1", "owner-3")
        np.testing.assert_allclose(model.coefficients, exact + offset, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("_no_noise")
def test_honest_owners_all_pass_and_the_model_is_the_one_without_a_check(tmp_path: Path) -> None:
    world = make_world(tmp_path, checked_task(), owner_2=scaled(0.999))
    world.run()
    assert not world.errors
    assert world.models["coordinator"].owners == tuple(RECORDS)
    honest = make_world(tmp_path / "honest", checked_task())
    honest.run()
    assert not honest.errors
    exact = simulate(honest.task, honest.datasets, noise=False)
    offset = honest.plan.decode_offset / honest.plan.encoding.scale / 65
    np.testing.assert_allclose(honest.models["coordinator"].coefficients, exact + offset, rtol=1e-12, atol=1e-15)


def test_the_minimum_of_owners_holds_after_the_check(tmp_path: Path) -> None:
    world = make_world(tmp_path, checked_task(minimum=3), owner_2=scaled(2.0))
    world.run()
    assert not world.models
    assert any("have 30 records, fewer than the task's 65" in str(error) for error in world.errors.values())
    assert not any(b"reveal" in parcel.message for parcel in world.parcels)


def test_every_round_is_checked_with_a_batch_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[str] = []
    deal = Dealer.deal

    def note(dealer: Dealer, caller: str, request: Any) -> Any:
        batches.append(request.batch)
        return deal(dealer, caller, request)

    monkeypatch.setattr(Dealer, "deal", note)
    calls = iter(range(100))
    world = make_world(tmp_path, checked_task(rounds=4), owner_3=lambda v, a: v * (1e6 if next(calls) % 2 else 1.0))
    world.run()
    assert not world.errors
    checks = [batch for batch in batches if batch.startswith("check-")]
    assert [batch.split("-")[1] for batch in dict.fromkeys(sorted(checks))] == ["0", "1", "2", "3"]
    assert len(checks) == 3 * 4
    with Ledger(tmp_path / "owner-1" / "ledger.db") as ledger:
        ledger.verify()
    assert world.models["owner-1"].coefficients == world.models["coordinator"].coefficients


def test_a_check_that_is_interrupted_is_repeated_with_another_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parties lose the first check at its last step; nothing of its correlated randomness is used again."""
    nonces: dict[str, list[bytes]] = {}
    deal = Dealer.deal

    def note(dealer: Dealer, caller: str, request: Any) -> Any:
        nonces.setdefault(request.batch, []).append(request.nonce)
        return deal(dealer, caller, request)

    monkeypatch.setattr(Dealer, "deal", note)
    reveal = DrainingBackend.reveal_verdicts
    broken: set[int] = set()

    def fail_once(backend: DrainingBackend, verdicts: Verdicts) -> NDArray[np.bool_]:
        if backend.rank not in broken:
            broken.add(backend.rank)
            raise PeerUnavailable("party-2", "its connection broke")
        return reveal(backend, verdicts)

    monkeypatch.setattr(DrainingBackend, "reveal_verdicts", fail_once)
    world = make_world(tmp_path, checked_task(), owner_2=scaled(3.0))
    world.run()
    assert not world.errors
    assert world.models["coordinator"].owners == ("owner-1", "owner-3")
    checks = {batch: asked for batch, asked in nonces.items() if batch.startswith("check-0-")}
    assert len(checks) >= 2
    every = [nonce for asked in nonces.values() for nonce in asked]
    assert len(set(every)) == len(every)


def test_what_the_task_has_no_use_for_is_not_dealt(tmp_path: Path) -> None:
    """The dealer's own limits, beside those in test_dealer."""
    from mpcdp.mpc.contribution_check import check_schedule
    from mpcdp.mpc.dealing import schedule_digest
    from mpcdp.transport.messages import DealRequest

    world = make_world(tmp_path, checked_task())
    check = world.plan.contribution_check
    assert check is not None
    network: Any = None
    dealer = Dealer(world.task, world.plan, network)
    ref = SessionRef(task_digest=world.task.digest, session=b"s" * 32)
    for samples, batch, problem in (
        (4, "check-0-x", "check 4 owners, of 3"),
        (0, "check-0-x", "check 0"),
        (1, "x", "no"),
    ):
        digest = schedule_digest(check_schedule(check, max(1, samples)))
        request = DealRequest(
            ref=ref, party="party-1", nonce=b"n" * 32, batch=batch, samples=samples, schedule_digest=digest
        )
        with pytest.raises(ProtocolError, match=problem):
            dealer.deal("party-1", request)


def test_the_verdicts_are_the_only_thing_that_depends_on_a_cheat(tmp_path: Path) -> None:
    """The messages between the parties have the same sizes and order, whoever passes."""

    def shape(parcels: list[Parcel]) -> dict[str, list[int]]:
        sizes: dict[str, list[int]] = {}
        for parcel in parcels:
            if parcel.method == "ComputeParty/Mesh" and parcel.sender == "party-1":
                sizes.setdefault(parcel.receiver, []).append(len(parcel.message))
        return sizes

    shapes = []
    for factor in (0.5, 5.0):
        world = make_world(tmp_path / str(factor), checked_task(), owner_2=scaled(factor))
        world.run()
        assert not world.errors
        shapes.append(shape(world.parcels))
    assert shapes[0] == shapes[1]
