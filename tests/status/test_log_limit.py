"""A log that others cannot fill, and that says what it left out."""

import json
from typing import Any

import pytest
import structlog

from mpcdp.roles.process import log_as_json
from mpcdp.status import LogLimit, Progress


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _refusal(**changes: Any) -> dict[str, Any]:
    return {"event": "refused", "caller": "owner-1", "error": "ProtocolError", "problem": "owner-1: bad", **changes}


def test_of_each_kind_a_few_a_minute_are_written_and_the_rest_is_counted() -> None:
    clock = _Clock()
    limit = LogLimit(per_kind=3, clock=clock)
    assert [limit.admit(_refusal(problem=f"owner-1: bad {n}", timestamp=n)) for n in range(5)] == [0, 0, 0, None, None]
    assert limit.admit(_refusal(caller="owner-2")) == 0
    assert limit.admit(_refusal(error="IdentityError")) == 0
    assert limit.left_out == 2
    clock.now += 61
    assert limit.admit(_refusal()) == 2
    assert limit.admit(_refusal()) == 0


def test_what_the_process_does_by_itself_is_always_written() -> None:
    limit = LogLimit(per_kind=1)
    assert [limit.admit({"event": "round released", "round": 0}) for _ in range(5)] == [0] * 5


def test_kinds_without_end_need_no_memory_without_end() -> None:
    limit = LogLimit(per_kind=2)
    written = sum(limit.admit(_refusal(caller=f"stranger-{n}")) is not None for n in range(20_000))
    assert written == 10_000 + 2
    assert len(limit._seen) == 10_001


def test_a_flooded_log_is_short_and_what_is_counted_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    limit = log_as_json(observe=progress.note)
    try:
        log = structlog.get_logger("test")
        refused = {"caller": "owner-1", "method": "ComputeParty/Upload", "error": "ProtocolError"}
        for number in range(500):
            log.warning("refused", problem=f"{number}", **refused)
        log.info("finished")
    finally:
        structlog.reset_defaults()
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [entry["event"] for entry in entries] == ["refused"] * 10 + ["finished"]
    assert progress.seen().refused == {"ProtocolError": 500}
    assert limit.left_out == 490
