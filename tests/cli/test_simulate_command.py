"""``mpcdp simulate``: figures of runs in the clear."""

import json
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from mpcdp.cli import main

RECORDS = {"a": 400, "b": 300}


def _write(path: Path, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, size=(rows, 2))
    target = features @ np.array([0.6, -0.3])
    lines = [f"{x:.6f},{y:.6f},{100 + 50 * value:.6f}" for (x, y), value in zip(features, target, strict=True)]
    path.write_text("\n".join(["x,y,value", *lines]) + "\n")


@pytest.fixture(name="task")
def _task(tmp_path: Path) -> Path:
    document = {
        "task": {"version": 1, "name": "study"},
        "model": {"kind": "ridge-regression"},
        "method": {"kind": "statistics"},
        "privacy": {"epsilon": 10.0, "delta": 1e-5, "mechanism": "gaussian", "noise": "per-party"},
        "schema": {
            "row_radius": 2.0,
            "label": {"column": "value", "lower": 50.0, "upper": 150.0},
            "features": [{"name": name, "lower": -1.0, "upper": 1.0} for name in ("x", "y")],
        },
        "coordinator": {"name": "coordinator"},
        "compute_parties": [{"name": "party-1"}, {"name": "party-2"}],
        "owners": [{"name": name, "record_count": count} for name, count in RECORDS.items()],
    }
    path = tmp_path / "task.toml"
    path.write_bytes(tomli_w.dumps(document).encode())
    for seed, (name, count) in enumerate(RECORDS.items()):
        _write(tmp_path / f"{name}.csv", count, seed)
    _write(tmp_path / "test.csv", 200, 9)
    return path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["mpcdp", "simulate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_it_says_how_good_models_are_with_and_without_noise(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = task.parent
    arguments = (str(task), "--tables", str(folder), "--test", str(folder / "test.csv"), "--runs", "3")
    assert _run(monkeypatch, *arguments, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["without_noise"] == pytest.approx(1.0, abs=1e-6)  # the target is linear
    assert 0.9 < figures["mean"] < figures["without_noise"]
    assert figures["standard_deviation"] > 0
    assert (figures["measure"], figures["runs"], figures["protected"]) == ("R^2", 3, False)
    assert _run(monkeypatch, *arguments) == 0
    assert "nothing here protected anybody" in capsys.readouterr().out


def test_a_table_that_is_missing_or_has_another_size_is_named(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = task.parent
    arguments = (str(task), "--tables", str(folder), "--test", str(folder / "test.csv"))
    _write(folder / "b.csv", 299, 1)
    assert _run(monkeypatch, *arguments) == 2
    assert "b.csv: it has 299 records, the task declares 300" in capsys.readouterr().err
    (folder / "b.csv").unlink()
    assert _run(monkeypatch, *arguments) == 2
    assert "there is no table b.csv" in capsys.readouterr().err
