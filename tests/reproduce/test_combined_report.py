"""One page of several results: what is on it, and what it refuses."""

import html
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from protocol_samples import made_up_peer, made_up_row
from small_tables import small_table

from mpcdp.bench.cost_model import CostModel
from mpcdp.bench.protocol_results import ProtocolResults
from mpcdp.cli import main
from mpcdp.errors import InputError
from mpcdp.reproduce.combined_report import write_report
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.frontier_report import save_frontier
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.real import RealRun
from mpcdp.reproduce.results import Results
from mpcdp.reproduce.settings import RunSettings

SETTINGS = RunSettings(owners=(20,), iteration_owners=(20,), epsilons=(0.5, 1.0), runs=2)
BENCH = {
    "command": "mpcdp bench rounds --parties 2",
    "rows": [
        {"noise": "joint", "owners": 1000, "seconds_per_round": 0.123456, "seconds_by_round": [0.1], "none": None},
        {"noise": "per-party", "owners": 10, "seconds_per_round": 2.0, "seconds_by_round": [0.2], "none": None},
    ],
    "notes": ["not measured: something < else"],
    "published": [{"work": "Somebody 2023", "figure": "1 ms"}],
    "machine": {"cores": 2},
    "versions": {"mpcdp": "0.1.0"},
}


def _point(experiment: Experiment, method: str, figure: str, epsilon: float, quality: float) -> Point:
    where: dict[str, Any] = {**experiment.where(figure, 20, epsilon, 1e-6), "calibration": "ours", "runs": 2}
    where |= {"quality_deviation": 0.01, "loss_deviation": 0.01, "gap_deviation": 0.01}
    return Point(method=method, quality=quality, loss=0.02, gap=0.03, **where)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["mpcdp", "reproduce", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_one_page_shows_all_results_and_needs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment(small_table(), SETTINGS)
    agreed = {"quantity": "optimality gap", "real": 0.9, "simulated": 0.9, "deviation": 0.01}
    real = RealRun(table="small", method="our_output", owners=4, epsilon=0.5, runs=20, **agreed)  # type: ignore[arg-type]
    points = [_point(experiment, "our_output", "epsilon", epsilon, 0.8765) for epsilon in SETTINGS.epsilons]
    results = Results(
        command="mpcdp reproduce figures", seconds=9.0, experiments=[experiment], points=points, real=[real]
    )
    own_page = results.save(tmp_path / "figures").read_text()
    document = json.loads((tmp_path / "figures" / "results.json").read_text())
    assert document["points"] == [asdict(point) for point in points]
    assert document["real"] == [{**asdict(real), "agrees": True}]
    split, pooled = (_point(experiment, f"our_gradient{end}", "frontier", 0.5, 0.91) for end in ("", "_pooled"))
    save_frontier(
        [experiment],
        [split, pooled],
        tmp_path / "frontier",
        command="mpcdp reproduce frontier --quick",
        seconds=8.0,
        left_out={"opacus": "no such module"},
    )
    (tmp_path / "rounds.json").write_text(json.dumps(BENCH))
    page_path = tmp_path / "all.html"
    sources = [str(tmp_path / name) for name in ("figures", "frontier", "rounds.json")]
    assert _run(monkeypatch, *sources, "--html", str(page_path)) == 0
    page = page_path.read_text()
    commands = set(re.findall("Made by <code>(.*?)</code>", page))
    assert commands == {"mpcdp reproduce figures", "mpcdp reproduce frontier --quick", "mpcdp bench rounds --parties 2"}
    assert page.count("data:image/png;base64") == 3  # iterations, epsilon, frontier
    assert own_page.count("data:image/png;base64") == 2
    assert not re.search(r'(src|href)="(?!data:)', page)
    for shown in ("0.8765", "+0.0000", "opacus was not run: no such module", "Bench rounds", "0.1235", "Somebody 2023"):
        assert shown in page, shown
    assert "something &lt; else" in page
    assert page.count("Machine and versions") == 3
    assert "seconds by round" not in page
    assert "<th>none</th>" not in page


def test_what_a_session_costs_is_shown_whole(tmp_path: Path) -> None:
    """Other libraries, the cost model and very many owners too, as on the page of the command itself."""
    model = CostModel(0.5, 0.6, 1e-8, 0.07, residuals=(0.0,))
    results = ProtocolResults([made_up_row()], [made_up_peer("mpyc")], model, None, ["a note"])
    (tmp_path / "protocol.json").write_text(json.dumps(results.document()))
    page = write_report([tmp_path / "protocol.json"], tmp_path / "page.html").read_text()
    for shown in ("mpyc", html.escape(results.model_text()), "a note", "who could see what", "Machine and versions"):
        assert shown in page, shown
    assert page.count("data:image/png;base64") == 2
    broken = results.document() | {"peers": 5}
    (tmp_path / "protocol.json").write_text(json.dumps(broken))
    with pytest.raises(InputError, match="bench protocol"):
        write_report([tmp_path / "protocol.json"], tmp_path / "page.html")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "other"}', None])
def test_what_is_no_result_is_refused_by_name(content: str | None, tmp_path: Path) -> None:
    source = tmp_path / "something.json"
    if content is not None:
        source.write_text(content)
    with pytest.raises(InputError, match=r"something\.json"):
        write_report([source], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
