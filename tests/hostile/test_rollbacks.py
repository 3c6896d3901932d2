"""Processes that come back with an older copy of their state, and identities that live twice."""

import logging
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_points import arm, point
from mortal_world import Killed, MortalWorld, copy_state
from thread_sessions import SECONDS, check_end, hurried, make_world, without_noise

from mpcdp.errors import MpcdpError
from mpcdp.transport.in_process import Parcel

_LAST_MESSAGE = {"output": 110, "gradient": 170}
_CASES = [
    (setting, victims)
    for setting in ("output joint 3", "gradient joint 2", "gradient per-party 2")
    for victims in ("party-1", "party-2", "parties", "owner-1", "owners", "coordinator", "dealer", "everybody")
    if not (victims == "dealer" and "per-party" in setting)
]


class _Rollback:
    """Copies the states of some processes at one message, and brings the copies back to life at a later one."""

    def __init__(self, folder: Path, victims: str, *, copied: int, restored: int) -> None:
        self._folder = folder
        self._victims = victims
        self._copied = copied
        self._restored = restored
        self._lock = threading.Lock()
        self.world: MortalWorld

    def names(self) -> list[str]:
        """Who is restored."""
        group = {"parties": "party", "owners": "owner", "everybody": ""}.get(self._victims, self._victims)
        return [name for name in self.world.names if name.startswith(group)]

    def on_message(self, number: int, parcel: Parcel) -> None:
        with self._lock:
            if number == self._copied:
                for name in self.names():
                    copy_state(self.world.life(name).state, self._folder / name)
            elif number >= self._restored and (self._folder / self.names()[0]).exists():
                with self.world.lock:
                    for name in self.names():
                        self.world.kill(name)
                    for name in self.names():
                        self.world.start(name, state=self._folder / name)
                shutil.rmtree(self._folder)


@pytest.mark.parametrize("setting_and_victims", _CASES, ids=lambda case: f"{case[0].replace(' ', '-')}:{case[1]}")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.exhaustive
def test_an_older_state_never_makes_a_second_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting_and_victims: tuple[str, str], seed: int
) -> None:
    hurried(monkeypatch)
    without_noise(monkeypatch)
    setting, victims = setting_and_victims
    generator = random.Random(f"{setting} {victims} {seed}")  # noqa: S311 (a test's schedule)
    copied, restored = sorted(generator.sample(range(1, _LAST_MESSAGE[setting.split()[0]]), 2))
    rollback = _Rollback(tmp_path / "copies", victims, copied=copied, restored=restored)
    world, task = make_world(tmp_path, setting, monkeypatch, on_message=rollback.on_message)
    rollback.world = world
    with world:
        world.start()
        world.join(SECONDS)
        well = check_end(world, task, restored=rollback.names())
    logging.getLogger(__name__).info("%d, %d: %s", copied, restored, "well" if well else world.errors())


@pytest.mark.parametrize(
    ("setting", "number"),
    [
        pytest.param("gradient per-party 2", 2, marks=pytest.mark.slow),
        *(
            pytest.param(setting, number, marks=pytest.mark.exhaustive)
            for setting, number in (("output per-party 2", 1), ("output per-party 3", 1), ("gradient per-party 3", 3))
        ),
    ],
)
def test_a_party_that_is_restored_while_all_others_crash_makes_no_second_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, number: int
) -> None:
    """To before its binding, when a round was opened and nobody has written the release down."""
    hurried(monkeypatch)
    world, task = make_world(tmp_path, setting, monkeypatch)
    parties = [party.name for party in task.compute_parties]
    copied, died = threading.Event(), threading.Event()

    def copy() -> None:
        copy_state(world.life("party-1").state, tmp_path / "older")
        copied.set()

    def crash() -> None:
        with world.lock:
            for name in parties:
                world.kill(name)
        died.set()
        raise Killed

    def arm_at(name: str, text: str, fire: Callable[[], None]) -> None:
        arm(point(text), fire, counts=lambda subject: world.name_of(subject) == name, patch=monkeypatch.setattr)

    arm_at("party-1", f"before roles.journal:PartyJournal.bind_round #{number}", copy)
    for name in parties:
        arm_at(name, f"before roles.journal:PartyJournal.record_release #{number}", crash)
    with world:
        world.start()
        assert died.wait(SECONDS)
        assert copied.is_set()
        world.start("party-1", state=tmp_path / "older")
        for name in parties[1:]:
            world.restart(name)
        world.join(SECONDS)
        assert not check_end(world, task, noise=True, restored=["party-1"])
    assert any("party-1 has lost the record of round" in str(error) for error in world.errors().values())


@pytest.mark.parametrize("setting", ["gradient joint 2", "gradient per-party 3"])
@pytest.mark.parametrize("victim", ["party-1", "party-2", "owner-1", "coordinator"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.exhaustive
def test_an_identity_that_lives_twice_never_makes_a_second_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, victim: str, seed: int
) -> None:
    """A copy of a running process, state and all, that calls the others under the same name."""
    hurried(monkeypatch)
    without_noise(monkeypatch)
    at = random.Random(f"{setting} {victim} {seed}").randrange(1, _LAST_MESSAGE["gradient"])  # noqa: S311 (a test's)
    cloned = threading.Event()

    def on_message(number: int, parcel: Parcel) -> None:
        if number >= at and not cloned.is_set():
            cloned.set()
            world.clone(victim)

    world, task = make_world(tmp_path, setting, monkeypatch, on_message=on_message)
    with world:
        world.start()
        world.join(SECONDS)
        well = check_end(world, task)
        assert cloned.is_set()
        world.clones[0].thread.join(SECONDS)
        assert not world.clones[0].thread.is_alive(), "the clone hangs"
        error = world.clones[0].error
        assert error is None or isinstance(error, MpcdpError), error
    logging.getLogger(__name__).info("%d: %s, clone: %s", at, "well" if well else world.errors(), error)
