"""What is made of a log: states, rounds, owners, problems; and whatever is logged, it stays small."""

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.status.progress import BUCKETS, EVENTS, STATES, Progress

_ROOT = Path(__file__).parents[2]


def _after(*entries: dict[str, Any]) -> Progress:
    progress = Progress()
    for entry in entries:
        progress.note({"level": "info", **entry})
    return progress


def test_every_event_that_is_followed_is_logged_by_some_process() -> None:
    """Whoever renames an event in a role has to rename it here."""
    logged = {
        node.args[0].value
        for path in (_ROOT / "mpcdp").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "_log"
        and isinstance(node.args[0], ast.Constant)
    }
    assert logged >= EVENTS


@pytest.mark.parametrize(
    ("entries", "state"),
    [
        ([], "starting"),
        ([{"event": "waiting for a session"}], "waiting"),
        ([{"event": "waiting for owners"}, {"event": "session opened"}], "running"),
        ([{"event": "joining"}, {"event": "charged", "epsilon": 1.0}], "running"),
        ([{"event": "prepared"}, {"event": "revealed", "round": 0}, {"event": "session finished"}], "finished"),
        ([{"event": "prepared"}, {"event": "failed"}], "failed"),
        ([{"event": "prepared"}, {"event": "internal error"}], "failed"),
        ([{"event": "prepared"}, {"event": "internal error", "caller": "owner-1"}], "running"),
    ],
)
def test_the_state_is_that_of_the_last_event(entries: list[dict[str, Any]], state: str) -> None:
    assert _after(*entries).seen().state == state


def test_rounds_owners_and_payments_are_counted() -> None:
    seen = _after(
        {"event": "owner joined", "owner": "a"},
        {"event": "owner joined", "owner": "b"},
        {"event": "owner enrolled", "owner": "b"},
        {"event": "owner left", "owner": "a"},
        {"event": "charged", "epsilon": 0.5},
        {"event": "round released", "round": 0, "seconds": 0.2},
        {"event": "round released", "round": 1, "seconds": 1e9},
        {"event": "round released", "round": 1, "seconds": 0.001},
    ).seen()
    assert (seen.rounds, sorted(seen.owners), seen.charged) == (2, ["b"], 0.5)
    assert sum(seen.round_counts) == 3
    assert seen.round_counts[0] == seen.round_counts[BUCKETS.index(0.3)] == seen.round_counts[-1] == 1
    assert seen.round_seconds == pytest.approx(1e9)


def test_a_compute_party_measures_from_reveal_to_reveal() -> None:
    seen = _after({"event": "prepared"}, *({"event": "revealed", "round": number} for number in range(5))).seen()
    assert seen.rounds == 5
    assert sum(seen.round_counts) == 4


def test_an_owner_measures_nothing() -> None:
    """How long it trains depends on its records."""
    seen = _after({"event": "uploaded", "round": 0}, {"event": "uploaded", "round": 1}).seen()
    assert seen.rounds == 2
    assert sum(seen.round_counts) == 0


def test_a_flood_of_refusals_hides_no_problem() -> None:
    progress = _after({"event": "left out of a round", "level": "warning", "problem": "owner-1: too late"})
    for number in range(1000):
        refusal = {"event": "refused", "error": "ProtocolError", "caller": "x", "problem": f"x: bad {number}"}
        progress.note({"level": "warning", **refusal})
    seen = progress.seen()
    assert [notice.text for notice in seen.notices] == ["owner-1: too late"]
    assert seen.refused == {"ProtocolError": 1000}
    assert len(seen.refusals) == 10
    assert seen.refusals[0].text == "x: bad 999"


def test_a_problem_that_comes_again_is_counted() -> None:
    entry = {"event": "refused", "level": "warning", "error": "IdentityError", "caller": "x", "problem": "no"}
    other = {**entry, "problem": "not either"}
    (first, second) = _after(entry, other, entry).seen().refusals
    assert (first.text, first.count, second.text, second.count) == ("x: no", 2, "x: not either", 1)


_VALUES = st.one_of(st.text(max_size=8).map(lambda text: 100 * text), st.integers(0, 2**40), st.none())


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "event": st.sampled_from([*sorted(EVENTS - {"charged"}), "other"]),
                "level": st.sampled_from(["info", "warning", "error"]),
            },
            optional={"caller": _VALUES, "problem": _VALUES, "owner": _VALUES, "round": st.integers(0, 2**40)},
        ),
        max_size=30,
    )
)
def test_whatever_is_logged_what_is_shown_is_bounded_and_printable(entries: list[dict[str, Any]]) -> None:
    seen = _after(*entries).seen()
    assert seen.state in STATES
    for notices in (seen.notices, seen.refusals):
        assert len(notices) <= 10
        assert all(len(notice.text) <= 300 and notice.text.isprintable() for notice in notices)
