"""The ledger: nothing is spent twice, nothing is forgotten, nothing is changed unseen."""

import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
import stat
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from mpcdp.errors import BudgetError
from mpcdp.privacy.accountant import gaussian_mu
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost
from mpcdp.privacy.ledger import Charge, Ledger, NoiseRecord, ReleaseRecord

_COST = PrivacyBudget(epsilon=0.5, delta=1e-6)
_TASK, _OTHER_TASK = b"\1" * 32, b"\2" * 32
_SESSION, _OTHER_SESSION = b"\3" * 32, b"\4" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def _fill(path: Path) -> None:
    """Write five rows: two charges and three releases."""
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "first", _COST, releases=2)
        ledger.record_releases(_SESSION, [["a", "b"], ["a", "b"]])
        ledger.charge(_OTHER_TASK, _OTHER_SESSION, "second", _COST, releases=1)
        ledger.record_releases(_OTHER_SESSION, [["a"]])


def _tamper(path: Path, *statements: str) -> None:
    """Change a ledger behind its back, as somebody with write access to the file could."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER no_update")
    connection.execute("DROP TRIGGER no_delete")
    for statement in statements:
        assert connection.execute(statement).rowcount == 1
    connection.commit()
    connection.close()


def test_entries_survive_the_process(path: Path) -> None:
    _fill(path)
    with Ledger(path) as ledger:
        entries = ledger.entries()
        first, release = entries[0], entries[1]
        assert isinstance(first, Charge)
        assert (first.task_digest, first.session, first.task_name) == (_TASK, _SESSION, "first")
        assert (first.cost, first.releases, first.number) == (_COST, 2, 1)
        assert isinstance(release, ReleaseRecord)
        assert (release.session, release.round_index, release.owners) == (_SESSION, 0, ("a", "b"))
        assert len(entries) == 5
        assert ledger.total() == PrivacyBudget(epsilon=1.0, delta=2e-6)


def test_a_charge_is_committed_when_the_call_returns(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
        # Another connection sees committed data only; the first one is still open and was never closed cleanly.
        with Ledger(path) as other:
            assert other.total() == _COST


def test_durability_is_the_strongest_sqlite_has(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_retrying_a_charge_costs_nothing(path: Path) -> None:
    for _ in range(3):
        with Ledger(path) as ledger:
            ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
    with Ledger(path) as ledger:
        assert ledger.total() == _COST
        assert len(ledger.entries()) == 1


def test_a_task_is_charged_for_one_session_only(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
        with pytest.raises(BudgetError, match=r"task 'task' was charged .*\(row 1\)"):
            ledger.charge(_TASK, _OTHER_SESSION, "task", _COST, releases=1)
        with pytest.raises(BudgetError, match="was charged"):
            ledger.check(_TASK, task_name="task", cost=_COST)
        assert ledger.total() == _COST


@pytest.mark.parametrize(
    ("task", "cost", "releases"),
    [(_OTHER_TASK, _COST, 1), (_TASK, PrivacyBudget(epsilon=0.4, delta=1e-6), 1), (_TASK, _COST, 2)],
)
def test_a_session_is_charged_for_one_thing_only(path: Path, task: bytes, cost: PrivacyBudget, releases: int) -> None:
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
        with pytest.raises(BudgetError, match="row 1 charged this session for something else"):
            ledger.charge(task, _SESSION, "task", cost, releases=releases)


def test_a_limit_is_used_up_to_its_last_digit_and_not_beyond(path: Path) -> None:
    limit = PrivacyBudget(epsilon=0.3, delta=6e-6)  # half of delta is for adding up
    tenth = PrivacyBudget(epsilon=0.1, delta=1e-6)
    with Ledger(path, limit=limit) as ledger:
        for number in range(3):
            ledger.check(bytes([number]) * 32, task_name="task", cost=tenth)
            ledger.charge(bytes([number]) * 32, bytes([number]) * 32, "task", tenth, releases=1)
        with pytest.raises(BudgetError) as refusal:
            ledger.charge(b"\7" * 32, b"\7" * 32, "fourth", tenth, releases=1)
        for part in ("fourth", "spent (epsilon = 0.3", "asked (epsilon = 0.1", "limit (epsilon = 0.3"):
            assert part in str(refusal.value)
        assert ledger.total() == PrivacyBudget(epsilon=0.3, delta=3e-6)


def test_the_first_task_may_use_up_the_whole_limit(path: Path) -> None:
    with Ledger(path, limit=_COST) as ledger:
        ledger.check(_TASK, task_name="task", cost=_COST)
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
        little = PrivacyBudget(epsilon=1e-9, delta=1e-15)
        with pytest.raises(BudgetError, match="exceed the limit"):
            ledger.charge(_OTHER_TASK, _OTHER_SESSION, "next", little, releases=1)


def _gaussian(mu_squared: float) -> GaussianCost:
    return GaussianCost(mu_squared=mu_squared, distance=1e-13)


def test_gaussian_tasks_are_composed_and_survive_the_process(path: Path) -> None:
    """Tasks of epsilon 1 under a limit of 4: adding up would end after the fourth."""
    limit = PrivacyBudget(epsilon=4.0, delta=1e-5)
    cost = PrivacyBudget(epsilon=1.0, delta=1e-6)
    gaussian = _gaussian(gaussian_mu(epsilon=1.0, delta=1e-6) ** 2)
    made = 0
    for number in range(40):
        with Ledger(path, limit=limit) as ledger:
            try:
                ledger.check(bytes([number]) * 32, "task", cost, gaussian=gaussian)
            except BudgetError:
                break
            ledger.charge(bytes([number]) * 32, bytes([number]) * 32, "task", cost, releases=1, gaussian=gaussian)
            made += 1
    assert 8 <= made <= 13
    with Ledger(path, limit=limit) as ledger:
        assert [entry.gaussian for entry in ledger.entries() if isinstance(entry, Charge)] == [gaussian] * made
        with pytest.raises(BudgetError, match="exceed the limit"):
            ledger.charge(b"\x77" * 32, b"\x77" * 32, "task", cost, releases=1, gaussian=gaussian)
        # A check that does not know of Gaussians has only what adding up leaves.
        with pytest.raises(BudgetError, match="exceed the limit"):
            ledger.check(b"\x77" * 32, "task", PrivacyBudget(epsilon=1e-6, delta=1e-9))


def test_a_ledger_from_before_gaussians_verifies_and_adds_up(path: Path) -> None:
    """The rows are those that were written before charges said what they are as one Gaussian."""
    Ledger(path).close()
    connection = sqlite3.connect(path)
    for number in (1, 2):
        content = {
            "delta": 1e-6,
            "epsilon": 0.5,
            "kind": "charge",
            "releases": 1,
            "session": bytes([number]).hex() * 32,
            "task": bytes([number]).hex() * 32,
            "task_name": "old",
            "time": "2024-05-01T12:00:00+00:00",
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        ((previous,),) = connection.execute("SELECT hash FROM head").fetchall()
        row_hash = hashlib.sha256(b"mpcdp/ledger/1\0" + previous + number.to_bytes(8, "big") + text.encode()).digest()
        connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (number, text, row_hash))
        connection.execute("UPDATE head SET number = ?, hash = ?", (number, row_hash))
    connection.commit()
    connection.close()
    with Ledger(path, limit=PrivacyBudget(epsilon=1.5, delta=1e-5)) as ledger:
        ledger.verify()
        assert [charge.gaussian for charge in ledger.entries() if isinstance(charge, Charge)] == [None, None]
        assert ledger.total() == PrivacyBudget(epsilon=1.0, delta=2e-6)
        ledger.check(b"\x77" * 32, "new", _COST)
        with pytest.raises(BudgetError, match="exceed the limit"):
            ledger.check(b"\x77" * 32, "new", PrivacyBudget(epsilon=0.6, delta=1e-6))
        # Charging a session again that was charged before the upgrade still succeeds and changes nothing.
        again = PrivacyBudget(epsilon=0.5, delta=1e-6)
        ledger.charge(b"\1" * 32, b"\1" * 32, "old", again, releases=1, gaussian=_gaussian(0.01))
        assert len(ledger.entries()) == 2


@pytest.mark.parametrize("limit", [PrivacyBudget(epsilon=0.4, delta=1.0), PrivacyBudget(epsilon=9.0, delta=1e-7)])
def test_either_limit_refuses(path: Path, limit: PrivacyBudget) -> None:
    with Ledger(path, limit=limit) as ledger:
        with pytest.raises(BudgetError, match="exceed the limit"):
            ledger.check(_TASK, task_name="task", cost=_COST)
        with pytest.raises(BudgetError, match="exceed the limit"):
            ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
        assert ledger.entries() == ()


def test_checking_writes_nothing(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.check(_TASK, task_name="task", cost=_COST)
        assert ledger.entries() == ()


def test_a_charge_covers_at_least_one_release(path: Path) -> None:
    with Ledger(path) as ledger, pytest.raises(ValueError, match="release"):
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=0)


@pytest.mark.parametrize(("session", "rounds"), [(_OTHER_SESSION, 1), (_SESSION, 3)])
def test_a_release_nobody_paid_for_is_reported(path: Path, session: bytes, rounds: int) -> None:
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=2)
        with pytest.raises(BudgetError, match="never charged"):
            ledger.record_releases(session, [["a"]] * rounds)
        assert len(ledger.entries()) == 1


def test_recording_a_release_again_is_harmless_unless_it_differs(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=2)
        ledger.record_releases(_SESSION, [["a", "b"]])
        ledger.record_releases(_SESSION, [["a", "b"]])
        ledger.record_releases(_SESSION, [["a", "b"], ["b"]])
        assert len(ledger.entries()) == 3
        with pytest.raises(BudgetError, match="twice"):
            ledger.record_releases(_SESSION, [["a"]])


def test_an_untouched_ledger_verifies(path: Path) -> None:
    _fill(path)
    with Ledger(path) as ledger:
        ledger.verify()


@pytest.mark.parametrize("row", range(1, 6))
@pytest.mark.parametrize(
    "statements",
    [
        ("UPDATE entries SET content = replace(content, '2', '3') WHERE number = {row}",),
        ("UPDATE entries SET hash = zeroblob(32) WHERE number = {row}",),
        ("UPDATE entries SET content = content || ' ' WHERE number = {row}",),
        ("DELETE FROM entries WHERE number = {row}",),
        ("UPDATE entries SET number = {row} + 100 WHERE number = {row}",),
    ],
)
def test_an_edited_or_deleted_row_is_named(path: Path, row: int, statements: tuple[str, ...]) -> None:
    _fill(path)
    _tamper(path, *(statement.format(row=row) for statement in statements))
    with Ledger(path) as ledger:
        with pytest.raises(BudgetError, match=f"row {row} (was edited or moved|is missing)"):
            ledger.verify()
        for refused in (ledger.entries, ledger.total):
            with pytest.raises(BudgetError, match=f"row {row}"):
                refused()
        with pytest.raises(BudgetError, match=f"row {row}"):
            ledger.charge(b"\7" * 32, b"\7" * 32, "new", _COST, releases=1)


def test_exchanged_rows_are_named(path: Path) -> None:
    _fill(path)
    _tamper(
        path,
        "UPDATE entries SET number = 100 WHERE number = 2",
        "UPDATE entries SET number = 2 WHERE number = 3",
        "UPDATE entries SET number = 3 WHERE number = 100",
    )
    with Ledger(path) as ledger, pytest.raises(BudgetError, match="row 2 was edited or moved"):
        ledger.verify()


def test_a_row_smuggled_in_is_named(path: Path) -> None:
    _fill(path)
    _tamper(path, "INSERT INTO entries SELECT 6, content, hash FROM entries WHERE number = 5")
    with Ledger(path) as ledger, pytest.raises(BudgetError, match="row 6"):
        ledger.verify()


def test_a_row_cut_off_together_with_the_head_is_still_found_by_its_releases(path: Path) -> None:
    """Somebody who rewrites the head as well can drop the last rows, but a later release has no charge any more."""
    _fill(path)
    _tamper(
        path,
        "DELETE FROM entries WHERE number = 5",
        "DELETE FROM entries WHERE number = 4",
        "UPDATE head SET number = 3, hash = (SELECT hash FROM entries WHERE number = 3)",
    )
    with Ledger(path) as ledger, pytest.raises(BudgetError, match="never charged"):
        ledger.record_releases(_OTHER_SESSION, [["a"]])


def test_sql_cannot_change_rows_in_passing(path: Path) -> None:
    _fill(path)
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM entries", "UPDATE entries SET content = ''"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_only_its_user_can_read_it(path: Path) -> None:
    path.touch(mode=0o644)
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"no database at all, but long enough for a header" * 30, b""])
def test_a_file_of_something_else_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    if not content:  # a database, but of another program
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE entries (number INTEGER)")
        connection.close()
    with pytest.raises(BudgetError, match=r"ledger\.db"):
        Ledger(path)


def test_its_folder_is_made(tmp_path: Path) -> None:
    with Ledger(tmp_path / "state" / "ledger.db") as ledger:
        assert ledger.entries() == ()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(BudgetError, match="writable folder"):
        Ledger(tmp_path / "state" / "ledger.db")


def test_a_failed_block_leaves_the_ledger_usable(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(BudgetError):
            ledger.record_releases(_SESSION, [["a"]])
        ledger.charge(_TASK, _SESSION, "task", _COST, releases=1)
        assert ledger.total() == _COST


# -- noise -----------------------------------------------------------------------------------------------------------


_BANK, _OTHER_BANK = b"\5" * 16, b"\6" * 16


@pytest.fixture
def charged(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as ledger:
        ledger.charge(_TASK, _SESSION, "first", _COST, releases=1)
        ledger.charge(_OTHER_TASK, _OTHER_SESSION, "second", _COST, releases=1)
        yield ledger


def test_noise_of_a_session_is_noted_once_and_survives_the_process(path: Path, charged: Ledger) -> None:
    for _ in range(3):
        charged.record_noise(_SESSION, _BANK, 1024, 4096)
    with Ledger(path) as other:
        noted = [entry for entry in other.entries() if isinstance(entry, NoiseRecord)]
        assert [(row.number, row.session, row.bank, row.start, row.end) for row in noted] == [
            (3, _SESSION, _BANK, 1024, 4096)
        ]
        assert other.total() == PrivacyBudget(epsilon=1.0, delta=2e-6)


@pytest.mark.parametrize(("start", "end"), [(0, 1024), (1024, 4096), (3072, 5120), (4095, 4096), (0, 9999)])
def test_noise_that_another_session_may_have_had_is_refused(charged: Ledger, start: int, end: int) -> None:
    charged.record_noise(_SESSION, _BANK, 1024, 4096)
    for refuse in (charged.check_noise, charged.record_noise):
        with pytest.raises(BudgetError, match=r"row 3\): their state was restored .* `mpcdp noise discard`"):
            refuse(_OTHER_SESSION, _BANK, start, end)
    assert len(charged.entries()) == 3


def test_noise_beyond_all_that_was_used_or_of_another_bank_is_fine(charged: Ledger) -> None:
    charged.record_noise(_SESSION, _BANK, 1024, 4096)
    charged.check_noise(_OTHER_SESSION, _BANK, 4096, 5120)
    charged.check_noise(_OTHER_SESSION, _OTHER_BANK, 0, 1024)
    charged.record_noise(_OTHER_SESSION, _BANK, 4096, 5120)
    charged.check_noise(_SESSION, _BANK, 1024, 4096)  # its own, still
    with pytest.raises(BudgetError, match="position 5120"):
        charged.check_noise(_SESSION, _BANK, 4096, 6144)
    charged.record_noise(_SESSION, _BANK, 5120, 6144)  # what it had was given up, and it got fresh noise


def test_only_charged_sessions_get_noise(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.check_noise(_SESSION, _BANK, 0, 1024)
        with pytest.raises(BudgetError, match="never charged"):
            ledger.record_noise(_SESSION, _BANK, 0, 1024)
        assert ledger.entries() == ()


@pytest.mark.parametrize(("start", "end"), [(0, 0), (1024, 1024), (2048, 1024), (-1, 1024)])
def test_a_range_of_noise_is_not_empty(charged: Ledger, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="between two positions"):
        charged.record_noise(_SESSION, _BANK, start, end)


# -- two processes ---------------------------------------------------------------------------------------------------


def _charge_many(path: Path, start: int, outcomes: "Queue[str]") -> None:
    """Charge twenty tasks of one's own and, between them, the one task everybody wants."""
    with Ledger(path, limit=PrivacyBudget(epsilon=25.0, delta=1.0)) as ledger:
        for index in range(20):
            own = (start + index).to_bytes(32, "big")
            try:
                ledger.charge(own, own, "own", _COST, releases=1)
                outcomes.put("own")
            except BudgetError:
                outcomes.put("limit")
            if index == 10:
                try:
                    ledger.charge(_TASK, own[::-1], "contested", _COST, releases=1)
                    outcomes.put("won")
                except BudgetError:
                    outcomes.put("lost")


def _charge_and_die(path: Path) -> None:
    Ledger(path).charge(_TASK, _SESSION, "task", _COST, releases=1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_after_a_charge_has_charged(path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_charge_and_die, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with Ledger(path) as ledger:
        assert ledger.total() == _COST


def test_concurrent_processes_neither_lose_nor_repeat_a_charge(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    outcomes: Queue[str] = context.Queue()
    processes = [context.Process(target=_charge_many, args=(path, 1000 * rank, outcomes)) for rank in (1, 2, 3)]
    for process in processes:
        process.start()
    results = [outcomes.get(timeout=60) for _ in range(63)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert results.count("won") == 1
    assert results.count("lost") == 2
    with Ledger(path) as ledger:
        # 25 / 0.5 = 50 charges fit the limit, whoever made them.
        assert ledger.total().epsilon == 25.0
        assert len(ledger.entries()) == 50 == results.count("own") + 1
