"""Processes that die at named points of the protocol, and are started again with the same config and state."""

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import hostile_network
import pytest
from crash_matrix import MATRIX, Crash
from crash_points import arm
from farmed_network import Farm, FarmedNetwork
from hostile_network import check_ends, check_result, make, note, succeeded
from thread_sessions import SECONDS, check_end, hurried, make_world, without_noise

from mpcdp.transport.in_process import Parcel


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
    died = threading.Event()
    world, task = make_world(folder, crash.setting, monkeypatch)

    def fire() -> None:
        if not died.is_set():
            died.set()
            world.die(crash.victim)

    arm(crash.point, fire, counts=lambda subject: world.name_of(subject) == crash.victim, patch=monkeypatch.setattr)
    with world:
        world.start()
        assert died.wait(SECONDS), f"{crash.victim} never came to that point"
        world.restart(crash.victim)
        world.join(SECONDS)
        well = check_end(world, task, noise=noise)
        assert well or (crash.missed and world.errors().keys() == {crash.victim}), world.errors()


@pytest.mark.exhaustive
@pytest.mark.timeout(150)
@pytest.mark.parametrize("crash", [each for each in MATRIX if each.real], ids=str)
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
