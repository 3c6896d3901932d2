"""PyTorch modules: per-record gradients, clipped, of whatever module a task names."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.errors import TaskError
from mpcdp.learning import module_model
from mpcdp.learning.gradient_perturbation import GradientPerturbation
from mpcdp.learning.linear import LinearModel, MarginResiduals, SoftmaxResiduals, SquaredResiduals
from mpcdp.learning.losses import LogisticLoss
from mpcdp.learning.module_model import ModuleModel

KEY = bytes(32)


def linear(*, inputs: int, outputs: int) -> Any:
    """A module that is one of our linear models."""
    from torch import nn

    return nn.Linear(inputs, outputs, bias=False)


def batch_normalised(*, inputs: int, outputs: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs))


def dropping_out(*, inputs: int, outputs: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Dropout(0.1), nn.Linear(inputs, outputs))


def layer_normalised(*, inputs: int, outputs: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, outputs))


def no_module(*, inputs: int, outputs: int) -> Any:
    return inputs + outputs


def make(factory: str = "mpcdp.learning.modules:small_mlp", **changes: Any) -> ModuleModel:
    values = {"loss": "cross-entropy", "seed": 7, "dimension": 4, "outputs": 1, **changes}
    return ModuleModel(factory=factory if ":" in factory else f"{__name__}:{factory}", **values)


def table(classes: int, *, count: int = 30, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = {
        2: rng.choice([-1.0, 1.0], count),
        3: rng.integers(0, 3, count).astype(np.float64),
        0: rng.uniform(-1, 1, count),
    }
    return Dataset(clip_rows(rng.normal(size=(count, 4))), labels[classes], classes)


@pytest.mark.parametrize(
    ("classes", "loss", "outputs", "residuals"),
    [
        (2, "cross-entropy", 1, MarginResiduals(LogisticLoss())),
        (3, "cross-entropy", 3, SoftmaxResiduals(3)),
        (0, "squared-error", 1, SquaredResiduals()),
    ],
)
@pytest.mark.parametrize("clipping_norm", [0.2, 100.0])
def test_a_linear_module_has_the_gradients_in_closed_form(
    classes: int, loss: str, outputs: int, residuals: Any, clipping_norm: float
) -> None:
    module = make("linear", loss=loss, outputs=outputs)
    closed = LinearModel(kind=residuals, dimension=4)
    point = np.random.default_rng(1).normal(size=4 * outputs)
    ours, theirs = (model.clipped_sum(table(classes), point, clipping_norm=clipping_norm) for model in (module, closed))
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("classes", "builtin", "own", "outputs"),
    [
        (2, "cross-entropy", "logistic_again", 1),
        (3, "cross-entropy", "softmax_again", 3),
        (0, "squared-error", "squares_again", 1),
    ],
)
def test_a_loss_of_ones_own_has_the_gradients_of_its_formula(
    classes: int, builtin: str, own: str, outputs: int
) -> None:
    """Labels are what `mpcdp.learning.record_loss` says: -1 and +1, positions, or numbers in [-1, 1]."""
    theirs, ours = (make(loss=loss, outputs=outputs) for loss in (builtin, f"record_losses:{own}"))
    ours.check_loss()
    point = ours.initial_parameters()
    np.testing.assert_allclose(
        ours.clipped_sum(table(classes), point, clipping_norm=0.3),
        theirs.clipped_sum(table(classes), point, clipping_norm=0.3),
        rtol=1e-9,
        atol=1e-12,
    )


_wild = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-2, 2) | st.just(0.0)


_labels = {2: st.sampled_from([-1.0, 1.0]), 4: st.sampled_from([0.0, 1.0, 2.0, 3.0]), 0: st.floats(-1, 1)}


@pytest.mark.parametrize(
    ("loss", "classes"),
    [
        ("cross-entropy", 2),
        ("cross-entropy", 4),
        ("squared-error", 0),
        ("record_losses:steep", 0),
        ("record_losses:steep", 2),
        ("record_losses:steep", 4),
    ],
)
@given(data=st.data())
@settings(max_examples=40)
def test_one_record_moves_a_contribution_by_at_most_2_c(loss: str, classes: int, data: st.DataObject) -> None:
    """Wherever the parameters are, whatever the loss is; gradients that are huge or not finite included."""
    with np.errstate(over="ignore"):
        rows = np.nan_to_num(clip_rows(data.draw(npst.arrays(np.float64, (4, 4), elements=_wild), "rows")))
    labels = data.draw(npst.arrays(np.float64, 4, elements=_labels[classes]), "labels")
    clipping_norm = data.draw(st.floats(1e-6, 1e6), "clipping norm")
    model = make(loss=loss, outputs=classes if classes > 2 else 1)
    method = GradientPerturbation(model=model, rounds=3, learning_rate=1.0, clipping_norm=clipping_norm)
    point = method.initial_state().point * data.draw(st.sampled_from([0.0, 1.0, 3.0, 1e10, 1e200]), "scale")
    state = replace(method.initial_state(), point=point)
    before, after = (Dataset(rows[picked].copy(), labels[picked].copy(), classes) for picked in ([0, 1, 2], [0, 3, 2]))
    one, other = (method.contribution(each, state, key=KEY) for each in (before, after))
    assert np.isfinite(one).all()
    assert math.hypot(*(one - other)) <= method.sensitivity([3]).bound


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(
    ("score", "length"),
    [
        (0.4, 0.3),  # about 1e54: shortened to C
        (-1.0, 0.3),  # about 1e133: its square is a number still
        (-2.2, 0.0),  # finite, and its square is not
        (-4.0, 0.0),  # infinite
        (1.5, 0.0),  # not a number
    ],
)
def test_gradients_of_any_size_are_shortened_or_count_as_nothing(score: float, length: float, outputs: int) -> None:
    model = make("linear", loss="record_losses:steep", outputs=outputs)
    point = np.zeros(4 * outputs)
    point[0] = score / 0.5
    rows = np.array([[0.5, 0.3, 0.3, 0.5], [0.0, 0.5, 0.5, 0.0]])
    labels, classes = (np.array([1.0, 1.0]), 2) if outputs == 1 else (np.array([0.0, 2.0]), 3)
    both = model.clipped_sum(Dataset(rows.copy(), labels.copy(), classes), point, clipping_norm=0.3)
    alone = model.clipped_sum(Dataset(rows[1:].copy(), labels[1:].copy(), classes), point, clipping_norm=0.3)
    assert np.linalg.norm(both - alone) == pytest.approx(length, rel=1e-9)
    assert 0 < np.linalg.norm(alone) <= 0.3  # the other record counts all the same


def test_it_is_nearly_attained() -> None:
    row = clip_rows(np.full((1, 4), 0.5))
    model = make("linear")
    tables = [Dataset(row.copy(), np.array([label])) for label in (-1.0, 1.0)]
    one, other = (model.clipped_sum(each, np.zeros(4), clipping_norm=0.3) for each in tables)
    assert np.linalg.norm(one - other) >= 0.999 * 0.6


def test_micro_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, point = make(), make().initial_parameters()
    whole = model.clipped_sum(table(2), point, clipping_norm=0.3)
    monkeypatch.setattr(module_model, "_BATCH_NUMBERS", 7 * model.parameter_count)
    np.testing.assert_allclose(model.clipped_sum(table(2), point, clipping_norm=0.3), whole, rtol=1e-12)


def test_first_parameters_follow_from_the_seed_alone() -> None:
    import torch

    before = torch.random.get_rng_state()
    one, again, other = make(), make(), make(seed=8)
    np.testing.assert_array_equal(one.initial_parameters(), again.initial_parameters())
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's randomness is touched


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("batch_normalised", "BatchNorm1d, which mixes records"),
        ("dropping_out", "Dropout, which mixes records or draws at random"),
        ("no_module", "returned no torch.nn.Module"),
        ("missing", "cannot be imported"),
        ("no.such.package:function", "cannot be imported"),
    ],
)
def test_what_cannot_be_trained_with_privacy_is_refused(factory: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        _ = make(factory).parameter_count


def test_layers_that_keep_records_apart_are_accepted() -> None:
    assert make("layer_normalised").parameter_count == 4 + 4 + 4 + 1


def test_a_network_learns_what_no_linear_model_can() -> None:
    """Exclusive or of two signs, without noise."""
    rng = np.random.default_rng(3)
    features = rng.uniform(-1, 1, size=(400, 2))
    rows = clip_rows(np.column_stack([features, np.zeros(400), np.ones(400)]), radius=2.0)
    data = Dataset(rows, np.sign(features[:, 0] * features[:, 1]))
    model = make(seed=1)
    method = GradientPerturbation(
        model=model, rounds=300, learning_rate=4.0, clipping_norm=10.0, momentum=0.9, averaging=False
    )
    state = method.initial_state()
    for _ in range(method.rounds):
        total = method.contribution(data, state, key=KEY)
        state = method.next_state(state, total, record_count=400, noise_deviation=0.0)
    right = np.mean(np.where(model.scores(state.model, rows)[:, 0] > 0, 1.0, -1.0) == data.labels)
    assert right > 0.95
