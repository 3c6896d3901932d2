"""What a server does for one owner does not grow with the number of owners, and it still waits for the right ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from session_world import make_task

from mpcdp.errors import ProtocolError
from mpcdp.plan import make_plan
from mpcdp.roles.coordinator_journal import CoordinatorJournal
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.owner_desk import OwnerDesk
from mpcdp.roles.party_rounds import PartyRounds
from mpcdp.roles.session import new_session
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.randomness import KEY_BYTES
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import Aggregate, Attendance, Enrolment, Finished, SessionRef

COUNT = 60
TASK = make_task({f"owner-{number}": 20 for number in range(COUNT)}, parties=2, features=3)
SECONDS = 20.0


class _Party(PartyRounds):
    """The first party, which takes keys; it counts how often it goes through all of them."""

    looked = 0
    waited: OwnerSet | None = None

    def prepare(self, ref: SessionRef) -> None:
        self._take(ref)
        self._ready.set_result(None)

    def wait(self, request: Aggregate) -> None:
        self.waited = self._wait_for_enrolments(request)

    def _enrolled(self) -> OwnerSet:
        self.looked += 1
        return super()._enrolled()


@contextmanager
def _waiting(folder: Path, owners: range) -> Iterator[tuple[_Party, SessionRef, threading.Thread]]:
    with PartyJournal(folder) as journal:
        party = _Party("party-1", TASK, make_plan(TASK), cast(Network, object()), journal)
        ref = new_session(TASK)
        party.prepare(ref)
        request = Aggregate(ref=ref, round_index=0, owners=OwnerSet.of(owners))
        thread = threading.Thread(target=party.wait, args=(request,), daemon=True)
        thread.start()
        yield party, ref, thread
        thread.join(SECONDS)


def _enrol(party: _Party, ref: SessionRef, positions: range) -> None:
    for position in positions:
        name = f"owner-{position}"
        party.enrol(name, Enrolment(ref=ref, owner=name, key=bytes(KEY_BYTES)))


def test_a_party_does_not_go_through_all_keys_for_each_one(tmp_path: Path) -> None:
    with _waiting(tmp_path, range(COUNT)) as (party, ref, _):
        _enrol(party, ref, range(COUNT))
    assert party.waited == OwnerSet.of(range(COUNT))
    # When the last one is there, when the wait ends, and for what it returns.
    assert party.looked <= 4


def test_a_party_waits_for_the_owners_that_are_asked_for_and_not_for_as_many_others(tmp_path: Path) -> None:
    with _waiting(tmp_path, range(COUNT - 1)) as (party, ref, thread):
        _enrol(party, ref, range(1, COUNT))
        thread.join(0.3)
        assert thread.is_alive()
        assert party.waited is None
        _enrol(party, ref, range(1))
    assert party.waited == OwnerSet.of(range(COUNT))


def _attendance(name: str) -> Attendance:
    return Attendance(TASK.digest, name, 20)


def test_the_desk_looks_an_owner_up_and_refuses_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(self: Task, name: str) -> None:
        raise AssertionError(f"went through all owners for {name}")

    desk = OwnerDesk(TASK, make_plan(TASK))
    monkeypatch.setattr(Task, "owner", search)
    desk.attend("owner-59", _attendance("owner-59"))
    with pytest.raises(ProtocolError, match="stranger is no owner of this task"):
        desk.attend("stranger", _attendance("stranger"))
    with pytest.raises(ProtocolError, match="joins with 21 records, the task declares 20"):
        desk.attend("owner-3", Attendance(TASK.digest, "owner-3", 21))


@pytest.mark.parametrize("last", ["owner-2", "owner-5"])
def test_the_desk_waits_for_owners_of_the_release_and_for_those_who_attend(tmp_path: Path, last: str) -> None:
    with CoordinatorJournal(tmp_path) as journal:
        desk, ref = OwnerDesk(TASK, make_plan(TASK)), new_session(TASK)
        desk._journal = journal
        journal.open_session(ref)
        for name in ("owner-0", "owner-1", "owner-2"):
            desk.attend(name, _attendance(name))
        desk._publish(ref)
        desk._tell_owners(Finished(ref=ref, last=None))
        thread = threading.Thread(target=desk._wait_until_served, args=(OwnerSet.of([0, 5]),), daemon=True)
        thread.start()
        # 5 is in the release and has not come back, 1 and 2 are not in it and attend.
        for name in (*(name for name in ("owner-0", "owner-1", "owner-2", "owner-5") if name != last), last):
            thread.join(0.1)
            assert thread.is_alive(), name
            desk.leave(name, _attendance(name))
        thread.join(SECONDS)
        assert not thread.is_alive()
