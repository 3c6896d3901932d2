"""Processes that die at named points of the protocol, and are started again with the same config and state."""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import hostile_network
import pytest
from crash_matrix import MATRIX, Crash
from crash_points import arm
from farmed_network import Farm, FarmedNetwork
from hostile_network import check_ends, check_result, make, note, succeeded
from mortal_world import MortalWorld
from seeded_noise import SeededNoise, with_seeded_noise
from thread_sessions import SECONDS, check_end, hurried, make_world, without_noise

from mpcdp.plan import make_plan
from mpcdp.roles.dealing_desk import DealingDesk
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.task import Task
from mpcdp.transport.in_process import Parcel
from mpcdp.transport.messages import DealRequest

_SEEDED = list(enumerate(MATRIX))[1::3]


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as farm:
        yield farm


def test_the_dealer_is_let_go_only_when_the_session_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a coordinator that dies in between asks for a dealer that has ended."""
    started: list[int] = []

    def look(number: int, parcel: Parcel) -> None:
        if parcel.method == "Dealer/CloseSession" and parcel.sender == "coordinator":
            with closing(sqlite3.connect(world.states()["coordinator"] / "session.db")) as database:
                started.extend(row[0] for row in database.execute("SELECT started FROM sessions"))

    hurried(monkeypatch)
    world, task = make_world(tmp_path, "gradient joint 2", monkeypatch, on_message=look)
    with world:
        world.start()
        world.join(SECONDS)
        assert check_end(world, task, noise=True)
    assert set(started) == {1}


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param(each, marks=() if number % 24 == 20 else pytest.mark.exhaustive)
        for number, each in enumerate(MATRIX)
    ],
    ids=str,
)
def test_a_process_that_dies_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: Crash) -> None:
    """Between threads."""
    without_noise(monkeypatch)
    _die_and_come_back(tmp_path, monkeypatch, crash, noise=False)


@pytest.mark.exhaustive
@pytest.mark.parametrize("crash", MATRIX[::4], ids=str)
def test_noise_is_the_same_to_everybody_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: Crash
) -> None:
    """With noise: every party, in every life, opens one vector for a round, and all models are of these vectors."""
    _die_and_come_back(tmp_path, monkeypatch, crash, noise=True)


def _die_and_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch, crash: Crash, *, noise: bool) -> None:
    hurried(monkeypatch)
    world, task = make_world(folder, crash.setting, monkeypatch)
    _run_and_crash(world, task, monkeypatch, crash, noise=noise)


def _run_and_crash(
    world: MortalWorld,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    crash: Crash | None,
    *,
    noise: bool | Callable[[int], RingVector],
) -> None:
    died = threading.Event()

    def fire() -> None:
        if not died.is_set():
            died.set()
            world.die(victim)

    victim = "" if crash is None else crash.victim
    if crash is not None:
        arm(crash.point, fire, counts=lambda subject: world.name_of(subject) == victim, patch=monkeypatch.setattr)
    with world:
        world.start()
        if crash is not None:
            assert died.wait(SECONDS), f"{victim} never came to that point"
            world.restart(victim)
        world.join(SECONDS)
        well = check_end(world, task, noise=noise)
        assert well or (crash is not None and crash.missed and world.errors().keys() == {victim}), world.errors()


def test_a_request_of_an_attempt_that_is_over_ends_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A party that gave an attempt up while it waited for the dealer still asks when the dealer comes back."""
    hurried(monkeypatch)
    without_noise(monkeypatch)
    world, task = make_world(tmp_path, "output joint 3", monkeypatch)
    late: list[str] = []

    def write_down(
        desk: DealingDesk,
        caller: str,
        request: DealRequest,
        write: Callable[..., None] = DealingDesk._write_down,
    ) -> None:
        write(desk, caller, request)
        if not late:
            late.append(caller)
            write(desk, caller, replace(request, batch="noise-of-an-earlier-attempt"))

    monkeypatch.setattr(DealingDesk, "_write_down", write_down)
    with world:
        world.start()
        world.join(SECONDS)
        assert check_end(world, task), world.errors()
    assert late


@pytest.mark.parametrize(
    "crash",
    [
        None,
        *(pytest.param(each, marks=() if number == 22 else pytest.mark.exhaustive) for number, each in _SEEDED),
    ],
    ids=str,
)
def test_a_crash_changes_no_release_of_a_session_with_the_same_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: Crash | None
) -> None:
    """With noise: all rounds are those of an undisturbed session with the same seeds, to the last bit.

    The noise comes from the product's sampler under keys that follow from a seed, the party and the round. Between real
    processes it has a fresh secret key at every start, and nobody knows it: there, noise is compared with itself only.
    """
    setting = "gradient per-party 3" if crash is None else crash.setting
    hurried(monkeypatch)
    world, task = make_world(tmp_path, setting, monkeypatch)
    noise = SeededNoise(task, seed=11)
    with_seeded_noise(world, task, noise, monkeypatch)
    assert all(noise.total(index).any() for index in range(make_plan(task).rounds))
    _run_and_crash(world, task, monkeypatch, crash, noise=noise.total)


_REAL = [each for each in MATRIX if each.real]


def test_real_processes_of_every_kind_are_killed_at_forty_points_and_more() -> None:
    """What the next test is about; a row that loses its star is missed here."""
    assert len({(each.victim.partition("-")[0], each.point) for each in _REAL}) >= 40
    victims = {"party-1", "party-2", "party-3", "owner-1", "owner-2", "dealer", "coordinator"}
    assert {each.victim for each in _REAL} == victims
    for method in ("output", "gradient"):
        methods = [each for each in _REAL if each.setting.startswith(method)]
        assert {each.victim.partition("-")[0] for each in methods} == {"party", "owner", "dealer", "coordinator"}
    assert {each.setting.partition(" ")[2] for each in _REAL} == {"joint 2", "joint 3", "per-party 2", "per-party 3"}


@pytest.mark.exhaustive
@pytest.mark.timeout(150)
@pytest.mark.parametrize("crash", _REAL, ids=str)
def test_a_process_that_is_killed_and_started_again(tmp_path: Path, farm: Farm, crash: Crash) -> None:
    made = make(tmp_path, crash.setting)
    start = time.monotonic()
    with FarmedNetwork(made.folder, farm) as network:
        network.arm(crash.victim, crash.real_text)
        network.start()
        assert network.wait_for_death(crash.victim, hostile_network.SECONDS), f"{crash.victim} never came to that point"
        network.start(crash.victim)
        results = {result.name: result for result in network.wait(hostile_network.SECONDS)}
    note(crash, start, results)
    check_ends(network, results)
    check_result(made, results)
    assert succeeded(results)


@pytest.mark.exhaustive
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("victim", "text"),
    [
        ("owner-1", "after privacy.ledger:Ledger.charge"),
        ("party-1", "after transport.mesh:LinkMesh.exchange [agree]"),
        ("dealer", "after roles.dealer:Dealer.open_session"),
        ("coordinator", "before transport.clients:ComputePartyClient.aggregate"),
    ],
)
def test_a_process_that_freezes_and_goes_on(tmp_path: Path, farm: Farm, victim: str, text: str) -> None:
    """Longer than it takes the others to notice: the rest of its life begins with broken connections."""
    made = make(tmp_path, "gradient joint 2")
    start = time.monotonic()
    with FarmedNetwork(made.folder, farm) as network:
        network.arm(victim, f"stop {text}")
        network.start()
        network.wait_for_stop(victim, hostile_network.SECONDS)
        time.sleep(12.0)
        network.signal(victim, signal.SIGCONT)
        results = {result.name: result for result in network.wait(hostile_network.SECONDS)}
    note(f"{victim} frozen", start, results)
    check_ends(network, results)
    check_result(made, results)
