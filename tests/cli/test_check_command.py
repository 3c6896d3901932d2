"""``mpcdp check``: what it prints, and when it fails."""

import json
from pathlib import Path

import pytest
from command_line import Done, mpcdp

TASK = Path(__file__).parents[2] / "parties" / "task.toml"
HEADER = "age,tumour_size,family_history,diagnosis\n"


def check(table: Path, *options: str) -> Done:
    return mpcdp("check", TASK, "--owner", "hospital-3", "--table", table, *options)


def write(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def test_a_table_that_fits_passes(tmp_path: Path) -> None:
    table = write(tmp_path, ["50,12.5,no,benign"] * 1199 + [",,,malignant"])
    people = check(table)
    assert people.returncode == 0, people.stderr
    assert "eyes alone" in people.stdout
    assert "1200 (declared: 1200)" in people.stdout
    programs = check(table, "--json")
    assert programs.returncode == 0
    assert json.loads(programs.stdout) == {
        "owner": "hospital-3",
        "records": 1200,
        "declared_records": 1200,
        "malformed_records": 0,
        "fitting_cells": {"age": 1199, "tumour_size": 1199, "family_history": 1199, "diagnosis": 1200},
        "cells_at_bounds": {"age": 0, "tumour_size": 0},
        "ok": True,
    }


def test_what_was_clipped_or_does_not_fit_is_counted(tmp_path: Path) -> None:
    """A wrong unit passes, since every number fits; but its owner can see it."""
    table = write(tmp_path, ["50,1250,no,benign"] * 1100 + ["0,12.5,no,Benign"] * 100)
    people = check(table)
    assert people.returncode == 0, people.stderr
    rows = {line.split()[0]: line.split()[1:] for line in people.stdout.splitlines() if line.startswith("  ")}
    assert rows == {
        "age": ["1200", "0", "100"],
        "tumour_size": ["1200", "0", "1100"],
        "family_history": ["1200", "0", "-"],
        "diagnosis": ["1100", "100", "-"],
    }


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["50,12.5,no,benign"] * 1199, "1199 records, but the task declares 1200"),
        (["50,12.5,no,benign"] * 1199 + ["50,12.5,no"], "1 lines have more or fewer cells"),
        (["50,12.5,never,benign"] * 1200, "no cell fits in 'family_history'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, lines: list[str], words: str) -> None:
    result = check(write(tmp_path, lines), "--json")
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout)["ok"] is False
