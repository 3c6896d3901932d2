"""The protocol between the roles, message by message."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import SessionWorld, make_dataset, make_task

from mpcdp.errors import (
    BudgetError,
    MpcdpError,
    PeerError,
    PeerTimeout,
    PeerUnavailable,
    ProtocolError,
    SessionAborted,
)
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.mpc.noise_bank import PerPartyNoise
from mpcdp.plan import Plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.coordinator import Coordinator
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import NoiseShare
from mpcdp.simulation import simulate
from mpcdp.task import Task
from mpcdp.transport.in_process import Parcel
from mpcdp.transport.messages import Aggregate, Attendance, Enrolment, Release, SessionRef, Upload

RECORDS = {"owner-1": 20, "owner-2": 35}


@pytest.fixture(name="task")
def _task() -> Task:
    return make_task(RECORDS)


def _world(folder: Path, task: Task) -> SessionWorld:
    datasets = {owner.name: make_dataset(task, owner.name, seed=i) for i, owner in enumerate(task.owners)}
    return SessionWorld(folder, task, datasets)


def _without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(noise: PerPartyNoise, index: int) -> NoiseShare:
        return NoiseShare(np.zeros(noise._dimension, dtype=np.int64))

    monkeypatch.setattr(PerPartyNoise, "take", zeros)


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_without_noise_the_model_is_the_one_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parties: int
) -> None:
    _without_noise(monkeypatch)
    world = _world(tmp_path, make_task(RECORDS, parties=parties))
    world.run()
    assert not world.errors
    exact = simulate(world.task, world.datasets, noise=False)
    offset = world.plan.decode_offset / world.plan.encoding.scale / sum(RECORDS.values())
    for model in world.models.values():
        np.testing.assert_allclose(model.coefficients, exact + offset, rtol=1e-12, atol=1e-15)
    assert set(world.models) == {"coordinator", "owner-1", "owner-2"}


def test_every_owner_is_charged_before_its_first_upload_and_for_the_whole_plan(tmp_path: Path, task: Task) -> None:
    world = _world(tmp_path, task)
    charged_at_upload = []

    def look(parcel: Parcel) -> bytes:
        if parcel.method == "ComputeParty/Upload" and parcel.sender.startswith("owner"):
            with Ledger(tmp_path / parcel.sender / "ledger.db") as ledger:
                charged_at_upload.append(ledger.total())
        return parcel.message

    world.fault = look
    world.run()
    assert not world.errors
    assert set(charged_at_upload) == {world.plan.cost}
    assert any(b"reveal" in parcel.message for parcel in world.parcels)  # what other tests look for in vain
    with Ledger(tmp_path / "owner-1" / "ledger.db") as ledger:
        ledger.verify()
        assert ledger.total() == world.plan.cost
        assert len(ledger.entries()) == 2  # the charge and the release


def test_the_low_bit_of_releases_is_uniform(tmp_path: Path) -> None:
    """Also when every contribution is zero: neither the sum's parity nor the noise's offset shows."""
    task = make_task({"owner-1": 2, "owner-2": 2}, features=1023)
    world = _world(tmp_path, task)
    world.run()
    assert not world.errors
    scale = world.plan.encoding.scale * 4
    units = np.rint(np.asarray(world.models["coordinator"].coefficients) * scale - world.plan.decode_offset)
    odd = int((units.astype(np.int64) & 1).sum())
    assert 432 <= odd <= 592  # 1024 fair coins, five standard deviations


def test_an_owner_that_leaves_before_uploading_is_left_out(tmp_path: Path) -> None:
    """With enough owners left, the model is the weighted mean of theirs, and the plan's noise is unchanged."""
    task = make_task({**RECORDS, "owner-3": 10}, minimum=2, seconds=3.0)
    world = _world(tmp_path, task)
    world.run(without=("owner-3",))
    assert not world.errors
    assert world.models["owner-1"].owners == ("owner-1", "owner-2")
    present = {name: world.datasets[name] for name in RECORDS}
    deviation = np.asarray(world.models["coordinator"].coefficients) - simulate(task, present, noise=False)
    assert np.abs(deviation).max() < 8 * world.plan.noise_deviation / 55


def test_an_owner_that_a_party_does_not_know_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uploads, but one party never got its key: the others go on without it instead of losing what they paid."""
    task = make_task({**RECORDS, "owner-3": 10}, minimum=2, seconds=3.0)
    enrol = ComputeParty.enrol

    def forget(party: ComputeParty, caller: str, enrolment: Enrolment) -> None:
        if (party._name, caller) != ("party-1", "owner-3"):
            enrol(party, caller, enrolment)

    monkeypatch.setattr(ComputeParty, "enrol", forget)
    world = _world(tmp_path, task)
    world.run()
    assert not world.errors
    assert {model.owners for model in world.models.values()} == {("owner-1", "owner-2")}
    assert set(world.models) == {"coordinator", "owner-1", "owner-2", "owner-3"}
    present = {name: world.datasets[name] for name in RECORDS}
    deviation = np.asarray(world.models["coordinator"].coefficients) - simulate(task, present, noise=False)
    assert np.abs(deviation).max() < 8 * world.plan.noise_deviation / 55


def test_owners_notice_a_coordinator_that_hands_out_another_release(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_round = Coordinator._run_round

    def lie(*arguments: Any, **options: Any) -> Release:
        release = run_round(*arguments, **options)
        return replace(release, values=release.values + 1)

    monkeypatch.setattr(Coordinator, "_run_round", lie)
    world = _world(tmp_path, task)
    world.run()
    for name in RECORDS:
        assert isinstance(world.errors[name], ProtocolError)
        assert "party-1 released something else than coordinator told" in str(world.errors[name])
        assert not (tmp_path / name / "model.json").exists()


def test_too_few_owners_end_the_session_and_cost_nothing(tmp_path: Path) -> None:
    task = make_task(RECORDS, seconds=2.0)
    world = _world(tmp_path, task)
    world.run(without=("owner-2",))
    assert isinstance(world.errors["coordinator"], PeerTimeout)
    assert all("owner-2" in str(error) for error in world.errors.values())
    assert set(world.errors) == {"coordinator", "owner-1", "party-1", "party-2", "party-3"}
    with Ledger(tmp_path / "owner-1" / "ledger.db") as ledger:
        assert ledger.entries() == ()
    again = _world(tmp_path, task)
    again.run()
    assert not again.errors


def test_an_upload_that_never_arrives_ends_the_session_without_a_release(tmp_path: Path) -> None:
    task = make_task(RECORDS, seconds=1.0)
    world = _world(tmp_path, task)
    world.fault = lambda parcel: None if parcel.method.endswith("Upload") else parcel.message
    world.run()
    assert not world.models
    assert all(isinstance(error, PeerError | SessionAborted) for error in world.errors.values())
    assert not any(b"reveal" in parcel.message for parcel in world.parcels)


@pytest.mark.parametrize("victim", ["party-1", "party-3"])
def test_a_party_that_dies_before_the_commit_keeps_the_others_from_opening(tmp_path: Path, victim: str) -> None:
    world = _world(tmp_path, make_task(RECORDS, seconds=1.0))

    def kill_at_commit(parcel: Parcel) -> bytes | None:
        if parcel.sender == victim and b"commit" in parcel.message:
            world.world.kill(victim)
            return None
        return parcel.message

    world.fault = kill_at_commit
    world.run()
    assert not world.models
    assert not any(b"reveal" in parcel.message for parcel in world.parcels)
    assert any(victim in str(error) for error in world.errors.values())


def test_a_task_is_run_once_by_owners_and_by_parties(tmp_path: Path) -> None:
    task = make_task(RECORDS, seconds=2.0)
    first = _world(tmp_path, task)
    first.run()
    assert not first.errors
    again = _world(tmp_path, task)
    again.run()
    assert not again.errors
    assert again.parcels == []
    assert again.models == first.models
    # Owners that lost their models, a coordinator that lost its session, and in the end owners that lost their ledgers.
    for name in ("coordinator", *RECORDS):
        (tmp_path / name / "model.json").unlink()
    second = _world(tmp_path, task)
    second.run(without=("coordinator", "party-1", "party-2", "party-3"))
    assert all(isinstance(second.errors[name], BudgetError) for name in RECORDS)
    for path in (*(tmp_path / name / "ledger.db" for name in RECORDS), *(tmp_path / "coordinator").glob("session.db*")):
        path.unlink()
    third = _world(tmp_path, task)
    third.run()
    assert isinstance(third.errors["coordinator"], PeerUnavailable)
    assert "party" in str(third.errors["coordinator"])
    assert not third.models
    with Ledger(tmp_path / "owner-1" / "ledger.db") as ledger:
        assert ledger.entries() == ()


def test_an_owner_that_returns_after_the_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the coordinator while it still tells the parties of the end and afterwards, and by every compute party."""
    records = {**RECORDS, "owner-3": 10}
    task = make_task(records, minimum=2, seconds=2.0)
    world = _world(tmp_path, task)
    parties, coordinators, enrolments = _party_in_session(world, "party-1", monkeypatch), [], {}
    attendance = Attendance(task.digest, "owner-1", RECORDS["owner-1"])
    close, enrol = Coordinator._close_session, ComputeParty.enrol

    def return_before_closing(coordinator: Coordinator, *arguments: Any, **options: Any) -> None:
        coordinators.append(coordinator)
        with pytest.raises(ProtocolError, match=r"^the session is over$"):
            coordinator.attend("owner-1", attendance)
        close(coordinator, *arguments, **options)

    def keep(party: ComputeParty, caller: str, enrolment: Enrolment) -> Any:
        enrolments[party._name, caller] = enrolment
        return enrol(party, caller, enrolment)

    monkeypatch.setattr(Coordinator, "_close_session", return_before_closing)
    monkeypatch.setattr(ComputeParty, "enrol", keep)
    world.run(without=("owner-3",))
    assert not world.errors
    (coordinator,) = coordinators
    for owner, count in records.items():  # owner-3 was never there, and comes too late
        with pytest.raises(ProtocolError, match=r"^the session is over$"):
            coordinator.attend(owner, Attendance(task.digest, owner, count))
    assert not coordinator._attending
    assert {name for name, _ in enrolments} == set(parties) == {"party-1", "party-2", "party-3"}
    for (name, owner), enrolment in enrolments.items():
        with pytest.raises(ProtocolError, match="the session is over"):
            enrol(parties[name], owner, enrolment)


def _party_in_session(world: SessionWorld, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, ComputeParty]:
    """Keep the compute parties' objects, to call them as their network would."""
    parties: dict[str, ComputeParty] = {}
    run = ComputeParty.run

    def keep(party: ComputeParty) -> None:
        parties[party._name] = party
        run(party)

    monkeypatch.setattr(ComputeParty, "run", keep)
    return parties


def test_bad_requests_are_refused_and_change_nothing(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed, second, misshaped, misdirected and foreign messages, all while a session runs that then succeeds."""
    world = _world(tmp_path, task)
    parties = _party_in_session(world, "party-3", monkeypatch)
    refused: list[str] = []
    retry: list[Future[None]] = []
    threads = ThreadPoolExecutor(1)
    tried = False

    def expect(words: str, call: object, *arguments: object) -> None:
        with pytest.raises(MpcdpError, match=words):
            call(*arguments)  # type: ignore[operator]
        refused.append(words)

    def attack(parcel: Parcel) -> bytes:
        nonlocal tried
        if tried or parcel.sender != "party-3" or b"mpcdp/round/3" not in parcel.message:
            return parcel.message
        tried = True
        last, first = parties["party-3"], parties["party-1"]
        ref = last._enrolments[0].ref
        mine = last._uploads[0]
        other_task = SessionRef(task_digest=bytes(32), session=ref.session)
        other_session = SessionRef(task_digest=ref.task_digest, session=bytes(32))
        # The same bytes again: a retry, answered when the round is bound.
        retry.append(threads.submit(last.upload, "owner-1", mine))
        expect("another share", last.upload, "owner-1", replace(mine, nonce=bytes(32)))
        expect("another share", last.upload, "owner-1", replace(mine, values=mine.values + 1))
        expect("coordinates", last.upload, "owner-1", replace(mine, values=mine.values[1:].copy()))
        expect("round 1", last.upload, "owner-1", replace(mine, round_index=1))
        expect("session", last.upload, "owner-1", replace(mine, ref=other_session))
        expect("task", last.upload, "owner-1", replace(mine, ref=other_task))
        expect("last compute party", first.upload, "owner-1", mine)
        expect("another key", first.enrol, "owner-1", Enrolment(ref=ref, owner="owner-1", key=bytes(32)))
        expect("32 bytes", first.enrol, "owner-1", Enrolment(ref=ref, owner="owner-1", key=b""))
        expect("0 bytes", last.enrol, "owner-1", Enrolment(ref=ref, owner="owner-1", key=bytes(32)))
        expect("no owner", last.upload, "stranger", replace(mine, owner="stranger"))
        expect("other releases", last.upload, "owner-1", replace(mine, history=bytes(32)))
        again = Aggregate(ref=ref, round_index=0, owners=OwnerSet())
        expect("already running", last.aggregate, "coordinator", again)
        expect("not next", last.aggregate, "coordinator", replace(again, round_index=1))
        expect("session", last.aggregate, "coordinator", replace(again, ref=other_session))
        expect("another session", first.open_session, "coordinator", other_session)
        expect("task", first.open_session, "coordinator", other_task)
        assert isinstance(mine, Upload)
        return parcel.message

    world.fault = attack
    world.run()
    assert len(refused) == 17
    assert not world.errors
    assert retry[0].result(1) is None
    deviation = np.asarray(world.models["coordinator"].coefficients) - simulate(task, world.datasets, noise=False)
    assert np.abs(deviation).max() < 8 * world.plan.noise_deviation / 55


def test_a_round_is_bound_on_disk_at_every_party_before_anything_is_opened(tmp_path: Path, task: Task) -> None:
    world = _world(tmp_path, task)
    bound = []

    def look(parcel: Parcel) -> bytes:
        if b"reveal" in parcel.message:
            for party in ("party-1", "party-2", "party-3"):
                with closing(sqlite3.connect(tmp_path / party / "party.db")) as database:
                    rows = database.execute("SELECT round_index, agreement FROM bound").fetchall()
                bound.append((len(rows), rows[0][0] if rows else None))
        return parcel.message

    world.fault = look
    world.run()
    assert not world.errors
    assert set(bound) == {(1, 0)}


def test_parties_with_different_plans_refuse_each_other(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the software could scale its noise differently: found before any owner is charged."""
    init = ComputeParty.__init__

    def with_another_plan(party: ComputeParty, name: str, task: Task, plan: Plan, *rest: Any) -> None:
        if name == "party-2":
            plan = replace(plan, encoding=replace(plan.encoding, scale=plan.encoding.scale * 2))
        init(party, name, task, plan, *rest)

    monkeypatch.setattr(ComputeParty, "__init__", with_another_plan)
    world = _world(tmp_path, task)
    world.run()
    assert not world.models
    assert "disagrees on the plan" in str(world.errors["coordinator"])
    with Ledger(tmp_path / "owner-1" / "ledger.db") as ledger:
        assert ledger.entries() == ()


@pytest.mark.parametrize(
    "change",
    [{"session": bytes(32)}, {"round_index": 1}, {"history": bytes(32)}, {"plan_digest": bytes(32)}],
    ids=lambda change: next(iter(change)),
)
def test_a_collector_that_proposes_something_else_is_refused(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    collect = ComputeParty._collect
    monkeypatch.setattr(ComputeParty, "_collect", lambda *arguments: replace(collect(*arguments), **change))
    world = _world(tmp_path, task)
    world.run()
    assert not world.models
    assert "party-3 proposes another" in str(world.errors["party-1"])
    assert not any(b"reveal" in parcel.message for parcel in world.parcels)


def test_a_collector_that_invents_owners_is_refused_by_every_party(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions: tuple[int, ...]
    for positions in ((1, 9), (0,), ()):
        collect = ComputeParty._collect

        def lie(
            party: ComputeParty,
            request: Aggregate,
            positions: tuple[int, ...] = positions,
            collect: Callable[[ComputeParty, Aggregate], RoundAgreement] = collect,
        ) -> RoundAgreement:
            owners, nonces = OwnerSet.of(positions), (bytes(32),) * len(positions)
            return replace(collect(party, request), owners=owners, nonces=nonces)

        with monkeypatch.context() as patch:
            patch.setattr(ComputeParty, "_collect", lie)
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            world = _world(folder, task)
            world.run()
        assert not world.models
        assert isinstance(world.errors["coordinator"], ProtocolError)
        assert not any(b"reveal" in parcel.message for parcel in world.parcels)
