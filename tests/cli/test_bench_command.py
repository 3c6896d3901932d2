"""`mpcdp bench noise` measures what it is asked for, and prints it for people or as one JSON object."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from mpcdp.bench.noise import Row
from mpcdp.bench.published import PUBLISHED
from mpcdp.bench.setting import Setting
from mpcdp.cli import bench

FIELDS = {
    *("sampler", "parties", "dimension", "seconds", "samples_per_second", "rounds", "ands_per_sample"),
    *("bytes_sent_per_sample", "dealer_bytes_per_sample", "peak_memory_mib", "crypten_seconds", "ratio"),
}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    """What was measured; instead of processes, every row has made-up figures."""
    settings: list[Setting] = []

    def measure(setting: Setting, *, notes: Sequence[str]) -> Row:
        settings.append(setting)
        seconds = setting.dimension / 50_000
        theirs = 2 * seconds if setting.crypten else None
        return Row(
            sampler=setting.sampler.value,
            parties=setting.parties,
            dimension=setting.dimension,
            runs=setting.runs,
            seconds=seconds,
            samples_per_second=50_000.0,
            rounds=22,
            ands_per_sample=4543.0,
            bytes_sent_per_sample=1143.0,
            dealer_bytes_per_sample=1016.0,
            peak_memory_mib=290.0,
            idle_memory_mib=280.0,
            crypten_seconds=theirs,
            ratio=None if theirs is None else seconds / theirs,
            crypten_rounds=81 if setting.crypten else None,
            crypten_bytes_sent_per_sample=576.0 if setting.crypten else None,
            seconds_by_run=(seconds,) * setting.runs,
            crypten_seconds_by_run=() if theirs is None else (theirs,) * setting.runs,
            notes=tuple(notes),
        )

    monkeypatch.setattr(bench, "measure", measure)
    return settings


def test_a_real_run_prints_one_json_object() -> None:
    options = ["--dimension", "128", "--parties", "2", "--sampler", "per-party", "--runs", "1", "--json"]
    command = [sys.executable, "-c", "from mpcdp.cli import main; main()", "bench", "noise", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert set(document) == {"rows", "published", "command", "machine", "versions"}
    (row,) = document["rows"]
    assert set(row) >= FIELDS
    assert (row["sampler"], row["parties"], row["dimension"], row["runs"]) == ("per-party", 2, 128, 1)
    assert 0 < row["seconds"] < 10


def test_everything_is_measured_by_default(measured: list[Setting]) -> None:
    result = CliRunner().invoke(bench.app, ["noise", "--json"])
    assert result.exit_code == 0, result.output
    dimensions = [128, 1_000, 10_000, 100_000, 1_000_000]
    assert [(setting.sampler.value, setting.parties, setting.dimension) for setting in measured] == [
        (sampler, parties, dimension)
        for sampler in ("gaussian", "laplace", "per-party")
        for parties in (2, 3)
        for dimension in dimensions
    ]
    assert all(setting.crypten == (setting.joint and setting.dimension <= 100_000) for setting in measured)
    rows = json.loads(result.stdout)["rows"]
    skipped = [row for row in rows if row["sampler"] != "per-party" and row["crypten_seconds"] is None]
    assert [row["dimension"] for row in skipped] == [1_000_000] * 4
    assert all("CrypTen not run above 100,000 samples" in row["notes"][0] for row in skipped)


def test_options_choose(measured: list[Setting]) -> None:
    options = ["--dimension", "5", "--dimension", "2000000", "--parties", "4", "--sampler", "laplace", "--runs", "7"]
    result = CliRunner().invoke(bench.app, ["noise", *options, "--crypten-limit", "3000000", "--json"])
    assert result.exit_code == 0, result.output
    assert [(setting.sampler.value, setting.parties, setting.dimension) for setting in measured] == [
        ("laplace", 4, 5),
        ("laplace", 4, 2_000_000),
    ]
    assert all(setting.crypten and setting.runs == 7 for setting in measured)


@pytest.mark.parametrize(
    "options", [["--dimension", "0"], ["--parties", "1"], ["--parties", "6"], ["--sampler", "uniform"], ["--runs", "0"]]
)
def test_what_cannot_be_measured_is_refused(measured: list[Setting], options: list[str]) -> None:
    assert CliRunner().invoke(bench.app, ["noise", *options]).exit_code == 2
    assert measured == []


def test_people_see_ours_beside_crypten_and_below_what_others_published(measured: list[Setting]) -> None:
    options = ["--dimension", "100000", "--dimension", "1000000", "--parties", "2", "--sampler", "gaussian"]
    result = CliRunner().invoke(bench.app, ["noise", *options])
    assert result.exit_code == 0, result.output
    first, second = (line.split() for line in result.stdout.splitlines() if line.strip().startswith("gaussian"))
    ours = ["gaussian", "2", "100,000", "2.00", "s", "50,000", "22", "4,543", "1,143", "1,016", "290"]
    assert first == [*ours, "4.00", "s", "81", "576", "0.50"]
    assert second[-4:] == ["-", "-", "-", "-"]
    assert "CrypTen not run above 100,000 samples" in result.stdout
    _, _, published = result.stdout.partition("measured elsewhere")
    for figure in PUBLISHED:
        assert all(word in published for word in f"{figure.work} {figure.setting} {figure.figure}".split())
