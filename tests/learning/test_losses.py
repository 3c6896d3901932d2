"""The constants that privacy proofs take from the losses, against the losses themselves."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss

LOSSES: list[Loss] = [LogisticLoss(), HuberSvmLoss(0.5), HuberSvmLoss(0.01), HuberSvmLoss(1.0)]
margins = st.floats(-50, 50) | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.5, 1.0, 1.5, 0.99, 1.01, 700.0, -745.2])


def exact_value(loss: Loss, margin: float) -> mpf:
    z = mpf(margin)
    if isinstance(loss, LogisticLoss):
        return mpmath.log1p(mpmath.exp(-z))
    assert isinstance(loss, HuberSvmLoss)
    width = mpf(loss.width)
    if z > 1 + width:
        return mpf(0)
    return 1 - z if z < 1 - width else (1 + width - z) ** 2 / (4 * width)


def exact_derivative(loss: Loss, margin: float) -> mpf:
    z = mpf(margin)
    if isinstance(loss, LogisticLoss):
        return -1 / (1 + mpmath.exp(z))
    assert isinstance(loss, HuberSvmLoss)
    width = mpf(loss.width)
    return -min(mpf(1), max(mpf(0), (1 + width - z) / (2 * width)))


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
class TestEveryLoss:
    @given(margin=margins)
    def test_values_and_derivatives_are_those_of_the_formula(self, loss: Loss, margin: float) -> None:
        with mpmath.workdps(400):
            value = float(loss.value(np.array([margin]))[0])
            assert abs(value - exact_value(loss, margin)) <= 1e-13 * (1 + abs(margin))
            derivative = float(loss.derivative(np.array([margin]))[0])
            assert abs(derivative - exact_derivative(loss, margin)) <= loss.derivative_error

    @given(margin=margins)
    def test_the_derivative_is_the_value_s_slope(self, loss: Loss, margin: float) -> None:
        step = mpf(2) ** -200
        with mpmath.workdps(400):
            slope = (exact_value(loss, mpf(margin) + step) - exact_value(loss, mpf(margin) - step)) / (2 * step)
            assert abs(slope - exact_derivative(loss, margin)) < mpf(2) ** -150

    @given(margin=st.floats(-20, 20))
    def test_the_second_derivative_is_the_derivative_s_slope(self, loss: Loss, margin: float) -> None:
        if isinstance(loss, HuberSvmLoss) and abs(abs(margin - 1) - loss.width) < 1e-6:
            return  # a corner of the derivative
        step = 1e-6
        difference = loss.derivative(np.array([margin + step])) - loss.derivative(np.array([margin - step]))
        second = loss.second_derivative(np.array([margin]))
        np.testing.assert_allclose(difference / (2 * step), second, atol=1e-7 * max(1.0, loss.smoothness**2))

    @given(margin=margins, other=margins)
    def test_is_convex_lipschitz_and_smooth(self, loss: Loss, margin: float, other: float) -> None:
        with mpmath.workdps(400):
            z, w = mpf(margin), mpf(other)
            rise = exact_value(loss, w) - exact_value(loss, z)
            tangent = exact_derivative(loss, z) * (w - z)
            bend = mpf(loss.smoothness) * (w - z) ** 2 / 2
            assert tangent - mpf(10) ** -300 <= rise <= tangent + bend + mpf(10) ** -300
            assert abs(rise) <= loss.lipschitz * abs(w - z)
        first, second = loss.derivative(np.array([margin, other])), loss.second_derivative(np.array([margin, other]))
        assert np.all((first >= -loss.lipschitz) & (first <= 0))
        assert np.all((second >= 0) & (second <= loss.smoothness))

    def test_the_constants_are_not_larger_than_they_need_be(self, loss: Loss) -> None:
        grid = np.linspace(-40, 3, 20_001)
        assert -loss.derivative(grid).min() > 0.999 * loss.lipschitz
        assert loss.second_derivative(grid).max() > 0.999 * loss.smoothness
        assert exact_value(loss, 0.0) <= loss.at_zero <= exact_value(loss, 0.0) * (1 + mpf(2) ** -40)

    def test_extreme_margins_neither_raise_nor_warn(self, loss: Loss) -> None:
        extreme = np.array([-np.inf, -1e308, -800.0, 800.0, 1e308, np.inf])
        np.testing.assert_allclose(loss.derivative(extreme), [-1, -1, -1, 0, 0, 0], atol=1e-300)
        np.testing.assert_array_equal(loss.second_derivative(extreme) <= 1e-300, True)
        np.testing.assert_array_equal(loss.value(extreme[3:]) <= 1e-300, True)


def test_names_are_those_of_the_task() -> None:
    assert LogisticLoss().name == "logistic-regression"
    assert HuberSvmLoss(0.5).name == "huber-svm"


@pytest.mark.parametrize("width", [0.0, -0.5, 1.001, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width"):
        HuberSvmLoss(width)
