"""`mpcdp bench rounds` measures what it is asked for, and prints it for people or as one JSON object."""

import json

import pytest
from typer.testing import CliRunner

from mpcdp.bench.rounds import RoundsRow
from mpcdp.bench.rounds_setting import RoundsSetting
from mpcdp.cli import bench


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RoundsSetting, int]]:
    """What was measured, and in how many sessions; instead of processes, every row has made-up figures."""
    settings: list[tuple[RoundsSetting, int]] = []

    def measure(setting: RoundsSetting, *, sessions: int) -> RoundsRow:
        settings.append((setting, sessions))
        shape = (setting.dimension, setting.owners, setting.parties, setting.noise, setting.rounds, sessions)
        return RoundsRow(*shape, 0.024, 0.016, 1.5, 7e-6, 1.25, 1183, 2118, 478, 302, 104, 1.0, (0.024,), (0.016,))

    monkeypatch.setattr(bench, "measure_rounds", measure)
    return settings


def test_small_settings_are_measured_by_default_and_the_others_named(
    measured: list[tuple[RoundsSetting, int]],
) -> None:
    result = CliRunner().invoke(bench.app, ["rounds", "--json"])
    assert result.exit_code == 0, result.output
    shapes = [(10, 128), (10, 10_000), (10, 1_000_000), (100, 128), (100, 10_000)]
    assert [(s.noise, s.parties, s.owners, s.dimension) for s, _ in measured] == [
        (noise, parties, owners, dimension)
        for noise in ("joint", "per-party")
        for parties in (2, 3)
        for owners, dimension in shapes
        if (noise, dimension) != ("joint", 1_000_000)
    ]
    document = json.loads(result.stdout)
    assert len(document["rows"]) == 18
    assert len(document["notes"]) == 24 - 18
    assert sum("--joint-limit" in note for note in document["notes"]) == 4
    assert sum("--upload-limit" in note for note in document["notes"]) == 2


def test_options_choose(measured: list[tuple[RoundsSetting, int]]) -> None:
    options = ["--dimension", "5", "--owners", "1000", "--owners", "3", "--parties", "4", "--noise", "joint"]
    result = CliRunner().invoke(bench.app, ["rounds", *options, "--rounds", "7", "--sessions", "2", "--json"])
    assert result.exit_code == 0, result.output
    assert measured == [(RoundsSetting(5, owners, 4, "joint", 7), 2) for owners in (1000, 3)]


@pytest.mark.parametrize(
    "options",
    [["--dimension", "0"], ["--owners", "0"], ["--parties", "6"], ["--noise", "none"], ["--rounds", "0"]],
)
def test_what_cannot_be_measured_is_refused(measured: list[tuple[RoundsSetting, int]], options: list[str]) -> None:
    assert CliRunner().invoke(bench.app, ["rounds", *options]).exit_code == 2
    assert measured == []


def test_people_see_a_line_per_row(measured: list[tuple[RoundsSetting, int]]) -> None:
    options = ["--dimension", "128", "--dimension", "1000000", "--owners", "100", "--parties", "2"]
    result = CliRunner().invoke(bench.app, ["rounds", *options, "--noise", "per-party"])
    assert result.exit_code == 0, result.output
    (line,) = (line.split() for line in result.stdout.splitlines() if line.strip().startswith("per-party"))
    assert line[:11] == ["per-party", "2", "100", "128", "24", "ms", "16", "ms", "1.50", "0", "ms"]
    assert line[11:] == ["1.25", "s", "1,183", "2,118", "478", "302", "104"]
    assert "per-party noise, 2 parties, 100 owners, 1,000,000 coord.: above --upload-limit 20,000,000" in result.stdout
