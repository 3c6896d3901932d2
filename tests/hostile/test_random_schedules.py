"""Random processes die, freeze and come back at random moments; what is released stays right."""

import logging
import random
import threading
import time
from pathlib import Path

import pytest
from mortal_world import MortalWorld
from thread_sessions import SECONDS, SETTINGS, check_end, hurried, make_world, without_noise

from mpcdp.task import Task
from mpcdp.transport.in_process import Parcel

_LAST_MESSAGE = {"output": 110, "gradient": 170}
_QUICK = 3
_log = logging.getLogger(__name__)


class _Disturber:
    """Kills and freezes processes when messages of drawn numbers are on their way, and starts the killed ones again."""

    def __init__(self, generator: random.Random, last: int) -> None:
        self._generator = generator
        self._due = sorted(generator.randrange(1, last) for _ in range(generator.randint(1, 3)))
        self._lock = threading.Lock()
        self._timers: list[threading.Timer] = []
        self.world: MortalWorld
        self.done: list[str] = []

    def on_message(self, number: int, parcel: Parcel) -> None:
        with self._lock:
            if not self._due or number < self._due[0]:
                return
            self._due.pop(0)
            victim = self._generator.choice(self.world.names)
            pause = self._generator.choice((0.0, 0.1, 0.5))
            freezes = self._generator.random() < 0.25
            self.done.append(f"message {number}: {victim} {'freezes' if freezes else 'dies'} for {pause} s")
        if freezes:
            self.world.freeze(victim, pause + 0.5)
        else:
            self.world.kill(victim)
            timer = threading.Timer(pause, self.world.restart, (victim,))
            timer.start()
            self._timers.append(timer)

    def settle(self) -> None:
        """Wait until everybody who was killed is started again."""
        for timer in self._timers:
            timer.join()


def run_schedule(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, str]:
    """Run a session under a schedule drawn from a seed; whether everybody got the model, and what was done."""
    generator = random.Random(seed)  # noqa: S311 (a test's schedule)
    setting = generator.choice(SETTINGS)
    disturber = _Disturber(generator, _LAST_MESSAGE[setting.split()[0]])
    with monkeypatch.context() as patch:
        world, task = make_world(folder, setting, patch, on_message=disturber.on_message)
        disturber.world = world
        return _run(world, task, disturber, f"seed {seed}, {setting}")


def _run(world: MortalWorld, task: Task, disturber: _Disturber, what: str) -> tuple[bool, str]:
    with world:
        world.start()
        try:
            world.join(SECONDS)
            disturber.settle()
            world.join(SECONDS)
            return check_end(world, task), f"{what}: {disturber.done}; {world.errors()}"
        except AssertionError as error:
            raise AssertionError(f"{what}: {disturber.done}; {world.errors()}") from error


def test_no_schedule_releases_anything_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried(monkeypatch)
    without_noise(monkeypatch)
    for seed in range(_QUICK):
        run_schedule(tmp_path / str(seed), seed, monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", range(10))
def test_no_schedule_of_two_hundred_releases_anything_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    hurried(monkeypatch)
    without_noise(monkeypatch)
    ended = []
    for seed in range(100 + 20 * block, 120 + 20 * block):
        start = time.monotonic()
        well, story = run_schedule(tmp_path / str(seed), seed, monkeypatch)
        _log.info("%s in %.1f s: %s", "well" if well else "errors", time.monotonic() - start, story)
        ended.append(well)
    assert sum(ended) >= 10, "most schedules end with the model"
