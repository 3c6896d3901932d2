"""`mpcdp bench protocol` measures what it is asked for, and prints it for people, as JSON, or as a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from protocol_samples import made_up_peer, made_up_row, made_up_simulation
from typer.testing import CliRunner, Result

from mpcdp.bench.many_owners import Simulation
from mpcdp.bench.peers import PeerResult
from mpcdp.bench.protocol import ProtocolRow, ProtocolSetting
from mpcdp.bench.slow_network import Link
from mpcdp.cli import bench, bench_protocol
from mpcdp.cli.bench_protocol import star
from mpcdp.errors import PeerError


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was measured; instead of processes, everything has made-up figures, and SPU fails."""
    asked: list[Any] = []

    def measure(setting: ProtocolSetting, *, sessions: int) -> ProtocolRow:
        asked.append((setting, sessions))
        return made_up_row(setting.owners, setting.dimension, setting.parties, setting.link)

    def plain(setting: ProtocolSetting, *, runs: int) -> tuple[list[float], int]:
        asked.append(("plain", setting, runs))
        return [0.3, 0.1, 0.2], 999

    def run(peer: Any, *, owners: int, dimension: int, runs: int, seconds: float) -> PeerResult:
        asked.append((peer.name, owners, dimension, runs))
        return made_up_peer(peer.name, "its run ended with exit code 1: too old" if peer.name == "spu" else None)

    def simulate(*, owners: int, dimension: int) -> Simulation:
        asked.append(("simulation", owners, dimension))
        return made_up_simulation(owners=owners, dimension=dimension)

    monkeypatch.setattr(bench_protocol, "measure_protocol", measure)
    monkeypatch.setattr(bench_protocol, "measure_plain", plain)
    monkeypatch.setattr(bench_protocol, "run_peer", run)
    monkeypatch.setattr(bench_protocol, "simulate", simulate)
    return asked


def invoke(*options: str) -> Result:
    return CliRunner().invoke(bench.app, ["protocol", *options])


def settings(measured: Sequence[Any]) -> list[ProtocolSetting]:
    return [each[0] for each in measured if isinstance(each[0], ProtocolSetting)]


def test_one_thing_at_a_time_differs_from_the_first_row() -> None:
    found = star([10, 20], [5, 6], [3, 2], [1.0, 20.0], [100.0])
    assert found == [
        ProtocolSetting(10, 5, 3, Link(1)),
        ProtocolSetting(20, 5, 3, Link(1)),
        ProtocolSetting(10, 6, 3, Link(1)),
        ProtocolSetting(10, 5, 2, Link(1)),
        ProtocolSetting(10, 5, 3, Link(20)),
        ProtocolSetting(10, 5, 3, Link(1, 100)),
    ]
    assert star([10, 10], [5], [3], [0.0], []) == [ProtocolSetting(10, 5, 3)]


def test_by_default_everything_is_measured_and_can_be_fitted(measured: list[Any], tmp_path: Path) -> None:
    result = invoke("--json", "--html", str(tmp_path / "page.html"))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [row["round_trip_ms"] for row in document["rows"]].count(0.0) == len(document["rows"]) - 3
    assert document["model"]["rounds_factor"] == pytest.approx(0.5)
    assert document["many_owners"]["owners"] == 1_000_000
    assert [peer["peer"] for peer in document["peers"]] == ["mpcdp", "plain gRPC", "crypten", "mpyc", "flower", "spu"]
    assert document["peers"][1]["seconds"] == 0.2
    assert document["peers"][1]["bytes_sent"] == 999
    assert "too old" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_quick_is_smaller_and_can_be_fitted_as_well(measured: list[Any]) -> None:
    document = json.loads(invoke("--quick", "--json").stdout)
    assert len(document["rows"]) == 4
    assert document["model"] is not None
    assert ("simulation", 100_000, 100) in measured


def test_options_choose_and_others_get_the_last_dimension(measured: list[Any]) -> None:
    options = ["--owners", "7", "--owners", "9", "--dimension", "5", "--dimension", "50", "--parties", "2"]
    options += ["--round-trip", "3", "--bandwidth", "10", "--sessions", "2", "--runs", "4", "--many", "77"]
    result = invoke(*options, "--json")
    assert result.exit_code == 0, result.output
    expected = [(7, 5, Link(3)), (9, 5, Link(3)), (7, 50, Link(3)), (7, 5, Link(3, 10))]
    assert settings(measured) == [ProtocolSetting(m, d, 2, link) for m, d, link in expected]
    assert all(each[1] == 2 for each in measured if isinstance(each[0], ProtocolSetting))
    assert ("mpyc", 7, 50, 4) in measured
    document = json.loads(result.stdout)
    assert document["peers"][0]["seconds"] == document["rows"][2]["seconds"]
    # One round trip, so its cost cannot be told apart.
    assert document["model"] is None
    # What a server has to do does not depend on it.
    assert document["many_owners"]["owners"] == 77
    assert any("no cost model" in note for note in document["notes"])


def test_a_library_that_fails_is_told_and_not_left_out(measured: list[Any]) -> None:
    result = invoke("--quick")
    assert result.exit_code == 0, result.output
    (figures, why) = (line for line in result.stdout.splitlines() if line.strip().startswith("spu"))
    assert figures.split()[:3] == ["spu", "-", "failed"]
    assert "failed: its run ended with exit code 1: too old" in why


def test_a_row_that_fails_is_told_and_the_others_are_kept(measured: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(setting: ProtocolSetting, *, sessions: int) -> ProtocolRow:
        if setting.owners == 9:
            raise PeerError("owners-1", "it fell over")
        return made_up_row(setting.owners, setting.dimension, setting.parties, setting.link)

    monkeypatch.setattr(bench_protocol, "measure_protocol", measure)
    options = ["--no-peers", "--many", "0", "--json"]
    document = json.loads(invoke("--owners", "7", "--owners", "9", *options).stdout)
    assert {row["owners"] for row in document["rows"]} == {7}
    assert any("not measured: 9 owners" in note and "it fell over" in note for note in document["notes"])
    # Without the first row there is nothing to compare with.
    assert invoke("--owners", "9", "--owners", "7", *options).exit_code != 0


def test_plain_sums_that_fail_are_told_too(measured: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(setting: ProtocolSetting, *, runs: int) -> tuple[list[float], int]:
        raise PeerError("party-2", "it fell over")

    monkeypatch.setattr(bench_protocol, "measure_plain", fail)
    (plain,) = (
        peer for peer in json.loads(invoke("--quick", "--json").stdout)["peers"] if peer["peer"] == "plain gRPC"
    )
    assert plain["seconds"] is None
    assert "it fell over" in plain["problem"]


def test_without_peers_and_many_nothing_else_runs(measured: list[Any]) -> None:
    document = json.loads(invoke("--quick", "--no-peers", "--many", "0", "--json").stdout)
    assert len(measured) == len(document["rows"])
    assert [peer["peer"] for peer in document["peers"]] == ["mpcdp"]
    assert document["many_owners"] is None


def test_a_simulation_that_would_not_fit_in_memory_is_a_note(measured: list[Any]) -> None:
    options = ["--dimension", "30000", "--dimension", "100", "--no-peers"]
    document = json.loads(invoke(*options, "--json").stdout)
    assert not any(each[0] == "simulation" for each in measured)
    assert any("for want of memory" in note for note in document["notes"])


@pytest.mark.parametrize(
    "options",
    [
        *(["--owners", "0"], ["--dimension", "0"], ["--parties", "1"], ["--parties", "6"], ["--round-trip", "-1"]),
        *(["--bandwidth", "0"], ["--sessions", "0"], ["--runs", "0"], ["--many", "-1"]),
    ],
)
def test_what_cannot_be_measured_is_refused(measured: list[Any], options: list[str]) -> None:
    assert invoke(*options).exit_code == 2
    assert measured == []


def test_a_page_without_a_folder_is_refused_before_anything_runs(measured: list[Any], tmp_path: Path) -> None:
    assert invoke("--html", str(tmp_path / "no" / "page.html")).exit_code != 0
    assert measured == []
