"""Power cuts: what was not synced to disk when the process died is gone when it comes back."""

import logging
import random
import threading
from pathlib import Path

import mortal_world
import pytest
from last_sync import LastSync
from mortal_world import MortalWorld
from thread_sessions import SECONDS, check_end, hurried, make_world, without_noise

from mpcdp.private_files import write_private_file
from mpcdp.transport.in_process import Parcel

_LAST_MESSAGE = {"output": 110, "gradient": 170}
_CASES = [
    (setting, victims)
    for setting in ("output joint 2", "gradient joint 3", "gradient per-party 2")
    for victims in ("party-1", "party-2", "owner-1", "coordinator", "everybody")
]


def test_the_stand_in_loses_what_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    last = LastSync(monkeypatch)
    write_private_file(state / "kept", b"one")
    write_private_file(state / "changed", b"old")
    (state / "changed").write_bytes(b"new")
    (state / "lost").write_bytes(b"never")
    (state / "kept").with_name("kept.part").write_bytes(b"two")
    (state / "kept.part").replace(state / "kept")
    last.copy(state, tmp_path / "after")
    assert {path.name: path.read_bytes() for path in (tmp_path / "after").iterdir()} == {
        "kept": b"one",
        "changed": b"old",
    }


class _Cut:
    """Cuts the power of some processes at one message; they are back at once."""

    def __init__(self, victims: str, at: int) -> None:
        self._victims = victims
        self._at = at
        self._lock = threading.Lock()
        self.world: MortalWorld

    def on_message(self, number: int, parcel: Parcel) -> None:
        with self._lock:
            if number < self._at:
                return
            self._at = 1 << 60
        names = [name for name in self.world.names if self._victims in ("everybody", name)]
        with self.world.lock:
            for name in names:
                self.world.kill(name)
            for name in names:
                self.world.restart(name)


@pytest.mark.parametrize("setting_and_victims", _CASES, ids=lambda case: f"{case[0].replace(' ', '-')}:{case[1]}")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.exhaustive
def test_a_power_cut_costs_nothing_that_was_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting_and_victims: tuple[str, str], seed: int
) -> None:
    hurried(monkeypatch)
    without_noise(monkeypatch)
    last = LastSync(monkeypatch)
    monkeypatch.setattr(mortal_world, "copy_state", last.copy)
    setting, victims = setting_and_victims
    generator = random.Random(f"{setting} {victims} {seed}")  # noqa: S311 (a test's schedule)
    cut = _Cut(victims, generator.randrange(1, _LAST_MESSAGE[setting.split()[0]]))
    world, task = make_world(tmp_path, setting, monkeypatch, on_message=cut.on_message)
    cut.world = world
    with world:
        world.start()
        world.join(SECONDS)
        well = check_end(world, task)
    logging.getLogger(__name__).info("%s", "well" if well else world.errors())


def test_only_what_others_still_have_is_written_without_waiting_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Releases: whoever lost one is told it again, by those who opened it or by opening the bound shares again."""
    hurried(monkeypatch)
    last = LastSync(monkeypatch)
    world, task = make_world(tmp_path, "gradient joint 2", monkeypatch)
    with world:
        world.start()
        world.join(SECONDS)
        assert check_end(world, task, noise=True), world.errors()
    assert last.unsynced == {
        "INSERT OR REPLACE",  # the last release, at a compute party
        "UPDATE sessions SET",  # how many there are
        "INSERT OR IGNORE",  # a release, and who has its model, at the coordinator
    }
