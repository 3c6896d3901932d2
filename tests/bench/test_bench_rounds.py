"""A row of the benchmark of rounds: real processes train, with and without protection, and what they report fits."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pytest

from mpcdp.bench.constant_training import make_task
from mpcdp.bench.processes import run_processes
from mpcdp.bench.rounds import RoundsRow, clear_seconds, measure_rounds, rounds_command, rounds_document
from mpcdp.bench.rounds_report import OWNERS, RoundsReport
from mpcdp.bench.rounds_setting import RoundsSetting
from mpcdp.errors import PeerError
from mpcdp.plan import make_plan

TINY = RoundsSetting(dimension=16, owners=3, parties=2, noise="per-party", rounds=3)
HEADER_BYTES = 250


def check_figures(row: RoundsRow, setting: RoundsSetting) -> None:
    assert (row.dimension, row.owners, row.parties, row.noise, row.rounds) == (
        *(setting.dimension, setting.owners, setting.parties, setting.noise, setting.rounds),
    )
    for seconds in (row.seconds_by_round, row.plain_seconds_by_round):
        assert len(seconds) == row.sessions * setting.rounds
        assert 0 < min(seconds) <= max(seconds) < 30
    assert row.seconds_per_round == median(row.seconds_by_round)
    assert row.ratio == pytest.approx(row.seconds_per_round / row.plain_seconds_per_round)
    assert 0 < row.clear_seconds_per_round < row.plain_seconds_per_round
    assert 0 < row.offline_seconds < 60
    vector = 8 * setting.dimension
    assert vector < row.upload_bytes_per_owner < vector + HEADER_BYTES
    reveal = setting.parties * vector
    assert reveal < row.release_bytes_per_party < reveal + setting.parties * HEADER_BYTES
    # The last party sends every owner's nonce to every other one.
    nonces = 32 * setting.owners * (setting.parties - 1)
    assert nonces < row.agreement_bytes_per_party < nonces + HEADER_BYTES * (setting.parties - 1)
    assert 20 < row.coordinator_peak_memory_mib < 1000
    assert 20 < row.party_peak_memory_mib < 2000


@pytest.mark.slow
def test_a_tiny_session_is_measured_beside_plain_sums() -> None:
    row = measure_rounds(TINY)
    check_figures(row, TINY)
    assert 0.4 < row.noise_ratio < 2
    assert [child for child in psutil.Process().children() if "bench" in " ".join(child.cmdline())] == []


@pytest.mark.slow
@pytest.mark.parametrize("parties", [2, 3])
def test_joint_noise_is_one_copy(parties: int) -> None:
    setting = RoundsSetting(dimension=3000, owners=5, parties=parties, noise="joint", rounds=2)
    row = measure_rounds(setting, sessions=2)
    check_figures(row, setting)
    assert row.noise_ratio == pytest.approx(1, abs=0.06)


def test_plain_sums_have_no_noise() -> None:
    reports = run_processes(replace(TINY, rounds=1).plain, RoundsReport.load, command=rounds_command)
    assert set(reports) == {"coordinator", "party-2", "owners-1"}
    assert reports["coordinator"].noise_ratio < 1e-6
    assert len(reports["coordinator"].seconds_by_round) == 1
    for report in reports.values():
        assert 0 < report.processor_seconds < 30
        assert 0.1 < report.startup_processor_seconds < 30
    assert set(reports["owners-1"].sent) == {"coordinator", "party-2"}
    assert set(reports["coordinator"].sent) == {"party-2", OWNERS}


@pytest.mark.slow  # the same of a noise worker: test_bench_processes
def test_an_owner_that_fails_is_named() -> None:
    def command(folder: Path, name: str) -> list[str]:
        (folder / "owner-2" / "process.key").unlink(missing_ok=True)
        return rounds_command(folder, name)

    with pytest.raises(PeerError, match=r"owners-1: its benchmark ended with exit code 2: tls.key .* cannot be read"):
        run_processes(TINY.plain, RoundsReport.load, command=command)


def test_a_clear_round_adds_every_owner() -> None:
    """A hundred times the owners take longer, by far more than the clock's noise."""
    few, many = (replace(TINY, dimension=10_000, owners=owners) for owners in (2, 400))
    assert clear_seconds(many) > 10 * clear_seconds(few)


@pytest.mark.parametrize("noise", ["joint", "per-party"])
@pytest.mark.parametrize(("dimension", "rounds"), [(1, 1), (128, 1000), (10_000, 100), (1_000_000, 3)])
def test_a_plan_exists_for_what_is_worth_measuring(noise: str, dimension: int, rounds: int) -> None:
    setting = RoundsSetting(dimension, 1000, 3, "joint" if noise == "joint" else "per-party", rounds)
    plan = make_plan(setting.task)
    assert (plan.dimension, plan.rounds, plan.noise_mode) == (dimension, rounds + 1, noise)
    method = setting.task.method()
    vector = method.contribution(None, method.initial_state(), key=b"")  # type: ignore[arg-type]
    assert np.linalg.norm(vector) <= method.contribution_bound(2)


def test_two_benchmarks_of_different_shape_are_different_tasks() -> None:
    tasks = [
        make_task(dimension=d, rounds=r, owners=["a"], parties=["p", "q"], noise="per-party", seconds=1.0)
        for d, r in ((2, 2), (2, 3), (3, 2))
    ]
    assert len({task.digest for task in tasks}) == 3


def test_owners_share_processes_and_each_has_its_own_certificate(tmp_path: Path) -> None:
    setting = replace(TINY, owners=1000)
    hosts = setting.hosts
    assert max(map(len, hosts.values())) == 50
    assert sorted(owner for owners in hosts.values() for owner in owners) == sorted(
        member.name for member in setting.members if member.role == "owner"
    )
    assert len({member.certificate for member in setting.members}) == 1000 + 1 + 2
    assert setting.process_names == ("coordinator", "party-1", "party-2", *hosts)
    setting.placed({"coordinator": "127.0.0.1:5000"}).save(tmp_path / "setting.json")
    assert RoundsSetting.load(tmp_path / "setting.json") == replace(
        setting, addresses={"coordinator": "127.0.0.1:5000"}
    )


@pytest.mark.parametrize(
    ("dimension", "owners", "parties", "rounds"), [(0, 1, 2, 1), (1, 0, 2, 1), (1, 1, 1, 1), (1, 1, 6, 1), (1, 1, 2, 0)]
)
def test_numbers_out_of_range_are_refused(dimension: int, owners: int, parties: int, rounds: int) -> None:
    with pytest.raises(ValueError, match="2 to 5 parties and at least one"):
        RoundsSetting(dimension, owners, parties, "joint", rounds)


def test_the_document_is_json() -> None:
    row = RoundsRow(
        128, 10, 2, "joint", 5, 1, 0.02, 0.01, 2.0, 1e-5, 0.3, 1180, 2100, 478, 300, 100, 1.0, (0.02,), (0.01,)
    )
    written = json.loads(json.dumps(rounds_document([row], ["a note"])))
    assert set(written) == {"rows", "notes", "command", "machine", "versions"}
    assert set(written["rows"][0]) == set(asdict(row))
    assert set(written["rows"][0]) >= {
        *("dimension", "owners", "parties", "noise", "rounds", "seconds_per_round", "plain_seconds_per_round", "ratio"),
        *("clear_seconds_per_round", "offline_seconds", "upload_bytes_per_owner", "release_bytes_per_party"),
        *("party_peak_memory_mib", "coordinator_peak_memory_mib"),
    }
