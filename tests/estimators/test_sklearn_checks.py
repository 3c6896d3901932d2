"""scikit-learn's own checks of an estimator, with the ones that cannot pass listed with their reasons."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from mpcdp.estimators import Federation, PrivateERM, PrivateLinearSVC, PrivateLogisticRegression, PrivateRidge

_EVERY: dict[str, Any] = {"epsilon": 15.0, "delta": 1e-4, "bounds": (-10.0, 10.0)}
_FEDERATION = Federation.in_process()
_LINEAR: dict[str, Any] = {
    **_EVERY,
    "federation": _FEDERATION,
    "classes": (0, 1),
    "method": "output-perturbation",
    "regularization": 0.05,
}
_NOISE = "two fits differ: each release has noise of its own, drawn from the operating system, and no seed replays it"
_SMALL = (
    "the check's few dozen records vanish in the noise; accuracy is tested in tests/learning/test_gradient_accuracy.py"
)
_DECLARED = "classes are declared, never inferred: classes_ is what was declared, whatever labels y holds"
_UNKNOWN = (
    "a label that is not declared counts as a record that contributes nothing; refusing y would tell that it is there"
)
_CLASSIFIER = {
    "check_classifiers_classes": _DECLARED,
    "check_classifiers_train": _SMALL,
    "check_classifier_data_not_an_array": _NOISE,
    "check_fit_idempotent": _NOISE,
    "check_supervised_y_2d": _NOISE,
}
_EXPECTED = {
    "PrivateLogisticRegression": {**_CLASSIFIER, "check_classifier_not_supporting_multiclass": _UNKNOWN},
    "PrivateLinearSVC": {**_CLASSIFIER, "check_classifier_not_supporting_multiclass": _UNKNOWN},
    "PrivateERM": _CLASSIFIER,
    "PrivateRidge": {
        "check_regressors_train": _SMALL,
        "check_regressor_data_not_an_array": _NOISE,
        "check_regressors_int": _NOISE,
        "check_fit_idempotent": _NOISE,
        "check_supervised_y_2d": _NOISE,
    },
}


def _expected(estimator: Any) -> dict[str, str]:
    return _EXPECTED[type(estimator).__name__]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of models of a few records, or of other classes
@parametrize_with_checks(  # type: ignore[untyped-decorator]  # scikit-learn has no types
    [
        PrivateLogisticRegression(**_LINEAR),
        PrivateLinearSVC(**_LINEAR),
        PrivateRidge(**_EVERY, target_bounds=(-300.0, 300.0), federation=_FEDERATION),
        PrivateERM(**_EVERY, classes=(0, 1), federation=_FEDERATION, rounds=3),
    ],
    expected_failed_checks=_expected,
)
def test_scikit_learn_agrees(estimator: Any, check: Any) -> None:
    check(estimator)
