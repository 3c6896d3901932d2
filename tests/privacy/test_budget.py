"""Budgets and sensitivities: what is accepted, what adds up, what converts."""

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(-1.0, 0.1), (math.inf, 0.1), (math.nan, 0.1), (1.0, -0.1), (1.0, 1.1), (1.0, math.nan)]
)
def test_budget_refuses_what_is_no_budget(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon|delta"):
        PrivacyBudget(epsilon=epsilon, delta=delta)


def test_sums_add_decimals_so_that_a_limit_can_be_used_up_exactly() -> None:
    total = PrivacyBudget.sum([PrivacyBudget(epsilon=0.1, delta=1e-6)] * 3)
    assert total == PrivacyBudget(epsilon=0.3, delta=3e-6)
    assert total.fits(PrivacyBudget(epsilon=0.3, delta=3e-6))


def test_a_sum_of_deltas_above_one_promises_nothing_more() -> None:
    assert PrivacyBudget.sum([PrivacyBudget(epsilon=1.0, delta=0.7)] * 2).delta == 1.0


def test_the_empty_sum_is_free() -> None:
    assert PrivacyBudget.sum([]) == PrivacyBudget(epsilon=0.0, delta=0.0)


@pytest.mark.parametrize("limit", [PrivacyBudget(epsilon=0.9, delta=0.5), PrivacyBudget(epsilon=2.0, delta=0.05)])
def test_both_numbers_have_to_fit(limit: PrivacyBudget) -> None:
    assert not PrivacyBudget(epsilon=1.0, delta=0.1).fits(limit)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_sensitivity_refuses_what_is_no_bound(bound: float) -> None:
    with pytest.raises(ValueError, match="bound"):
        Sensitivity(norm=Norm.L2, bound=bound)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
@example([5e-324, 5e-324])  # sqrt(2) times the smallest double rounds to the smallest double
def test_l1_bounds_every_vector_within_the_l2_bound(vector: list[float]) -> None:
    if any(vector):
        length = math.nextafter(math.hypot(*vector), math.inf)  # its squares do not underflow, and it is rounded up
        converted = Sensitivity(norm=Norm.L2, bound=length).to_l1(dimension=len(vector))
        assert sum(abs(Fraction(value)) for value in vector) <= Fraction(converted.bound)
        assert (converted.norm, converted.relation) == (Norm.L1, Relation.REPLACE_ONE)


def test_l1_conversion_is_attained_by_equal_coordinates() -> None:
    assert Sensitivity(norm=Norm.L2, bound=math.sqrt(9)).to_l1(dimension=9).bound == pytest.approx(9)


def test_only_l2_converts() -> None:
    with pytest.raises(ValueError, match="L2"):
        Sensitivity(norm=Norm.L1, bound=1.0).to_l1(dimension=3)
