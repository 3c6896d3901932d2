"""The command line: what users type first, and how it tells them what is wrong."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import mpcdp

from mpcdp.cli.demo_table import bundled_table, split
from mpcdp.errors import DataError
from mpcdp.learning.model import PrivacyStatement, TrainedModel
from mpcdp.plan import make_plan
from mpcdp.task import load_task

ROOT = Path(__file__).parents[2]
TASK = ROOT / "parties" / "task.toml"


@pytest.fixture(name="model")
def _model(tmp_path: Path) -> TrainedModel:
    schema = {
        "label": {"column": "ill", "classes": ["no", "yes"]},
        "features": [{"name": "age", "lower": 0.0, "upper": 100.0}],
    }
    model = TrainedModel.model_validate(
        {
            "task": "t",
            "task_digest": "00" * 32,
            "session": "11" * 32,
            "kind": "logistic-regression",
            "record_schema": schema,
            "coefficients": [1.0, 0.0],
            "owners": ["a", "b"],
            "privacy": PrivacyStatement(epsilon=1.0, delta=1e-6, relation="replace-one", text="..."),
        }
    )
    model.save(tmp_path / "model.json")
    return model


def test_plan_prints_the_cost_for_people_and_for_programs() -> None:
    plan = make_plan(load_task(TASK))
    human = mpcdp("plan", TASK)
    assert human.returncode == 0, human.stderr
    assert "epsilon" in human.stdout
    assert json.loads(mpcdp("plan", TASK, "--json").stdout) == json.loads(json.dumps(plan.to_json()))


def test_predict_writes_a_class_and_a_score_per_row(tmp_path: Path, model: TrainedModel) -> None:
    (tmp_path / "new.csv").write_text("age\n10\n90\n50\n")
    result = mpcdp("predict", tmp_path / "model.json", tmp_path / "new.csv")
    assert result.returncode == 0, result.stderr
    header, *rows = csv.reader(result.stdout.splitlines())
    assert header == ["ill", "score"]
    assert [row[0] for row in rows] == ["no", "yes", "no"]
    # Age is mapped to [-1, 1]; with the bias the row is longer than 1 and clipped.
    expected = [x / np.hypot(x, 1) for x in (-0.8, 0.8, 0.0)]
    np.testing.assert_allclose([float(row[1]) for row in rows], expected, atol=1e-8)
    into_file = mpcdp("predict", tmp_path / "model.json", tmp_path / "new.csv", "--output", tmp_path / "out.csv")
    assert into_file.returncode == 0
    assert (tmp_path / "out.csv").read_text().split() == result.stdout.split()


def test_a_model_survives_its_file(tmp_path: Path, model: TrainedModel) -> None:
    assert TrainedModel.load(tmp_path / "model.json") == model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(coefficients=[1.0]), "coefficients"),
        (lambda d: d.update(coefficients=[1.0, "NaN"]), "coefficient is not"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d.update(format="mpcdp-model/2"), "format"),
        (lambda d: d.pop("privacy"), "privacy"),
    ],
)
def test_a_damaged_model_is_one_sentence(tmp_path: Path, model: TrainedModel, change: object, words: str) -> None:
    document = json.loads((tmp_path / "model.json").read_text())
    change(document)  # type: ignore[operator]
    (tmp_path / "model.json").write_text(json.dumps(document))
    (tmp_path / "new.csv").write_text("age\n10\n")
    result = mpcdp("predict", tmp_path / "model.json", tmp_path / "new.csv")
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "missing.toml"), "missing.toml"),
        (("predict", "missing.json", "table.csv"), "missing.json"),
        (("demo", "--table", "mine.csv"), "--schema"),
        (("demo", "--epsilon", "-1"), "epsilon"),
        (("demo", "--mechanism", "uniform"), "mechanism"),
        (("demo", "--owners", "50", "--table", "small.csv", "--schema", "small.toml"), "fewer owners"),
        (("demo", "--table", "other.csv", "--schema", "small.toml"), "no cell fits in 'ill'"),
        (
            ("demo", "--owners", "2", "--table", "other.csv", "--schema", "number.toml", "--output", "out"),
            "the demo's task:\n  schema.label: expected binary",
        ),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "small.csv").write_text("age,ill\n" + "1,yes\n" * 20)
    (tmp_path / "other.csv").write_text("age,ill\n" + "1,1\n" * 20)
    (tmp_path / "small.toml").write_text(
        '[schema.label]\ncolumn = "ill"\nclasses = ["no", "yes"]\n'
        '[[schema.features]]\nname = "age"\nlower = 0.0\nupper = 9.0\n'
    )
    (tmp_path / "number.toml").write_text(
        '[schema.label]\ncolumn = "ill"\nlower = 0.0\nupper = 5.0\n'
        '[[schema.features]]\nname = "age"\nlower = 0.0\nupper = 9.0\n'
    )
    result = mpcdp(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()  # what is wrong is found before anything is written


@pytest.mark.parametrize(
    "command", [(), ("plan",), ("check",), ("predict",), ("demo",), ("network",), ("network", "new")]
)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = mpcdp(*command, "--help")
    assert result.returncode == 0
    assert len(command) == 0 or command == ("network",) or "Example: mpcdp" in result.stdout


def test_the_demo_splits_every_row_once_and_unevenly() -> None:
    table = bundled_table()
    parts, test = split(len(table.rows), 8)
    everything = sorted([row for part in parts for row in part] + list(test))
    assert everything == list(range(569))
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 6 * sizes[0]
    with pytest.raises(DataError, match="fewer owners"):
        split(30, 20)


@pytest.mark.slow  # sessions of real processes: tests/integration
def test_the_demo_trains_across_processes_and_reports(tmp_path: Path) -> None:
    arguments = ("--owners", "3", "--parties", "2", "--epsilon", "2", "--output", tmp_path / "out", "--json")
    result = mpcdp("demo", *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert set(report["accuracy"]) == {"non_private", "single_owner", "per_owner_noise", "mpcdp"}
    assert report["accuracy"]["non_private"] > 0.85
    assert report["epsilon"] == 2.0
    assert 0.0 < report["delta"] <= 1e-6
    assert (report["owners"], report["parties"], report["processes"]) == (3, 2, 7)
    assert set(report["bytes_sent"]) == {"owner", "compute", "dealer", "coordinator"}
    assert report["bytes_sent"]["owner"] > 3 * 31 * 8
    assert {"joining", "preparing", "rounds"} <= set(report["seconds"])
    folder = Path(report["output"])
    assert (folder / "accuracy.png").read_bytes()[:4] == b"\x89PNG"
    model = TrainedModel.load(folder / "network" / "hospital-1" / "state" / "model.json")
    assert model.owners == ("hospital-1", "hospital-2", "hospital-3")
    predictions = mpcdp("predict", folder / "network" / "hospital-1" / "state" / "model.json", folder / "test.csv")
    truth = [row["diagnosis"] for row in csv.DictReader((folder / "test.csv").read_text().splitlines())]
    predicted = [row["diagnosis"] for row in csv.DictReader(predictions.stdout.splitlines())]
    right = np.mean([a == b for a, b in zip(truth, predicted, strict=True)])
    assert right == pytest.approx(report["accuracy"]["mpcdp"])
    # A second demo into the same folder would overwrite the first one's keys.
    again = mpcdp("demo", *arguments)
    assert again.returncode == 2
    assert "not empty" in again.stderr
