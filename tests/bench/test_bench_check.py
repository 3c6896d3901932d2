"""`mpcdp bench check`: what it prints, and that its processes measure what the circuit states."""

import json

import pytest
from typer.testing import CliRunner

from mpcdp.bench.check import CheckRow, CheckSetting, measure_check
from mpcdp.cli import bench


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[CheckSetting]:
    """What was measured; instead of processes, every row has made-up figures."""
    settings: list[CheckSetting] = []

    def measure(setting: CheckSetting) -> CheckRow:
        settings.append(setting)
        shape = (setting.parties, setting.owners, setting.dimension, setting.length_bits)
        return CheckRow(*shape, 3, 1.4e-7, setting.runs, 0.035, 12, 25.3, 13.3, 65.2, 287.0, (0.035,))

    monkeypatch.setattr(bench, "measure_check", measure)
    return settings


def test_options_choose(measured: list[CheckSetting]) -> None:
    options = ["--dimension", "7", "--owners", "3", "--owners", "4", "--parties", "5", "--length-bits", "20"]
    result = CliRunner().invoke(bench.app, ["check", *options, "--runs", "2", "--json"])
    assert result.exit_code == 0, result.output
    assert [(s.parties, s.owners, s.dimension, s.length_bits, s.runs) for s in measured] == [
        (5, owners, 7, 20, 2) for owners in (3, 4)
    ]
    assert [row["rounds"] for row in json.loads(result.stdout)["rows"]] == [12, 12]


def test_a_table_is_printed_for_people(measured: list[CheckSetting]) -> None:
    result = CliRunner().invoke(bench.app, ["check", "--dimension", "100", "--parties", "2"])
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.output.splitlines() if "35 ms" in line)
    assert line.split() == ["2", "10", "100", "35", "ms", "12", "25.3", "13.3", "65.2", "1.4e-07", "287"]


@pytest.mark.slow
def test_processes_measure_a_check() -> None:
    row = measure_check(CheckSetting.of(parties=2, dimension=100, owners=3, length_bits=31, runs=2))
    assert row.rounds == 12
    assert len(row.seconds_by_run) == 2
    assert 11 < row.bytes_sent_per_coordinate < 40
    assert 50 < row.dealer_bytes_per_coordinate < 150
    assert 0 < row.slack < 1e-6
