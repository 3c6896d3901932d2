"""Sessions of many rounds: owners that come and go, and a coordinator that asks for the wrong thing."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from session_world import SessionWorld, make_dataset, make_task

from mpcdp.data.records import Records
from mpcdp.errors import PeerUnavailable, ProtocolError
from mpcdp.learning.method import Method, TrainingState
from mpcdp.mpc.noise_bank import PerPartyNoise
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity
from mpcdp.roles.compute_party import ComputeParty
from mpcdp.roles.owner import Owner
from mpcdp.roles.training import History
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import NoiseShare
from mpcdp.simulation import simulate
from mpcdp.task import Task
from mpcdp.transport.messages import Aggregate, Release, RoundStarted

RECORDS = {"owner-1": 20, "owner-2": 35, "owner-3": 10}
ROUNDS = 5


class _Averaging:
    """Contributes the records' sum minus n times the current point: each round depends on all rounds before it."""

    rounds = ROUNDS
    dimension = parameter_count = 4
    sampling_rate = 1.0
    settings: Mapping[str, float | str] = {}

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        return Sensitivity(norm=Norm.L2, bound=2.0, relation=Relation.REPLACE_ONE)

    def contribution_bound(self, record_count: int) -> float:
        return 10.0 * record_count

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        point = np.clip(state.point, -1, 1)
        return np.asarray(dataset.in_memory().features.sum(axis=0) - dataset.record_count * point)

    def initial_state(self) -> TrainingState:
        return TrainingState(round_index=0, point=np.zeros(4), model=np.zeros(4))

    def next_state(
        self, state: TrainingState, release_sum: NDArray[np.float64], *, record_count: int, noise_deviation: float
    ) -> TrainingState:
        point = state.point + 0.5 * release_sum / record_count
        return TrainingState(round_index=state.round_index + 1, point=point, model=point)


class _RoundsTask(Task):
    def method(self) -> Method:
        return _Averaging()


def _task(*, minimum: int | None = None, parties: int = 3, seconds: float = 20.0) -> Task:
    task = make_task(RECORDS, features=3, minimum=minimum, parties=parties, seconds=seconds)
    deadlines = {"start_seconds": 30.0, "contribution_seconds": seconds, "round_seconds": 30.0}
    return _RoundsTask.model_validate({**task.model_dump(by_alias=True), "deadlines": deadlines})


def _world(folder: Path, task: Task) -> SessionWorld:
    datasets = {owner.name: make_dataset(task, owner.name, seed=i) for i, owner in enumerate(task.owners)}
    return SessionWorld(folder, task, datasets)


@pytest.fixture(name="no_noise")
def _no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(noise: PerPartyNoise, index: int) -> NoiseShare:
        return NoiseShare(np.zeros(noise._dimension, dtype=np.int64))

    monkeypatch.setattr(PerPartyNoise, "take", zeros)


@pytest.mark.parametrize("parties", [2, 3])
def test_many_rounds_without_noise_are_those_in_the_clear(tmp_path: Path, no_noise: None, parties: int) -> None:
    world = _world(tmp_path, _task(parties=parties))
    world.run()
    assert not world.errors
    exact = simulate(world.task, world.datasets, noise=False)
    rounding = ROUNDS * (world.plan.decode_offset + 1.5) / world.plan.encoding.scale
    for model in world.models.values():
        np.testing.assert_allclose(model.coefficients, exact, atol=rounding)
    assert len({model.coefficients for model in world.models.values()}) == 1


def test_every_round_is_released_once_with_noise_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, tuple[int, ...]]] = []
    take = PerPartyNoise.take

    def note(noise: PerPartyNoise, index: int) -> NoiseShare:
        share = take(noise, index)
        taken.append((index, tuple(share.values.tolist())))
        return share

    monkeypatch.setattr(PerPartyNoise, "take", note)
    world = _world(tmp_path, _task())
    world.run()
    assert not world.errors
    assert sorted(index for index, _ in taken) == sorted(list(range(ROUNDS)) * 3)
    assert len({values for _, values in taken}) == 3 * ROUNDS


def test_an_owner_that_loses_its_connection_is_left_out_and_returns(
    tmp_path: Path, no_noise: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It misses rounds 1 and 2, is told them when it is back, and ends with everybody's model."""
    world = _world(tmp_path, _task(minimum=2, seconds=3.0))
    away, back = threading.Event(), threading.Event()
    owners_of: list[OwnerSet] = []
    run_round = ComputeParty._run_round
    contribute = Owner._contribute

    def leave(owner: Owner, event: RoundStarted) -> None:
        if owner._name == "owner-3" and event.round_index == 1 and not away.is_set():
            away.set()
            raise PeerUnavailable("coordinator", "the connection broke")
        contribute(owner, event)

    def count(party: ComputeParty, ref: Any, round_index: int, *rest: Any) -> None:
        if party._name == "party-3" and round_index == 3:
            assert back.wait(10)
        run_round(party, ref, round_index, *rest)

    attend = Owner._attend

    def wait_outside(owner: Owner) -> Any:
        if owner._name == "owner-3" and away.is_set():
            _wait_until(lambda: len(owners_of) == 3)
            back.set()
        return attend(owner)

    append = History.append

    def note(history: Any, release: Release) -> None:
        if threading.current_thread().name == "party-1":
            owners_of.append(release.owners)
        append(history, release)

    monkeypatch.setattr(Owner, "_contribute", leave)
    monkeypatch.setattr(Owner, "_attend", wait_outside)
    monkeypatch.setattr(ComputeParty, "_run_round", count)
    monkeypatch.setattr(History, "append", note)
    world.run()
    assert not world.errors
    everybody, without = OwnerSet.of([0, 1, 2]), OwnerSet.of([0, 1])
    assert owners_of[:3] == [everybody, without, without]
    assert owners_of[-1] == everybody
    assert len({model.coefficients for model in world.models.values()}) == 1
    assert set(world.models) == {"coordinator", *RECORDS}


def _wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def test_a_late_owner_is_left_out_of_one_round_only(
    tmp_path: Path, no_noise: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path, _task(minimum=2, seconds=1.5))
    contribution = Owner._contribution
    owners_of: list[OwnerSet] = []

    def slowly(owner: Owner, state: TrainingState) -> NDArray[np.float64]:
        if owner._name == "owner-2" and state.round_index == 2:
            _wait_until(lambda: len(owners_of) >= 3)
        return contribution(owner, state)

    append = History.append

    def note(history: Any, release: Release) -> None:
        if threading.current_thread().name == "party-1":
            owners_of.append(release.owners)
        append(history, release)

    monkeypatch.setattr(Owner, "_contribution", slowly)
    monkeypatch.setattr(History, "append", note)
    world.run()
    assert not world.errors
    everybody = OwnerSet.of([0, 1, 2])
    assert owners_of == [everybody, everybody, OwnerSet.of([0, 2]), everybody, everybody]
    assert len({model.coefficients for model in world.models.values()}) == 1


def _requests_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Callable[[ComputeParty, Any], Iterator[str]]
) -> list[str]:
    """Attack the last party in round 2 of a session that then succeeds; return what was refused, in words."""
    world = _world(tmp_path, _task())
    refused: list[str] = []
    share_of_sum = ComputeParty._share_of_sum

    def look(party: ComputeParty, *arguments: Any) -> Any:
        if party._name == "party-3" and party._history.rounds == 2:
            refused.extend(attack(party, party._enrolments[0].ref))
        return share_of_sum(party, *arguments)

    monkeypatch.setattr(ComputeParty, "_share_of_sum", look)
    world.run()
    assert not world.errors
    assert len(world.models) == 4
    return refused


def _refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(ProtocolError) as raised:
        call(*arguments)
    return str(raised.value)


def test_the_coordinator_cannot_ask_for_a_round_twice_nor_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attack(party: ComputeParty, ref: Any) -> Iterator[str]:
        for round_index in (0, 3, ROUNDS, ROUNDS + 1):
            for owners in (OwnerSet.of([0, 1, 2]), OwnerSet.of([0])):
                yield _refusal(party.aggregate, "coordinator", Aggregate(ref, round_index, owners))
        yield _refusal(party.aggregate, "coordinator", Aggregate(ref, 1, OwnerSet.of([0])))
        last = party._last
        assert last is not None
        again = party.aggregate("coordinator", Aggregate(ref, 1, OwnerSet.of([0, 1, 2])))
        assert again is last.release  # asked again, the coordinator is told what was released, not more
        yield _refusal(party.aggregate, "coordinator", Aggregate(ref, 2, OwnerSet.of([0])))

    refused = _requests_refused(tmp_path, monkeypatch, attack)
    assert len(refused) == 10
    assert all("not next" in words or "already running" in words for words in refused)


def test_an_owner_cannot_answer_for_another_round_or_other_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attack(party: ComputeParty, ref: Any) -> Iterator[str]:
        good = party._uploads[0]
        yield _refusal(party.upload, "owner-1", replace(good, round_index=0))
        yield _refusal(party.upload, "owner-1", replace(good, round_index=3))
        yield _refusal(party.upload, "owner-1", replace(good, history=bytes(32)))
        yield _refusal(party.upload, "owner-1", replace(good, values=good.values[1:].copy()))
        yield _refusal(party.upload, "owner-1", replace(good, nonce=bytes(32)))

    refused = _requests_refused(tmp_path, monkeypatch, attack)
    for words, expected in zip(
        refused, ("is over", "this is round 2", "other releases", "3 coordinates", "another share"), strict=True
    ):
        assert expected in words
