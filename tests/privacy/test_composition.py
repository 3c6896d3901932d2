"""Several tasks: what they cost together, and that a limit holds however they are chosen."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mpcdp.privacy.accountant import gaussian_delta, gaussian_epsilon, gaussian_mu
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost, TaskCost, allows, composed_epsilon, used_share

_LIMIT = PrivacyBudget(epsilon=4.0, delta=1e-5)


def _gaussian(mu: float, *, distance: float = 0.0, delta: float = 1e-6) -> TaskCost:
    """A Gaussian task; its (epsilon, delta) are on its curve."""
    spent = gaussian_delta(epsilon=gaussian_epsilon(mu=mu, delta=delta), mu=mu)
    budget = PrivacyBudget(epsilon=gaussian_epsilon(mu=mu, delta=delta), delta=min(1.0, spent))
    return TaskCost(budget=budget, gaussian=GaussianCost(mu_squared=mu**2, distance=distance))


def _pure(epsilon: float, delta: float = 0.0) -> TaskCost:
    return TaskCost(budget=PrivacyBudget(epsilon=epsilon, delta=delta))


def _how_many(limit: PrivacyBudget, cost: TaskCost) -> int:
    """Ask again and again for the same task."""
    costs: list[TaskCost] = []
    while allows(limit, [*costs, cost]):
        costs.append(cost)
    return len(costs)


# -- what tasks cost together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mus", [[0.2, 0.05, 0.4], [0.9]])
def test_gaussian_tasks_agree_with_dp_accounting(mus: Sequence[float]) -> None:
    from dp_accounting import GaussianDpEvent, NeighboringRelation
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-4)
    for mu in mus:
        accountant.compose(GaussianDpEvent(1 / mu))
    epsilon = composed_epsilon([_gaussian(mu) for mu in mus], delta=1e-6)
    assert epsilon == pytest.approx(accountant.get_epsilon(1e-6), rel=2e-3)


def test_distances_and_other_tasks_are_paid_for() -> None:
    alone = [_gaussian(0.1)] * 4
    together = [*(_gaussian(0.1, distance=1e-8) for _ in range(4)), _pure(0.5, 1e-7)]
    epsilon = composed_epsilon(together, delta=1e-6)
    left = 1e-6 - 1e-7 - (1 + math.exp(epsilon)) * 4e-8
    assert epsilon == pytest.approx(0.5 + gaussian_epsilon(mu=0.2, delta=left), rel=1e-5)
    assert epsilon > 0.5 + composed_epsilon(alone, delta=1e-6)


def test_the_smaller_bound_counts() -> None:
    laplace = [_pure(0.5, 1e-12)] * 3
    assert composed_epsilon(laplace, delta=1e-6) == 1.5
    assert composed_epsilon(laplace, delta=1e-12) == math.inf
    two = [_gaussian(0.3), _gaussian(0.3)]
    assert composed_epsilon(two, delta=2e-6) < 0.8 * PrivacyBudget.sum(cost.budget for cost in two).epsilon
    # Distances too large for any epsilon leave adding up.
    rough = [TaskCost(budget=cost.budget, gaussian=GaussianCost(mu_squared=0.09, distance=0.1)) for cost in two]
    assert composed_epsilon(rough, delta=2e-6) == PrivacyBudget.sum(cost.budget for cost in two).epsilon
    assert composed_epsilon([], delta=1e-6) == 0.0


def test_many_tasks_keep_their_composition_although_e_to_the_sum_of_epsilons_is_huge() -> None:
    tasks = [_gaussian(0.2, distance=1e-13) for _ in range(60)]
    assert sum(task.budget.epsilon for task in tasks) > 40
    assert composed_epsilon(tasks, delta=1e-6) == pytest.approx(
        gaussian_epsilon(mu=0.2 * math.sqrt(60), delta=1e-6), rel=1e-3
    )


# -- which tasks a limit allows --------------------------------------------------------------------------------------


def test_a_limit_allows_several_times_as_many_gaussian_tasks_as_adding_up() -> None:
    one = _gaussian(gaussian_mu(epsilon=1.0, delta=1e-6), distance=1e-13)
    best = gaussian_mu(epsilon=4.0, delta=1e-5) ** 2 / gaussian_mu(epsilon=1.0, delta=1e-6) ** 2
    assert 0.75 * best < _how_many(_LIMIT, one) < best
    assert _how_many(_LIMIT, TaskCost(budget=one.budget)) == 4


def test_noise_that_is_1_3_times_too_small_is_refused() -> None:
    mu = gaussian_mu(epsilon=1.0, delta=1e-6)
    number = _how_many(_LIMIT, _gaussian(mu))
    assert allows(_LIMIT, [_gaussian(mu)] * number)
    assert not allows(_LIMIT, [_gaussian(1.3 * mu)] * number)
    # And rightly so: the same tasks exceed the limit by the exact curve.
    assert gaussian_delta(epsilon=_LIMIT.epsilon, mu=1.3 * mu * math.sqrt(number)) > _LIMIT.delta


def test_every_part_of_a_share_refuses() -> None:
    few = [_gaussian(0.1)] * 30  # far more than adding up allows
    assert not allows(_LIMIT, [TaskCost(budget=cost.budget) for cost in few])
    assert allows(_LIMIT, few)
    assert allows(_LIMIT, [*few, _pure(1.0, 1e-8)])
    assert not allows(_LIMIT, [*few, _pure(3.1)])
    assert not allows(_LIMIT, [*few, _pure(1.0, 4e-7)])
    assert not allows(_LIMIT, [*few, _gaussian(0.1, distance=1e-8)])
    assert not allows(_LIMIT, [*few, _gaussian(0.9)])


def test_what_is_used_grows_to_one() -> None:
    cost = _gaussian(0.2)
    number = _how_many(_LIMIT, cost)
    used = [used_share(_LIMIT, [cost] * count) for count in range(number + 2)]
    assert used[0] == 0
    assert used == sorted(used)
    assert used[number] <= 1 < used[number + 1]


def test_the_first_task_may_use_a_limit_up_whatever_it_is() -> None:
    for limit in (_LIMIT, PrivacyBudget(epsilon=1e4, delta=1e-6), PrivacyBudget(epsilon=0.01, delta=1.0)):
        whole = TaskCost(budget=limit)
        assert allows(limit, [whole])
        assert used_share(limit, [whole]) == 1
        assert not allows(limit, [whole, _pure(1e-9)])


_COSTS = st.lists(
    st.one_of(
        st.builds(_gaussian, st.floats(0.01, 0.8), distance=st.sampled_from([0.0, 1e-13, 1e-9]), delta=st.just(1e-7)),
        st.builds(_pure, st.floats(0.01, 2.0), st.sampled_from([0.0, 1e-12, 1e-7, 1e-6])),
    ),
    min_size=1,
    max_size=12,
)


@given(costs=_COSTS, epsilon=st.floats(0.5, 6.0), delta=st.sampled_from([1e-5, 1e-6, 1e-3]))
@settings(max_examples=60)
def test_what_is_allowed_is_within_the_limit(costs: list[TaskCost], epsilon: float, delta: float) -> None:
    limit = PrivacyBudget(epsilon=epsilon, delta=delta)
    if allows(limit, costs):
        assert composed_epsilon(costs, delta=delta) <= epsilon * (1 + 1e-5)
        assert all(allows(limit, costs[:count]) for count in range(1, len(costs)))
        assert len(costs) == 1 or used_share(limit, costs) <= 1
    else:
        assert not allows(limit, [*costs, costs[0]])


# -- tasks that are chosen after seeing results ----------------------------------------------------------------------
#
# The first task is a Gaussian of mu^2 = s. Given its release, the privacy loss is l, N(s/2, s) under the one table and
# N(-s/2, s) under the other; what follows may depend on it. If what follows is at most h(e) away at every epsilon e
# (the hockey-stick divergence), everything together is E h(epsilon - l) away, and the worst choice is the largest h
# at every l. Laplace tasks of a total e are at worst randomised response.


def _gaussian_stick(epsilon: np.ndarray, mu: float) -> np.ndarray:
    return np.asarray(norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))


def _pure_stick(epsilon: np.ndarray, pure: float) -> np.ndarray:
    high, low = 1 / (1 + math.exp(-pure)), 1 / (1 + math.exp(pure))
    a = np.exp(epsilon)
    return np.asarray(np.maximum(high - a * low, 0) + np.maximum(low - a * high, 0))


def _worst(limit: PrivacyBudget, first: float, sticks: Sequence[Callable[[np.ndarray], np.ndarray]]) -> float:
    """Delta of the interaction that takes the worst continuation at every loss."""
    points = np.linspace(-12, 12, 20_001)
    loss = first / 2 + math.sqrt(first) * points
    worst = np.max([stick(limit.epsilon - loss) for stick in sticks], axis=0)
    return float(np.trapezoid(worst * norm.pdf(points), points))


def _largest(holds: Callable[[float], bool]) -> float:
    low, high = 0.0, 16.0
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


_ADAPTIVE = PrivacyBudget(epsilon=1.0, delta=1e-2)


def test_a_filter_that_takes_its_yardstick_from_what_was_spent_would_exceed_the_limit() -> None:
    """The rule "sum of mu^2 <= B, B the largest within (epsilon - sum of the other epsilons, delta)" is no filter."""
    bound = gaussian_mu(epsilon=_ADAPTIVE.epsilon, delta=_ADAPTIVE.delta) ** 2
    first = bound / 2
    pure = _largest(
        lambda epsilon: (
            epsilon < 1 and gaussian_delta(epsilon=_ADAPTIVE.epsilon - epsilon, mu=math.sqrt(first)) <= _ADAPTIVE.delta
        )
    )
    assert 0 < pure < 1
    continuations = [
        lambda epsilon: _gaussian_stick(epsilon, math.sqrt(bound - first)),
        lambda epsilon: _pure_stick(epsilon, pure),
    ]
    # Each alone is within the limit; choosing between them by the result is not.
    for one in continuations:
        assert _worst(_ADAPTIVE, first, [one]) <= _ADAPTIVE.delta * (1 + 1e-6)
    assert _worst(_ADAPTIVE, first, continuations) > 1.05 * _ADAPTIVE.delta


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.8, 0.99])
def test_no_choice_after_a_result_exceeds_the_limit(part: float) -> None:
    """Everything that `allows` would still allow after a first Gaussian, the worst of it at every loss."""
    total = _largest(lambda mu: mu > 0 and allows(_ADAPTIVE, [_gaussian(1e-3), _gaussian(mu)]))
    first = part * total**2
    spent = [_gaussian(math.sqrt(first))]
    sticks: list[Callable[[np.ndarray], np.ndarray]] = []
    for pure in (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9):
        others = [*spent, _pure(pure)] if pure else spent
        if pure and not allows(_ADAPTIVE, others):
            continue
        mu = _largest(lambda mu, others=others: mu > 0 and allows(_ADAPTIVE, [*others, _gaussian(mu)]))  # type: ignore[misc]
        if mu > 1e-6:
            # A pure task moves the loss by at most its epsilon.
            sticks.append(lambda epsilon, mu=mu, pure=pure: _gaussian_stick(epsilon - pure, mu))  # type: ignore[misc]
    largest = _largest(lambda pure: pure > 0 and allows(_ADAPTIVE, [*spent, _pure(pure)]))
    sticks.append(lambda epsilon: _pure_stick(epsilon, largest))
    assert len(sticks) > 1
    assert _worst(_ADAPTIVE, first, sticks) <= _ADAPTIVE.delta


@pytest.mark.parametrize(
    ("mu_squared", "distance"), [(0.0, 0.0), (-1.0, 0.0), (math.inf, 0.0), (0.1, -1e-9), (0.1, 2.0)]
)
def test_costs_are_numbers_that_can_be(mu_squared: float, distance: float) -> None:
    with pytest.raises(ValueError, match=r"mu\^2|total variation"):
        GaussianCost(mu_squared=mu_squared, distance=distance)
