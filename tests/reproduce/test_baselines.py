"""The baselines' noise: how much, of which law, and what it really guarantees."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gamma, kstest, laplace

from mpcdp.privacy.accountant import gaussian_delta
from mpcdp.reproduce.baselines import (
    GRADIENT_METHODS,
    OUTPUT_METHODS,
    Calibration,
    LocalGradient,
    LocalObjective,
    LocalOutput,
    Noise,
    PaperGradient,
    PaperOutput,
    Pathak,
    RajkumarAgarwal,
    Setting,
)

PAPER = Setting(owners=1000, record_count=50_000, smallest_count=50, dimension=122, epsilon=0.5, delta=1e-3)
"""The setting of Figures 1 and 2."""


def test_output_noise_is_that_of_the_theorems() -> None:
    assert Pathak().noise(PAPER, Calibration.PAPER).scale == pytest.approx(2 / (50 * 1e-3 * 0.5))
    assert PaperOutput().noise(PAPER, Calibration.PAPER).scale == pytest.approx(2 / (50_000 * 1e-3 * 0.5))
    for calibration in Calibration:
        paper, pathak, local = (
            method.noise(PAPER, calibration).deviation(122) for method in (PaperOutput(), Pathak(), LocalOutput())
        )
        assert pathak / paper == pytest.approx(1000)
        assert local / paper == pytest.approx(math.sqrt(1000))


def test_laplace_coordinates_keep_only_the_root_of_d_times_epsilon() -> None:
    for method in OUTPUT_METHODS:
        paper, valid = (method.guarantee(PAPER, calibration) for calibration in Calibration)
        assert not paper.kept
        assert paper.epsilon == pytest.approx(5.52, abs=0.005)
        assert "delta is at least 0.051" in paper.note
        assert valid.kept
        assert (valid.epsilon, valid.delta) == (0.5, 0.0)


def test_vectors_have_gamma_lengths_and_coordinates_laplace_values() -> None:
    rng = np.random.default_rng(0)
    vectors = Noise("laplace-vector", 0.3).vectors(rng, (4000, 5))
    assert kstest(np.linalg.norm(vectors, axis=1), gamma(5, scale=0.3).cdf).pvalue > 1e-3
    assert np.abs((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)).max() < 0.05
    numbers = Noise("laplace-coordinates", 0.3).vectors(rng, (4000, 5))
    assert kstest(numbers.ravel(), laplace(scale=0.3).cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["laplace-vector", "laplace-coordinates", "gaussian"])
@pytest.mark.parametrize("copies", [1, 9])
def test_the_stated_deviation_is_that_of_samples(kind: str, copies: int) -> None:
    noise = Noise(kind, 0.7, copies)  # type: ignore[arg-type]
    samples = noise.sample(np.random.default_rng(1), 8000, 3)
    assert samples.shape == (8000, 3)
    assert math.sqrt(np.mean(samples**2)) == pytest.approx(noise.deviation(3), rel=0.03)


def test_gradient_noise_is_theorem_3_4_or_the_exact_curve() -> None:
    method = PaperGradient()
    paper, valid = (method.noise(PAPER, calibration).scale for calibration in Calibration)
    assert paper**2 == pytest.approx(8 * 1500 * math.log(1000) / (50_000 * 0.5) ** 2)
    assert paper / valid == pytest.approx(1.61, abs=0.005)
    mu = math.sqrt(1500) * 2 / (50_000 * valid)
    assert gaussian_delta(epsilon=0.5, mu=mu) == pytest.approx(1e-3, rel=1e-6)
    assert LocalGradient().noise(PAPER, Calibration.VALID).deviation(122) == pytest.approx(math.sqrt(1000) * valid)


def test_theorem_3_4_holds_at_small_epsilon_only() -> None:
    for method in GRADIENT_METHODS:
        assert method.guarantee(PAPER, Calibration.PAPER).kept
        assert not method.guarantee(replace(PAPER, epsilon=10.0), Calibration.PAPER).kept
        assert method.guarantee(replace(PAPER, epsilon=10.0), Calibration.VALID).kept


@pytest.mark.parametrize(("records", "epsilon"), [(50, 0.5), (500, 2.0), (1, 0.01), (50_000, 0.1)])
def test_local_objectives_spend_exactly_epsilon(records: int, epsilon: float) -> None:
    """Chaudhuri et al. 2011, Theorem 9: epsilon is that of the linear term and of the Jacobian's ratio together."""
    setting = replace(PAPER, smallest_count=records, epsilon=epsilon)
    terms = LocalObjective().terms(setting, Calibration.VALID)
    assert not terms.shared
    assert terms.extra_regularization >= 0
    regularization = setting.regularization + terms.extra_regularization
    jacobian = 2 * math.log(1 + setting.curvature / (records * regularization))
    of_linear_term = 2 / (terms.linear.scale * records)
    spent = jacobian + of_linear_term
    assert spent == pytest.approx(epsilon) if terms.extra_regularization == 0 else spent <= epsilon * (1 + 1e-12)


def test_the_papers_local_objective_is_its_codes() -> None:
    terms = LocalObjective().terms(PAPER, Calibration.PAPER)
    assert terms.shared
    assert terms.extra_regularization == pytest.approx(0.25 / (50 * math.expm1(0.125)) - 1e-3)
    assert terms.linear.scale * 50 == pytest.approx(2 / 0.25)
    assert LocalObjective().guarantee(PAPER, Calibration.PAPER).epsilon == math.inf


def test_rajkumar_and_agarwals_rounds_add_up() -> None:
    method = RajkumarAgarwal()
    guarantee = method.guarantee(PAPER)
    assert not guarantee.kept
    assert guarantee.epsilon == pytest.approx(1500 * 5.52, rel=1e-3)
    assert method.noise(PAPER).scale == pytest.approx(2 / (50_000 * 0.5))
    linear, extra = method.tilt(PAPER, np.random.default_rng(0), 400)
    assert linear.std() == pytest.approx(2 * math.sqrt(2 * math.log(1250)) / 0.25 / 50_000, rel=0.02)
    assert 0 < extra < 1e-6
