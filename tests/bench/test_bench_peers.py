"""Other libraries run apart from ours; whatever goes wrong with one of them is its result."""

import json
from pathlib import Path

import pytest

from mpcdp.bench import peers
from mpcdp.bench.peers import PEERS, Peer, PeerResult, run_peer

GOOD = {"version": "1", "seconds_by_run": [3.0, 1.0, 2.0], "bytes_sent": 7, "largest_error": 0.0, "noise_ratio": 1.0}


def run(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch, seconds: float = 30.0) -> PeerResult:
    (folder / "made-up_sum.py").write_text(script, encoding="utf-8")
    monkeypatch.setattr(peers, "_SCRIPTS", folder)
    peer = Peer("made-up", (), "here", "nowhere", "nobody")
    return run_peer(peer, owners=3, dimension=5, runs=2, seconds=seconds)


def test_a_script_is_asked_for_the_work_and_its_answer_is_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = f"""
import json, os, sys
assert sys.argv[1:] == ["3", "5", "2"]
assert "PYTHONPATH" not in os.environ
print("some chatter")
print({json.dumps(json.dumps(GOOD))})
"""
    result = run(tmp_path, script, monkeypatch)
    assert result.problem is None
    assert (result.peer, result.version, result.seconds, result.bytes_sent) == ("made-up", "1", 2.0, 7)
    assert (result.setting, result.noise, result.seen_by) == ("here", "nowhere", "nobody")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("raise SystemExit('no such party')", ": no such party"),
        ("import no_such_library", "ModuleNotFoundError: No module named"),
        ("import os; os.abort()", "failed (-6)"),
        ("", "is not one line of JSON"),
        ("print('{}')", "is not one line of JSON"),
        ("print('[1]')", "is not one line of JSON"),
        (f"print('{json.dumps(GOOD | {'more': 1})}')", "other figures than it should"),
        (f"print('{json.dumps(GOOD | {'seconds_by_run': []})}')", "other figures than it should"),
    ],
)
def test_a_script_that_fails_is_a_result_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    result = run(tmp_path, script, monkeypatch)
    assert problem in (result.problem or "")
    assert (result.version, result.seconds, result.seconds_by_run, result.bytes_sent) == (None, None, (), None)


def test_a_script_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, "import time; time.sleep(600)", monkeypatch, seconds=1.0)
    assert "took longer than 1 s" in (result.problem or "")


def test_a_cache_that_cannot_be_made_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = run_peer(PEERS[1], owners=3, dimension=5, runs=1, seconds=1.0)
    assert str(tmp_path / "file") in (result.problem or "")


@pytest.mark.slow
def test_a_library_that_cannot_be_installed_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    peer = Peer("mpyc", ("mpyc==0.11",), "", "", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run_peer(peer, owners=3, dimension=5, runs=1, seconds=60.0)
    assert "ERROR: No matching distribution found for mpyc==0.11" in (result.problem or "")


@pytest.mark.slow
def test_mpyc_adds_up_exactly() -> None:
    (mpyc,) = (peer for peer in PEERS if peer.name == "mpyc")
    result = run_peer(mpyc, owners=7, dimension=40, runs=2, seconds=120.0)
    assert result.problem is None
    assert result.version == "0.11"
    assert result.largest_error is not None
    assert result.largest_error < 1e-6
    assert result.noise_ratio == pytest.approx(1, abs=0.6)
    # Every share of an owner's 64-bit numbers goes to two others.
    assert (result.bytes_sent or 0) > 7 * 40 * 8 * 2


@pytest.mark.slow
def test_crypten_as_it_comes_adds_up_with_its_own_noise() -> None:
    (crypten,) = (peer for peer in PEERS if peer.name == "crypten")
    result = run_peer(crypten, owners=4, dimension=500, runs=1, seconds=250.0)
    assert result.problem is None
    assert result.noise_ratio == pytest.approx(1.01, abs=0.15)


def test_every_peer_says_what_it_is_and_has_a_script_that_imports_nothing_of_ours() -> None:
    assert [peer.name for peer in PEERS] == ["crypten", "mpyc", "flower", "spu"]
    for peer in PEERS:
        script = (Path(peers.__file__).parent / "peer_scripts" / f"{peer.name}_sum.py").read_text(encoding="utf-8")
        assert "mpcdp" not in script
        assert all((peer.setting, peer.noise, peer.seen_by))
        assert all("==" in requirement or ">=" in requirement for requirement in peer.requirements)
