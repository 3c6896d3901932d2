"""A session that is held up while its processes are attacked with damaged copies of their own messages."""

import random
import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest
from mortal_world import MortalWorld
from mutations import mutate_call
from network_worlds import LIMITS
from thread_sessions import SECONDS, check_end, make_world

from mpcdp.errors import MpcdpError
from mpcdp.transport import codec, frames
from mpcdp.transport.access import CALLERS, MESH
from mpcdp.transport.channel import Member
from mpcdp.transport.in_process import Parcel
from mpcdp.transport.reader import Reader

__all__ = ["BLOCKING", "STAGES", "Siege", "besiege", "memory"]


def memory() -> int:
    """Return the largest resident memory so far, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


BLOCKING: dict[str, Callable[[Reader], object]] = {
    "Coordinator/Attend": codec.read_attendance,
    "ComputeParty/OpenSession": codec.read_open_session,
    "ComputeParty/Aggregate": codec.read_aggregate,
    "ComputeParty/CloseSession": codec.read_close_session,
    "Dealer/OpenSession": codec.read_open_session,
    "Dealer/Deal": codec.read_deal_request,
    "Dealer/CloseSession": codec.read_close_session,
    MESH: lambda reader: next(frames.read_frames(reader)),
}
"""Calls that wait for what the session does next, end it, or begin it anew, as a party that comes back does: a damaged
one that is still valid is sent by `test_valid_fuzz` instead, whose sessions may end."""


class Siege:
    """Holds a session up, attacks its processes with damaged copies of what was sent so far, and lets go.

    Args:
        until: the message that is held up, and everything after it.
        count: number of attacks.
        seed: of the damage.
    """

    def __init__(self, until: Callable[[Parcel], bool], *, count: int, seed: int) -> None:
        self._until = until
        self._count = count
        self._generator = random.Random(seed)  # noqa: S311 (a test's damage)
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str, str], list[bytes]] = {}
        self._laid = threading.Event()
        self._lifted = threading.Event()
        self.world: MortalWorld
        self.ends: Counter[tuple[str, str]] = Counter()

    def on_message(self, number: int, parcel: Parcel) -> None:
        with self._lock:
            if self._until(parcel):
                self._laid.set()
            elif not self._laid.is_set():
                self._calls.setdefault((parcel.sender, parcel.receiver, parcel.method), []).append(parcel.message)
        if self._laid.is_set():
            assert self._lifted.wait(850)

    def attack(self) -> None:
        """Attack when the session is held up, then let it go on.

        Raises:
            AssertionError: an attack had an effect that it must not have.
        """
        try:
            assert self._laid.wait(SECONDS)
            time.sleep(0.2)  # what was delivered before has arrived
            before, threads, bytes_before = self._on_disk(), threading.active_count(), memory()
            self._send_all()
            assert self._on_disk() == before
            assert threading.active_count() <= threads
            assert memory() - bytes_before < 64 << 20
        finally:
            self._lifted.set()

    def _on_disk(self) -> dict[Path, object]:
        """Return everything in the state folders."""
        found: dict[Path, object] = {}
        for state in self.world.states().values():
            for path in state.rglob("*"):
                if path.suffix == ".db":
                    with closing(sqlite3.connect(path)) as database:
                        found[path] = list(database.iterdump())
                elif path.is_file() and not path.name.endswith(("-wal", "-shm", "-journal")):
                    found[path] = path.read_bytes()
        return found

    def calls(self) -> dict[tuple[str, str, str], list[bytes]]:
        """Return what was sent to processes that listen, by caller, receiver and method; no answers."""
        roles = {each.name: each.role for each in self.world.members}
        return {
            (caller, receiver, method): messages
            for (caller, receiver, method), messages in self._calls.items()
            if roles[caller] in CALLERS.get((roles[receiver], method), ())
            and self.world.reception(receiver) is not None
        }

    def _send_all(self) -> None:
        members, calls = {each.name: each for each in self.world.members}, self.calls()
        others = [message for messages in calls.values() for message in messages]
        methods = sorted({method for _, _, method in calls})
        for method in self._generator.choices(methods, k=self._count):
            caller, receiver, _ = self._generator.choice([key for key in calls if key[2] == method])
            messages = mutate_call(calls[caller, receiver, method], others, self._generator)
            self.ends[method, self._send(members[caller], receiver, method, messages)] += 1

    def _send(self, caller: Member, receiver: str, method: str, messages: Sequence[bytes]) -> str:
        if method in BLOCKING:
            with suppress(MpcdpError):
                BLOCKING[method](Reader(caller.name, messages, LIMITS))
                return "valid"
        reception = self.world.reception(receiver)
        assert reception is not None, f"{receiver} listens no more"
        try:
            answers = reception.answer(caller, method, iter(messages), lambda callback: callback())
            with closing(cast(Generator[bytes], answers)):
                next(answers, None)
        except MpcdpError as error:
            return type(error).__name__
        return "accepted"


def besiege(
    folder: Path, until: Callable[[Parcel], bool], monkeypatch: pytest.MonkeyPatch, *, count: int, seed: int
) -> Siege:
    siege = Siege(until, count=count, seed=seed)
    world, task = make_world(folder, "output joint 3", monkeypatch, on_message=siege.on_message, seconds=900.0)
    siege.world = world
    with world:
        world.start()
        siege.attack()
        world.join(SECONDS)
        assert check_end(world, task), world.errors()
    return siege


def dealing(parcel: Parcel) -> bool:
    return parcel.sender == "dealer" and parcel.method == "Dealer/Deal"


def opening(parcel: Parcel) -> bool:
    return b"reveal" in parcel.message


STAGES: Mapping[str, Callable[[Parcel], bool]] = {"dealing": dealing, "opening": opening}
