"""Losses that a task names: called as is written down, and tried before any record is there."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpcdp.data.schema import Schema
from mpcdp.errors import InputError, TaskError
from mpcdp.learning.export import to_onnx
from mpcdp.learning.model import ModuleSource, PrivacyStatement, TrainedModel
from mpcdp.learning.module_model import ModuleModel
from mpcdp.learning.record_loss import find_record_loss
from mpcdp.plan import make_plan
from mpcdp.task import load_task

SAMPLE = Path(__file__).parents[2] / "parties" / "task-gradient.toml"


def model(loss: str, outputs: int = 1) -> ModuleModel:
    return ModuleModel(factory="mpcdp.learning.modules:small_mlp", loss=loss, seed=1, dimension=3, outputs=outputs)


def task_with(tmp_path: Path, loss: str, label: str = "") -> Path:
    text = SAMPLE.read_text(encoding="utf-8")
    section = f'kind = "module"\nfactory = "mpcdp.learning.modules:small_mlp"\nloss = "{loss}"\nseed = 3\n'
    text = re.sub(r'kind = "logistic-regression".*\n', section, text)
    path = tmp_path / "task.toml"
    path.write_text(re.sub(r"classes = \[.*?\]", label, text) if label else text, encoding="utf-8")
    return path


@pytest.mark.parametrize("loss", ["logistic_again", "squares_again", "absolute", "hinge", "steep"])
def test_losses_of_torch_operations_pass(loss: str) -> None:
    model(f"record_losses:{loss}").check_loss()


def test_of_several_scores() -> None:
    model("record_losses:softmax_again", outputs=3).check_loss()
    model("cross-entropy", outputs=3).check_loss()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("record_losses:missing", "cannot be imported"),
        ("no_such_package:loss", "cannot be imported"),
        ("record_losses:A_NUMBER", "is no function, it is a int"),
        ("record_losses:with_three_arguments", r"raised TypeError .* for a record of zeros"),
        ("record_losses:no_tensor", "returned float; return one real number"),
        ("record_losses:whole", "return one real number, as a tensor without dimensions"),
        ("record_losses:infinite", "of a record of zeros is .*inf; it has to be a finite number"),
        ("record_losses:only_of_the_second_class", "is nan; it has to be a finite number"),
        ("record_losses:deciding", "differentiated for several records at once"),
        ("record_losses:drawing", "differentiated for several records at once"),
        ("record_losses:particular", "differentiated for several records at once"),
    ],
)
def test_what_cannot_be_trained_with_is_named(loss: str, words: str) -> None:
    with pytest.raises(TaskError, match=f"model.loss: {loss}.*{words}"):
        model(loss).check_loss()


def test_a_loss_of_every_score_is_no_number() -> None:
    with pytest.raises(TaskError, match=r"returned a tensor of shape \(3,\)"):
        model("record_losses:of_every_score", outputs=3).check_loss()


def test_a_package_with_a_fault_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_losses.py").write_text("def loss(scores, label) return 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match=r"cannot be imported \(SyntaxError"):
        find_record_loss("faulty_losses:loss")


def test_a_task_agrees_on_its_loss_and_is_planned_only_if_it_can_be_trained_with(tmp_path: Path) -> None:
    path = task_with(tmp_path, "record_losses:hinge")
    hinge = load_task(path)
    assert make_plan(hinge).dimension == 5 * 16 + 16 + 1
    assert hinge.digest != load_task(task_with(tmp_path, "record_losses:absolute")).digest
    with pytest.raises(TaskError, match="differentiated for several records"):
        make_plan(load_task(task_with(tmp_path, "record_losses:deciding")))
    with pytest.raises(TaskError, match=r"model\.loss"):
        load_task(task_with(tmp_path, "hinge"))
    with pytest.raises(TaskError, match='expected "squared-error" with a number'):
        load_task(task_with(tmp_path, "squared-error"))


def test_one_loss_may_serve_classes_or_numbers(tmp_path: Path) -> None:
    for label in ("", "lower = 0.0\nupper = 10.0"):
        make_plan(load_task(task_with(tmp_path, "record_losses:squares_again", label)))


def test_a_model_remembers_its_loss_and_predicts_without_it(tmp_path: Path) -> None:
    """What scores mean follows the label: whoever predicts needs the factory's package, and no training code."""
    content: dict[str, Any] = {"features": [{"name": "x", "lower": -1.0, "upper": 1.0}]}
    labels: list[dict[str, Any]] = [
        {"column": "y", "classes": ["no", "yes"]},
        {"column": "y", "lower": 0.0, "upper": 10.0},
    ]
    for label in labels:
        source = ModuleSource(factory="mpcdp.learning.modules:small_mlp", loss="left_behind:loss", seed=1)
        trained = TrainedModel(
            task="t",
            task_digest="00" * 32,
            session="11" * 32,
            kind="module",
            record_schema=Schema.model_validate({**content, "label": label}),
            module=source,
            coefficients=tuple([0.1] * (2 * 16 + 16 + 1)),
            owners=("a",),
            privacy=PrivacyStatement(epsilon=1.0, delta=1e-6, relation="replace-one", text="."),
        )
        trained.save(tmp_path / "model.json")
        loaded = TrainedModel.load(tmp_path / "model.json")
        assert loaded.module == source
        (predicted,) = loaded.predict(np.array([[0.5, 0.5]]))
        expected = 16 * 0.1 * np.tanh(0.1) + 0.1
        assert predicted == ("yes" if "classes" in label else f"{5 + 5 * expected:.9g}")
        with pytest.raises(InputError, match="use torch's own export"):
            to_onnx(loaded)


def test_torch_is_not_loaded_to_read_a_task(tmp_path: Path) -> None:
    path = task_with(tmp_path, "no_such_package:loss")
    program = f"import sys; from mpcdp.task import load_task; load_task(__import__('pathlib').Path({str(path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; assert 'torch' not in sys.modules"], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
