"""A session on this machine that fails: the logs are removed with the rows, so the error says what they said."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcdp import local_network
from mpcdp.errors import BudgetError, PeerError
from mpcdp.estimators import Federation, PrivateLogisticRegression, local
from mpcdp.estimators.local import _check
from mpcdp.local_network import ProcessResult


def _result(folder: Path, name: str, role: Any, exit_code: int, log: list[dict[str, str] | str]) -> ProcessResult:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in log))
    return ProcessResult(name=name, role=role, exit_code=exit_code, log=path, report={})


def test_an_error_quotes_the_logs_of_who_failed_and_of_whom_it_names(tmp_path: Path) -> None:
    problem = {"event": "failed", "level": "error", "problem": "party-1: it was not ready within 9 s: see its log"}
    steps = [{"event": f"step {number}"} for number in range(9)]
    results = (
        _result(tmp_path, "coordinator", "coordinator", 4, [*steps, problem]),
        _result(tmp_path, "party-1", "compute", -9, [{"event": "computing"}, "Killed" + "x" * 9000 + "the end"]),
        _result(tmp_path, "party-10", "compute", 0, [{"event": "of no interest"}]),
        _result(tmp_path, "owner-1", "owner", 5, [{"event": "of no interest"}]),
    )
    with pytest.raises(PeerError) as raised:
        _check(results)
    text = str(raised.value)
    assert text.startswith("coordinator: party-1: it was not ready within 9 s: see its log\n")
    assert text.index("The log of coordinator ends with:") < text.index('"step 8"') < text.index("The log of party-1")
    assert '"computing"' in text
    assert "the end" in text
    assert '"step 1"' not in text
    assert "of no interest" not in text
    assert len(text) < 5000


def test_one_that_ends_without_a_word_names_no_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="party-1 ended with exit code -9\nThe log of party-1 ends with:\n  last words"):
        _check((_result(tmp_path, "party-1", "compute", -9, ["last words"]),))
    refused: list[dict[str, str] | str] = [{"level": "error", "problem": "ledger: would exceed the limit"}]
    with pytest.raises(BudgetError, match=r"^ledger: would exceed the limit$"):
        _check((_result(tmp_path, "owner-1", "owner", 3, refused),))


@pytest.mark.slow
def test_real_processes_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = local_network._party_command

    def command(role: Any, config: Path) -> list[str]:
        if config.parent.name == "party-1":
            return [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
        return usual(role, config)

    monkeypatch.setattr(local_network, "_party_command", command)
    monkeypatch.setattr(local, "AFTERMATH_SECONDS", 1.0)
    federation = Federation.local(parties=2, noise="per-party", folder=tmp_path)
    model = PrivateLogisticRegression(
        epsilon=20.0, delta=1e-6, bounds=(-1, 1), classes=(0, 1), federation=federation, regularization=0.1
    )
    X = np.random.default_rng(0).uniform(-1, 1, size=(400, 2))
    with pytest.raises(PeerError) as raised:
        model.fit(X, (X[:, 0] > 0).astype(int), owners=np.arange(400) % 2)
    assert re.match(
        "party-1: party-1 ended with exit code 1\nThe log of party-1 ends with:\n  the disk", str(raised.value)
    )
    assert not any((tmp_path / "sessions").iterdir())
