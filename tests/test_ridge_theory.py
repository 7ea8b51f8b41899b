"""The Gaussian score of ridge regression: exact identities, exact laws, and the limit.

Every score is the product's, of a linear model in float64. Derivations: docs/theory-ridge.md.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, chi2, kstest

from benchmarks import ridge_theory as theory
from benchmarks.ridge_theory import EPS, Problem

SIZES = [(40, 10), (40, 40), (30, 90)]
PENALTIES = [0.1, 3.0]
ALPHA = 1e-3  # of tests whose draws are fixed: they must pass, not wobble


def signal(n: int, d: int) -> Problem:
    return theory.with_signal(np.random.default_rng([1, n, d]), n, d, n // 2)


def noise(n: int, d: int, seed: int = 0) -> Problem:
    return theory.noise_only(np.random.default_rng([2, n, d, seed]), n, d)


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_score_of_a_linear_model(n: int, d: int) -> None:
    """s = y ⟨θ, ξ⟩ / (ε ‖θ‖)."""
    problem, theta = signal(n, d), np.random.default_rng(3).normal(size=d)
    rows = problem.poisoned
    expected = problem.labels[rows] * (problem.noise[rows] @ theta) / (EPS * np.linalg.norm(theta))
    np.testing.assert_allclose(theory.audited(problem, theta), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_a_score_is_an_independent_part_and_what_training_on_the_row_added(
    n: int, d: int, penalty: float
) -> None:
    """ε‖θ‖ sᵢ = yᵢ⟨θ₋ᵢ, ξᵢ⟩ + (1 - yᵢθ₋ᵢᵀx'ᵢ) · ξᵢᵀA₋ᵢ⁻¹x'ᵢ / (1 + x'ᵢᵀA₋ᵢ⁻¹x'ᵢ), with θ₋ᵢ and A₋ᵢ
    from a fit without the row."""
    problem = signal(n, d)
    theta = theory.ridge(problem.inputs, problem.labels, penalty)
    found = theory.audited(problem, theta)
    added = theory.memorised(problem, penalty)
    quick = theory.left_out(problem, penalty)
    for place, row in enumerate(np.flatnonzero(problem.poisoned)):
        others = np.arange(n) != row
        inputs, own, xi = problem.inputs[others], problem.inputs[row], problem.noise[row]
        label = problem.labels[row]
        without = theory.ridge(inputs, problem.labels[others], penalty)
        inverse = np.linalg.inv(inputs.T @ inputs + penalty * np.eye(d))
        shortfall = 1 - label * without @ own
        overlap = xi @ inverse @ own / (1 + own @ inverse @ own)
        scale = EPS * np.linalg.norm(theta)
        assert found[place] * scale == pytest.approx(
            label * without @ xi + shortfall * overlap, abs=1e-9
        )
        assert added[place] * scale == pytest.approx(shortfall * overlap, abs=1e-9)
        np.testing.assert_allclose(quick.theta[row], without, atol=1e-8)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_of_pure_noise_the_overlap_is_the_leverage(n: int, d: int, penalty: float) -> None:
    found = theory.left_out(noise(n, d), penalty)
    np.testing.assert_allclose(found.overlap, found.leverage, rtol=1e-9)
    assert found.leverage.sum() == pytest.approx(effective(n, d, penalty))


def effective(n: int, d: int, penalty: float) -> float:
    """tr H: Σ σ²/(σ² + λ)."""
    sigma = np.linalg.svd(noise(n, d).noise, compute_uv=False)
    return float((sigma**2 / (sigma**2 + penalty)).sum())


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_residuals_weigh_scores_to_the_penalty(n: int, d: int, penalty: float) -> None:
    """Σ rᵢ x'ᵢ = λ θ, so Σ rᵢ yᵢ sᵢ ε‖θ‖ = λ‖θ‖² - Σ rᵢ θᵀ(x'ᵢ - ξᵢ): without penalty and signal,
    scores weighted by residuals cancel."""
    problem = theory.with_signal(np.random.default_rng([4, n, d]), n, d, n)
    theta = theory.ridge(problem.inputs, problem.labels, penalty)
    residual = problem.labels - problem.inputs @ theta
    norm = float(np.linalg.norm(theta))
    weighed = float((residual * problem.labels * theory.audited(problem, theta)).sum()) * EPS * norm
    expected = penalty * norm**2 - float(residual @ (problem.clean @ theta))
    assert weighed == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_mean_of_pure_noise_from_its_spectrum(n: int, d: int, penalty: float) -> None:
    problem = noise(n, d)
    theta = theory.ridge(problem.inputs, problem.labels, penalty)
    mean = theory.audited(problem, theta).mean()
    assert mean == pytest.approx(theory.mean_from_spectrum(problem, penalty), rel=1e-10)


def test_interpolation_gives_every_row_the_same_score() -> None:
    """θᵀξᵢ = yᵢ, so s = 1/(ε‖θ‖) in every row: all mean, no spread (the std gate would see it)."""
    problem = noise(30, 90)
    theta = theory.ridge(problem.inputs, problem.labels, 0.0)
    found = theory.audited(problem, theta)
    np.testing.assert_allclose(found, 1 / (EPS * np.linalg.norm(theta)), rtol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(20, 8), (20, 50)])
def test_exact_laws_of_the_mean(n: int, d: int) -> None:
    """n M² is χ²_d for λ → ∞; at λ = 0 it is χ²_{d-n+1} for d ≥ n, and B χ²_{n-d+1} for d < n with
    an independent B ~ Beta(d/2, (n-d)/2)."""
    weak, strong = [], []
    for seed in range(600):
        problem = noise(n, d, seed)
        for penalty, found in ((0.0, weak), (1e9, strong)):
            theta = theory.ridge(problem.inputs, problem.labels, penalty)
            found.append(n * theory.audited(problem, theta).mean() ** 2)
    assert kstest(strong, chi2(d).cdf).pvalue > ALPHA
    if d >= n:
        assert kstest(weak, chi2(d - n + 1).cdf).pvalue > ALPHA
        return
    nodes, weights = np.polynomial.legendre.leggauss(200)
    shares = beta(d / 2, (n - d) / 2).ppf((nodes + 1) / 2)

    def law(x: np.ndarray) -> np.ndarray:
        return (chi2(n - d + 1).cdf(np.asarray(x)[:, None] / shares) * weights / 2).sum(1)

    assert kstest(weak, law).pvalue > ALPHA


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_large_problems_come_to_the_limit(ratio: float, strength: float) -> None:
    n = 300
    problem = noise(n, round(ratio * n))
    penalty = strength * n * EPS**2
    mean, leverage = theory.limit(ratio, strength)
    theta = theory.ridge(problem.inputs, problem.labels, penalty)
    wobble = 4 / math.sqrt(2 * problem.noise.shape[1])  # of √χ²_d
    assert theory.audited(problem, theta).mean() == pytest.approx(mean, rel=wobble)
    assert theory.left_out(problem, penalty).leverage.mean() == pytest.approx(leverage, rel=0.02)
    # Over random labels every direction weighs the same: u² is 1 on average.
    sigma = np.linalg.svd(problem.noise, compute_uv=False)
    fitted = sigma**2 / (sigma**2 + penalty)
    length = math.sqrt(float((fitted / (sigma**2 + penalty)).sum()))
    assert float(fitted.sum()) / (n * EPS * length) == pytest.approx(mean, rel=0.02)


def test_the_limit_has_its_known_ends() -> None:
    for ratio in (0.2, 0.5, 2.0, 5.0):
        assert theory.limit(ratio, 1e5)[0] == pytest.approx(math.sqrt(ratio), rel=1e-3)
        weak, leverage = theory.limit(ratio, 1e-5)
        exact = math.sqrt(ratio * (1 - ratio)) if ratio < 1 else math.sqrt(ratio - 1)
        assert weak == pytest.approx(exact, rel=1e-3)
        assert leverage == pytest.approx(min(1.0, ratio), rel=1e-3)


def test_a_model_that_never_saw_the_noise_scores_normal() -> None:
    """The independent part alone: leave-one-out models, each scored on its own row."""
    problem = theory.with_signal(np.random.default_rng(5), 600, 60, 300)
    models = theory.left_out(problem, 1.0).theta[problem.poisoned]
    rows = np.flatnonzero(problem.poisoned)
    found = [
        theory.scores(theta, problem.clean[[r]], problem.labels[[r]], problem.noise[[r]])[0]
        for theta, r in zip(models, rows, strict=True)
    ]
    assert kstest(found, "norm").pvalue > ALPHA
    retrained = theory.ridge(problem.clean[300:], problem.labels[300:], 1.0)
    assert kstest(theory.audited(problem, retrained), "norm").pvalue > ALPHA


def test_the_mean_score_is_what_training_added_up_to_noise() -> None:
    for n, d, penalty in ((600, 40, 1.0), (600, 300, 1.0), (1500, 300, 30.0)):
        problem = theory.with_signal(np.random.default_rng([6, n, d]), n, d, 400)
        theta = theory.ridge(problem.inputs, problem.labels, penalty)
        gap = theory.audited(problem, theta).mean() - theory.memorised(problem, penalty).mean()
        assert abs(gap) < 4 / math.sqrt(400)
