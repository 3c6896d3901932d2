"""Plans: the cost is what the formulas say, never above the budget, and never much below it."""

import copy
import json
import math
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import MPContext
from numpy.typing import NDArray

from mpcdp.errors import PlanError
from mpcdp.mpc.noise import universal_noise
from mpcdp.plan import Plan, make_plan
from mpcdp.plan.calibration import Calibration
from mpcdp.plan.plan import _check
from mpcdp.privacy.accountant import gaussian_delta
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity
from mpcdp.task import Task

_SAMPLE = tomllib.loads((Path(__file__).parents[1] / "parties" / "task.toml").read_text(encoding="utf-8"))
_MP = MPContext()
_MP.dps = 60


def _plan(*, owners: list[dict[str, Any]] | None = None, **sections: dict[str, Any]) -> Plan:
    """Plan the sample task with other owners, or with some values of some sections changed."""
    content = copy.deepcopy(_SAMPLE)
    if sections.get("privacy", {}).get("noise") == "per-party":
        del content["dealer"]
    content["owners"] = owners or content["owners"]
    for section, values in sections.items():
        content[section] |= values
    return make_plan(Task.model_validate(content))


_CALIBRATIONS = st.builds(
    Calibration,
    distribution=st.shared(st.sampled_from(["gaussian", "laplace"]), key="distribution"),
    noise=st.builds(
        universal_noise,
        st.shared(st.sampled_from(["gaussian", "laplace"]), key="distribution"),
        st.sampled_from(["joint", "per-party"]),
    ),
    dimension=st.integers(1, 10**5),
    rounds=st.integers(1, 2000),
    sensitivity=st.builds(Sensitivity, norm=st.just(Norm.L2), bound=st.floats(1e-6, 1e6)),
    bound=st.floats(1e-3, 1e12),
)
_BUDGETS = st.builds(
    PrivacyBudget, epsilon=st.floats(0.01, 20), delta=st.floats(-12, -2).map(lambda exponent: 10**exponent)
)


def _solved(calibration: Calibration, budget: PrivacyBudget) -> float:
    try:
        return calibration.solve(budget)
    except PlanError:
        assume(False)
        raise


def _delta_by_the_book(calibration: Calibration, scale: float, epsilon: float) -> Any:
    """Compute what a session costs from the formulas of the design, in 60 digits and without the package's code."""
    d, rounds, noise = calibration.dimension, calibration.rounds, calibration.noise
    eps = _MP.mpf(epsilon)
    real = _MP.mpf(calibration.sensitivity.bound) + 2 * _MP.mpf(2) ** -53 * _MP.mpf(calibration.bound)
    circuit = (1 + _MP.exp(eps)) * d * rounds * _MP.mpf(noise.total_variation)
    if calibration.distribution == "laplace":
        l1 = _MP.sqrt(d) * scale * real + d
        assert rounds * l1 / noise.scale <= eps
        return circuit
    mu = _MP.sqrt(rounds) * (scale * real + _MP.sqrt(d)) / noise.scale
    curve = _MP.ncdf(mu / 2 - eps / mu) - _MP.exp(eps) * _MP.ncdf(-mu / 2 - eps / mu)
    discretisation = (1 + _MP.exp(eps)) * _MP.mpf("0.03") * _MP.sqrt(d * rounds) / _MP.mpf(noise.scale) ** 2
    return curve + circuit + discretisation


# -- calibration -----------------------------------------------------------------------------------------------------


@given(calibration=_CALIBRATIONS, budget=_BUDGETS)
@settings(max_examples=150, deadline=None)
def test_cost_never_exceeds_the_budget_and_uses_nearly_all_of_it(
    calibration: Calibration, budget: PrivacyBudget
) -> None:
    scale = _solved(calibration, budget)
    claimed = calibration.delta_terms(scale, epsilon=budget.epsilon).total
    exact = _delta_by_the_book(calibration, scale, budget.epsilon)
    assert exact <= budget.delta
    assert claimed <= budget.delta
    assert claimed == pytest.approx(float(exact), rel=1e-9)
    if calibration.distribution == "gaussian":
        assert claimed > 0.999 * budget.delta
    else:
        pure = calibration.rounds * calibration.integer_sensitivity(scale).bound / calibration.noise.scale
        assert 0.999 * budget.epsilon < pure <= budget.epsilon


@given(calibration=_CALIBRATIONS, budget=_BUDGETS)
@settings(max_examples=80, deadline=None)
def test_noise_that_is_1_3_times_too_small_fails_the_budget(calibration: Calibration, budget: PrivacyBudget) -> None:
    """A scale 1.3 times as large makes the noise, in real units, 1.3 times smaller."""
    scale = _solved(calibration, budget)
    promised = calibration.delta_terms(scale, epsilon=budget.epsilon).total
    too_little = calibration.delta_terms(1.3 * scale, epsilon=budget.epsilon).total
    assert too_little > (budget.delta if calibration.distribution == "gaussian" else max(100 * promised, 1e-4))


@given(calibration=_CALIBRATIONS, budget=_BUDGETS, factor=st.floats(1.01, 3))
@settings(max_examples=80, deadline=None)
def test_more_budget_never_needs_more_noise(calibration: Calibration, budget: PrivacyBudget, factor: float) -> None:
    scale = _solved(calibration, budget)
    assert _solved(calibration, PrivacyBudget(epsilon=budget.epsilon * factor, delta=budget.delta)) >= scale
    assert _solved(calibration, PrivacyBudget(epsilon=budget.epsilon, delta=budget.delta * factor)) >= scale


@given(budget=_BUDGETS, rounds=st.integers(1, 500), bound=st.floats(0.1, 100))
@settings(max_examples=40, deadline=None)
def test_more_rounds_and_more_sensitivity_need_more_noise(budget: PrivacyBudget, rounds: int, bound: float) -> None:
    def noise_scale(*, rounds: int, bound: float) -> float:
        calibration = Calibration(
            distribution="gaussian",
            noise=universal_noise("gaussian", "joint"),
            dimension=10,
            rounds=rounds,
            sensitivity=Sensitivity(norm=Norm.L2, bound=bound),
            bound=1.0,
        )
        return calibration.noise.scale / _solved(calibration, budget)

    base = noise_scale(rounds=rounds, bound=bound)
    # Rounding stays as it is while the permitted sensitivity halves, so a little more than twice the noise.
    assert 1.999 * base < noise_scale(rounds=4 * rounds, bound=bound) < 2.25 * base
    assert noise_scale(rounds=rounds, bound=2 * bound) == pytest.approx(2 * base, rel=1e-3)


def test_a_method_has_to_state_an_l2_sensitivity() -> None:
    with pytest.raises(ValueError, match="L2"):
        Calibration(
            distribution="laplace",
            noise=universal_noise("laplace", "joint"),
            dimension=3,
            rounds=1,
            sensitivity=Sensitivity(norm=Norm.L1, bound=1.0),
            bound=1.0,
        )


# -- the integer sensitivity is one ----------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    dimension=st.integers(1, 40),
    distribution=st.sampled_from(["gaussian", "laplace"]),
    halves=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_encoded_neighbours_differ_by_at_most_the_integer_sensitivity(
    seed: int, dimension: int, distribution: Any, halves: bool
) -> None:
    """Also for coordinates on the brink between two integers, where rounding moves both vectors apart."""
    rng = np.random.default_rng(seed)
    bound, length = 50.0, rng.uniform(1e-6, 3.0)
    calibration = Calibration(
        distribution=distribution,
        noise=universal_noise(distribution, "joint"),
        dimension=dimension,
        rounds=1,
        sensitivity=Sensitivity(norm=Norm.L2, bound=length),
        bound=bound,
    )
    plan = _plan()
    scale = rng.uniform(0.1, 1000)
    encoding = type(plan.encoding)(scale=scale, bound=bound)
    first = rng.uniform(-1, 1, dimension) * bound / math.sqrt(dimension)
    if halves:
        first = (np.floor(first * scale) + 0.5) / scale
    step = rng.normal(size=dimension)
    second = first + step / np.linalg.norm(step) * length * (1 - 1e-12)
    moved = (encoding.encode(first) - encoding.encode(second)).astype(np.float64)
    order = 2 if distribution == "gaussian" else 1
    assert np.linalg.norm(moved, order) <= calibration.integer_sensitivity(scale).bound


def test_the_rounding_term_is_needed() -> None:
    """Two vectors 10^-9 apart can differ by one unit in every coordinate after rounding: sqrt(d) in all."""
    plan = _plan()
    brink = np.full(9, 0.5) / plan.encoding.scale
    moved = plan.encoding.encode(brink + 1e-9) - plan.encoding.encode(brink - 1e-9)
    assert np.linalg.norm(moved.astype(np.float64)) == math.sqrt(9)


# -- plans of tasks --------------------------------------------------------------------------------------------------


def test_the_sample_tasks_plan() -> None:
    plan = _plan()
    assert (plan.dimension, plan.rounds, plan.noise_copies, plan.party_count) == (5, 1, 1, 3)
    assert plan.sensitivity.bound == pytest.approx(2 / 0.01, rel=1e-3)  # 2 G / lambda
    assert plan.sensitivity.relation is Relation.REPLACE_ONE
    assert plan.noise_scale == 2**20 / plan.encoding.scale
    assert plan.cost.epsilon == 1.0
    assert 0.999e-6 < plan.cost.delta <= 1e-6
    assert plan.cost.delta == plan.delta_terms.total
    # sigma for epsilon = 1, delta = 1e-6 is 4.2247 times the sensitivity (Balle & Wang).
    assert plan.noise_scale / plan.sensitivity.bound == pytest.approx(4.2247, rel=1e-3)


def test_noise_of_a_plan_is_tight_in_one_dimension() -> None:
    """The exact law of the exact discrete Gaussian at sigma* = 2^20, shifted by the plan's whole integer sensitivity.

    Its smallest delta is just below the plan's; at a 1.3 times smaller scale it is far above.
    """
    plan = _plan()
    shift = math.floor(plan.integer_sensitivity.bound)

    def delta(sigma: float) -> float:
        # log(P(y) / P(y - shift)) is linear in y: the worst set is a half-line, and delta two tails.
        y = np.arange(-10 * 2**20, 10 * 2**20) + 0.5
        law = np.exp(-((y / sigma) ** 2) / 2)
        law /= law.sum()
        excess = law[: law.size - shift] - math.e * law[shift:]
        return float(excess[excess > 0].sum())

    assert 0.999 * plan.cost.delta < delta(2.0**20) <= plan.cost.delta
    assert delta(2.0**20 / 1.3) > 20 * plan.cost.delta


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_per_party_noise_costs_the_same_and_is_k_copies(mechanism: str) -> None:
    joint = _plan(privacy={"mechanism": mechanism})
    each = _plan(privacy={"mechanism": mechanism, "noise": "per-party"})
    assert (joint.noise_copies, each.noise_copies) == (1, 3)
    assert each.noise.scale == 2**32
    # One honest party's copy has to do alone what the joint copy does.
    assert each.noise_scale == pytest.approx(joint.noise_scale, rel=1e-3)
    assert each.noise_deviation == pytest.approx(math.sqrt(3) * joint.noise_deviation, rel=1e-3)
    assert (joint.decode_offset, each.decode_offset) == (0.5, 1.5)


def test_laplace_pays_its_epsilon_and_the_samplers_delta_only() -> None:
    plan = _plan(privacy={"mechanism": "laplace"})
    assert plan.integer_sensitivity.norm is Norm.L1
    assert plan.delta_terms.mechanism == plan.delta_terms.discretisation == 0
    assert 0 < plan.cost.delta < 1e-15
    assert plan.noise_scale == pytest.approx(math.sqrt(5) * plan.sensitivity.bound, rel=1e-3)
    assert plan.noise_deviation == pytest.approx(math.sqrt(2) * plan.noise_scale)


@pytest.mark.parametrize("noise", ["joint", "per-party"])
def test_the_cost_as_one_gaussian_gives_the_cost_of_the_plan(noise: str) -> None:
    plan = _plan(privacy={"noise": noise})
    gaussian = plan.gaussian_cost
    assert gaussian is not None
    curve = gaussian_delta(epsilon=plan.cost.epsilon, mu=math.sqrt(gaussian.mu_squared))
    assert curve == pytest.approx(plan.delta_terms.mechanism, rel=1e-9)
    sampler = plan.delta_terms.circuit + plan.delta_terms.discretisation
    assert (1 + math.exp(plan.cost.epsilon)) * gaussian.distance == pytest.approx(sampler, rel=1e-9)


def test_only_one_exact_gaussian_is_composed_as_one() -> None:
    assert _plan(privacy={"mechanism": "laplace", "epsilon": 4.0}).gaussian_cost is None
    rounds = _gradient_plan()
    assert rounds.gaussian_cost is not None
    assert rounds.gaussian_cost.mu_squared == pytest.approx(
        rounds.rounds * (rounds.integer_sensitivity.bound / rounds.noise.scale) ** 2
    )
    assert _gradient_plan(sampling_rate=0.1).gaussian_cost is None


def _gradient_plan(**method: float) -> Plan:
    content = copy.deepcopy(_SAMPLE)
    del content["model"]["certificate"]
    content["method"] = {"kind": "gradient-perturbation", "rounds": 5, **method}
    return make_plan(Task.model_validate(content))


def test_decoding_undoes_encoding_and_the_noises_half() -> None:
    plan = _plan(privacy={"noise": "per-party"})
    x: NDArray[np.float64] = np.array([1.5, -2.0, 0.0, 3e3, -1e5])
    noise = np.array([7.5, -8.5, 1.5, -0.5, 2.5])  # three copies on Z + 1/2 add up to a number on Z + 1/2
    released = plan.encoding.encode(x) + (noise - 1.5).astype(np.int64)
    error = plan.decode(released) - x - noise / plan.encoding.scale
    assert np.abs(error).max() <= 0.5 / plan.encoding.scale * (1 + 1e-9)


def test_nothing_can_leave_the_headroom() -> None:
    """Every owner at its bound in one coordinate, every noise copy at its largest: within 2^62, by headroom_bits."""
    plan = _plan(privacy={"noise": "per-party"})
    method = Task.model_validate(_SAMPLE).method()
    total = plan.noise_copies * plan.noise.largest
    for count in plan.record_counts:
        total += int(plan.encoding.encode(np.array([method.contribution_bound(count)]))[0])
    assert total <= 2.0 ** (62 - plan.headroom_bits) < 2.0**62
    assert total > 0.99 * 2.0 ** (62 - plan.headroom_bits)


def test_the_same_task_gives_the_same_plan() -> None:
    assert _plan() == _plan()
    assert _plan().digest == _plan().digest


@pytest.mark.parametrize(
    "sections",
    [
        {"privacy": {"epsilon": 2.0}},
        {"privacy": {"delta": 1e-7}},
        {"privacy": {"mechanism": "laplace"}},
        {"privacy": {"noise": "per-party"}},
        {"session": {"minimum_owners": 3}},
        {"task": {"name": "another"}},
    ],
)
def test_another_task_gives_another_digest(sections: dict[str, Any]) -> None:
    assert _plan(**sections).digest != _plan().digest


def test_constants_are_short_so_that_all_machines_agree() -> None:
    plan = _plan()
    for value in (plan.encoding.scale, plan.encoding.bound):
        assert math.ldexp(math.frexp(value)[0], 24).is_integer()


# -- refusals --------------------------------------------------------------------------------------------------------


def test_rounding_that_eats_the_budget_is_refused_and_the_cure_works() -> None:
    features = [{"name": f"x{number}", "lower": 0, "upper": 1} for number in range(3000)]
    privacy = {"mechanism": "laplace", "epsilon": 0.01}
    with pytest.raises(PlanError, match=r"rounding 3001 coordinates .* at most 1048 coordinates") as refusal:
        _plan(schema={"features": features}, privacy=privacy)
    _plan(schema={"features": features[:1047]}, privacy=privacy)
    epsilon = float(str(refusal.value).split("epsilon >= ")[1].split(",")[0])
    _plan(schema={"features": features}, privacy=privacy | {"epsilon": epsilon})
    _plan(schema={"features": features}, privacy=privacy | {"noise": "per-party"})


def test_gaussian_rounding_is_refused_and_the_cure_works() -> None:
    features = [{"name": "x", "categories": [f"c{number}" for number in range(200_000)]}]
    owners = [{"name": f"owner-{number}", "record_count": 200} for number in range(3)]  # few: training has to end
    privacy = {"epsilon": 0.002, "delta": 1e-6}
    with pytest.raises(PlanError, match="rounding 200001 coordinates") as refusal:
        _plan(schema={"features": features}, owners=owners, privacy=privacy)
    epsilon = float(str(refusal.value).split("epsilon >= ")[1].split(",")[0])
    assert 0.002 < epsilon < 0.02
    _plan(schema={"features": features}, owners=owners, privacy=privacy | {"epsilon": epsilon})


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_a_delta_used_up_by_the_sampler_is_refused_and_the_cure_works(mechanism: str) -> None:
    with pytest.raises(PlanError, match=r"privacy\.delta: the sampler's own error costs") as refusal:
        _plan(privacy={"mechanism": mechanism, "epsilon": 40.0})
    epsilon = float(str(refusal.value).split("epsilon <= ")[1].split(",")[0])
    assert epsilon > 10
    _plan(privacy={"mechanism": mechanism, "epsilon": epsilon})
    with pytest.raises(PlanError, match="the sampler's own error"):
        _plan(privacy={"mechanism": mechanism, "epsilon": 1.1 * epsilon})


def test_a_delta_below_the_samplers_is_refused_and_the_cures_work() -> None:
    with pytest.raises(PlanError, match="ask for delta >= ") as refusal:
        _plan(privacy={"delta": 1e-14})
    assert "epsilon <=" not in str(refusal.value)  # no epsilon would do
    _plan(privacy={"delta": float(str(refusal.value).split("delta >= ")[1].split(",")[0])})
    _plan(privacy={"delta": 1e-14, "noise": "per-party"})
    with pytest.raises(PlanError, match="sampler's own error"):
        _plan(privacy={"delta": 5e-324})


def test_missing_headroom_is_refused() -> None:
    owners = [{"name": f"owner-{number}", "record_count": 2**20} for number in range(3000)]
    model = {"regularization": 10.0, "certificate": 1e-11}
    _plan(owners=owners, model=model, privacy={"noise": "joint", "epsilon": 10.0})
    with pytest.raises(PlanError, match=r"could reach 2\^63\.4 .* privacy\.noise = \"joint\""):
        _plan(owners=owners, model=model, privacy={"noise": "per-party", "epsilon": 10.0})


def test_a_contribution_check_needs_room_in_the_ring() -> None:
    """A noised sum may fill 62 digits; a vector that is checked, seven eighths of 61 digits' range."""
    document = copy.deepcopy(_SAMPLE)
    document["session"]["contribution_check"] = True
    task = Task.model_validate(document)
    assert _check(task, 2.0**60, [1.5], dimension=4) is not None
    with pytest.raises(PlanError, match=r"session.contribution_check: .* could be 2\^60\.9 long.* fewer records"):
        _check(task, 2.0**60, [1.9], dimension=4)


def test_a_contribution_check_is_agreed_on_and_told() -> None:
    plain, checked = _plan(), _plan(session={"contribution_check": True})
    assert plain.accepted_norms == ()
    assert plain.contribution_check is None
    assert checked.contribution_check is not None
    assert replace(checked, task_digest=plain.task_digest).digest != plain.digest
    finer = replace(checked.contribution_check, thresholds=tuple(q - 1 for q in checked.contribution_check.thresholds))
    assert replace(checked, contribution_check=finer).digest != checked.digest
    assert "no contribution in a release is longer than" in checked.describe()
    assert "always does" in checked.statement()
    assert "always does" not in plain.statement()
    assert json.loads(json.dumps(checked.to_json()))["accepted_norms"] == list(checked.accepted_norms)


def test_numbers_out_of_double_precision_are_a_plan_error() -> None:
    with pytest.raises(PlanError, match="regularization"):
        _plan(model={"regularization": 1e-300})


# -- in words --------------------------------------------------------------------------------------------------------


def test_a_delta_above_one_over_n_is_warned_about() -> None:
    assert _plan().warnings() == ()
    plan = _plan(privacy={"delta": 1e-4})
    assert "one over the 26200 records" in plan.warnings()[0]
    assert plan.warnings()[0] in plan.describe()
    assert plan.to_json()["warnings"] == list(plan.warnings())


def test_noise_that_drowns_everything_is_warned_about() -> None:
    """For a usual budget nothing is said; a thousandth of its epsilon gives a useless model."""
    gradient = {"kind": "gradient-perturbation"}
    model = {"kind": "logistic-regression", "regularization": 0.01, "certificate": None}
    usual = _plan(method=gradient, model=model, privacy={"noise": "per-party"})
    assert usual.warnings() == ()
    assert usual.noise_share < 0.05
    poor = _plan(method=gradient, model=model, privacy={"noise": "per-party", "epsilon": 0.001})
    assert poor.noise_share > 100 * usual.noise_share
    assert "hardly be better than guessing" in poor.warnings()[0]
    assert poor.warnings()[0] in poor.describe()


def test_statement_says_what_is_promised_and_assumed() -> None:
    joint = _plan().statement()
    for part in (
        "epsilon = 1 and delta = 1e-06",
        "one record of one owner is replaced",
        "records, not persons",
        "any 2 of the 3 compute parties",
        "any other owners",
        "semi-honest",
        "dealer colludes with nobody",
        "every owner's record count",
    ):
        assert part in joint
    each = _plan(privacy={"noise": "per-party"}).statement()
    assert "noise of one compute party alone" in each
    assert "dealer colludes" not in each


def test_json_is_complete_and_plain() -> None:
    plan = _plan()
    document = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert document["epsilon"] == plan.cost.epsilon
    assert document["delta"] == plan.cost.delta
    assert sum(document["delta_terms"].values()) == pytest.approx(plan.cost.delta)
    assert document["encoding"] == {"scale": plan.encoding.scale, "bound": plan.encoding.bound}
    assert document["sensitivity"]["norm"] == "L2"
    assert document["task_digest"] == plan.task_digest.hex()


def test_planning_loads_nothing_heavy() -> None:
    code = (
        "import sys, mpcdp.plan\n"
        "heavy = {'torch', 'crypten', 'sklearn', 'matplotlib', 'pyarrow', 'pandas', 'scipy', 'grpc'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
