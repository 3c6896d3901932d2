"""Damaged messages that are still valid, for calls that wait, end a session or begin it anew: no release goes wrong."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from mutations import mutate_call
from network_worlds import LIMITS
from siege import BLOCKING, STAGES, Siege
from thread_sessions import SECONDS, check_end, hurried, make_world, quiet, without_noise

from mpcdp.errors import MpcdpError
from mpcdp.transport import codec
from mpcdp.transport.channel import Member
from mpcdp.transport.reader import Reader

_DEADLINE_SECONDS = 0.1
_TRIES = 300
_REASON = 20 * "the coordinator ends it "
"""However it is damaged, it names a process, as the reasons of the product do."""


class _Sortie(Siege):
    """Sends valid messages only, each with a short deadline, after which its caller is gone."""

    def attack(self) -> None:
        """Attack when the session is held up, then let it go on.

        Raises:
            AssertionError: a call ended with what is no error of ours.
        """
        self.threads: list[threading.Thread] = []
        self.bugs: list[BaseException] = []
        try:
            assert self._laid.wait(SECONDS)
            time.sleep(0.2)  # what was delivered before has arrived
            self._send_all()
        finally:
            self._lifted.set()

    def _send_all(self) -> None:
        members = {each.name: each for each in self.world.members}
        calls = {key: messages for key, messages in self.calls().items() if key[2] in BLOCKING}
        for (sender, receiver, method), messages in list(calls.items()):
            if method in ("ComputeParty/OpenSession", "Dealer/OpenSession"):
                ref = codec.read_open_session(Reader(sender, messages, LIMITS))
                close = method.replace("Open", "Close")
                reason = self._generator.choice((_REASON, None))
                calls[sender, receiver, close] = [codec.write_close_session(ref, reason)]
        others = [message for messages in calls.values() for message in messages]
        methods = sorted({method for _, _, method in calls})
        for method in self._generator.choices(methods, k=self._count):
            caller, receiver, _ = key = self._generator.choice([key for key in calls if key[2] == method])
            damaged = self._valid(key, calls[key], others)
            if damaged is not None and self.world.reception(receiver) is not None:
                self.ends[method, self._try(members[caller], receiver, method, damaged)] += 1

    def _valid(self, key: tuple[str, str, str], messages: list[bytes], others: list[bytes]) -> list[bytes] | None:
        """Damage a call until it is another one that can be read."""
        for _ in range(_TRIES):
            damaged = mutate_call(messages, others, self._generator)
            if damaged != messages:
                with suppress(MpcdpError):
                    BLOCKING[key[2]](Reader(key[0], damaged, LIMITS))
                    return damaged
        return None

    def _try(self, caller: Member, receiver: str, method: str, messages: Sequence[bytes]) -> str:
        """Call and hang up after a moment, and return how it ended, if it did by then."""
        ends: list[str] = []
        callbacks: list[Callable[[], None]] = []
        reception = self.world.reception(receiver)
        assert reception is not None

        def call() -> None:
            try:
                for _ in reception.answer(caller, method, iter(messages), callbacks.append):
                    pass
                ends.append("accepted")
            except MpcdpError as error:
                ends.append(type(error).__name__)
            except Exception as error:  # noqa: BLE001 (the test looks at it)
                self.bugs.append(error)

        thread = threading.Thread(target=call, daemon=True)
        self.threads.append(thread)
        thread.start()
        thread.join(_DEADLINE_SECONDS)
        waits = thread.is_alive()
        for callback in list(callbacks):
            callback()
        return "waits" if waits or not ends else ends[0]


@pytest.mark.exhaustive
@pytest.mark.timeout(150)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("seed", range(6))
def test_no_valid_message_makes_a_release_go_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, seed: int
) -> None:
    """A member may well end the session it is in, or hold it up: then everybody names a process, and in time."""
    hurried(monkeypatch)
    without_noise(monkeypatch)
    quiet(monkeypatch)
    start = time.monotonic()
    sortie = _Sortie(STAGES[stage], count=20, seed=seed)
    world, task = make_world(tmp_path, "output joint 3", monkeypatch, on_message=sortie.on_message, seconds=6.0)
    sortie.world = world
    with world:
        world.start()
        sortie.attack()
        world.join(SECONDS)
        well = check_end(world, task)
        for thread in sortie.threads:
            thread.join(10)
        assert not [thread for thread in sortie.threads if thread.is_alive()]
    assert not sortie.bugs
    assert sum(sortie.ends.values()) > 5
    story = "well" if well else world.errors()
    logging.getLogger(__name__).info("%s in %.1f s: %s", sortie.ends, time.monotonic() - start, story)
