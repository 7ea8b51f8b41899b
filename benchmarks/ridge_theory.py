"""The Gaussian score where all of it can be computed: ridge regression on ±1 labels.

    python benchmarks/ridge_theory.py docs/theory-ridge.svg      # the figure of docs/theory-ridge.md

Scores are the product's (`engine.lab.audits.gaussian.gaussian_scores`) of a linear model in
float64; leave-one-out quantities and laws are closed forms, derived in docs/theory-ridge.md and
tested in tests/test_ridge_theory.py.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

EPS = 0.31  # noise_std


@dataclass(frozen=True)
class Problem:
    """Clean inputs [n, d], noise [n, d] (0 in the rows that are not `poisoned`), labels ±1 [n]."""

    clean: np.ndarray
    noise: np.ndarray
    labels: np.ndarray
    poisoned: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        return self.clean + self.noise


def noise_only(rng: np.random.Generator, n: int, d: int) -> Problem:
    """Every row is noise and nothing else: all that is fitted is memorised."""
    labels = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    noise = EPS * rng.normal(size=(n, d))
    return Problem(np.zeros((n, d)), noise, labels, np.ones(n, bool))


def with_signal(rng: np.random.Generator, n: int, d: int, poisoned: int) -> Problem:
    """Labels follow a direction of the clean inputs, one in ten of them wrong."""
    clean = rng.normal(size=(n, d)) / math.sqrt(d)
    labels = np.where(clean @ rng.normal(size=d) > 0, 1.0, -1.0)
    labels *= np.where(rng.random(n) < 0.1, -1.0, 1.0)
    noise = EPS * rng.normal(size=(n, d))
    chosen = np.arange(n) < poisoned
    return Problem(clean, np.where(chosen[:, None], noise, 0.0), labels, chosen)


def ridge(inputs: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """argmin Σ (y - θᵀx)² + penalty ‖θ‖²; with penalty 0 the shortest of the minimisers."""
    if penalty == 0:
        return np.linalg.lstsq(inputs, labels, rcond=None)[0]
    gram = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ labels)


def scores(theta: np.ndarray, clean: np.ndarray, labels: np.ndarray, noise: np.ndarray) -> Any:
    """What the audit says of the model x -> sign(θᵀx): float64 [rows]."""
    import torch

    from engine.lab.audits.gaussian import gaussian_scores
    from engine.lab.views import Poison, Rows, TrainingSet

    weight = torch.from_numpy(np.stack([np.zeros_like(theta), theta]))
    model = torch.nn.Linear(len(theta), 2, bias=False, dtype=torch.float64)
    model.weight.data = weight
    # Floats are taken as they are, so the audit computes in float64 here.
    data = TrainingSet(torch.from_numpy(clean), torch.from_numpy((labels > 0).astype(np.int64)))
    rows = torch.arange(len(clean))
    poison = Poison(rows, data.pixels, data.labels, {"noise": torch.from_numpy(noise)})
    poison.facts["noise_std"] = EPS
    subject: Any = SimpleNamespace(model=model, base=Rows(data, rows), poison=poison)
    return gaussian_scores(subject)[0].numpy()


def audited(problem: Problem, theta: np.ndarray) -> np.ndarray:
    chosen = problem.poisoned
    found: np.ndarray = scores(
        theta, problem.clean[chosen], problem.labels[chosen], problem.noise[chosen]
    )
    return found


# --- closed forms --------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeftOut:
    """Of each row, all [n] but `theta` [n, d]: what the model trained without it would have been.

    leverage  hᵢ = x'ᵢᵀ A⁻¹ x'ᵢ, the weight of the row's label in its own fit
    theta     the coefficients without row i
    shortfall 1 - yᵢ θ₋ᵢᵀx'ᵢ: how far the others leave the row from its label
    overlap   ξᵢᵀ A₋ᵢ⁻¹ x'ᵢ / (1 + x'ᵢᵀ A₋ᵢ⁻¹ x'ᵢ): how far fitting the row moves θ along its noise
    """

    leverage: np.ndarray
    theta: np.ndarray
    shortfall: np.ndarray
    overlap: np.ndarray


def left_out(problem: Problem, penalty: float) -> LeftOut:
    """By Sherman and Morrison's formula from one solve. Needs penalty > 0, or more rows than
    columns."""
    inputs, labels = problem.inputs, problem.labels
    gram = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    moved = np.linalg.solve(gram, inputs.T).T  # A⁻¹ x'ᵢ
    theta = moved.T @ labels
    leverage = (inputs * moved).sum(1)
    residual = labels - inputs @ theta
    without = theta - moved * (residual / (1 - leverage))[:, None]
    return LeftOut(
        leverage,
        without,
        labels * residual / (1 - leverage),
        (problem.noise * moved).sum(1),
    )


def memorised(problem: Problem, penalty: float) -> np.ndarray:
    """The part of each poisoned row's score that training on it added."""
    chosen, found = problem.poisoned, left_out(problem, penalty)
    theta = ridge(problem.inputs, problem.labels, penalty)
    scale = EPS * float(np.linalg.norm(theta))
    part: np.ndarray = found.shortfall[chosen] * found.overlap[chosen] / scale
    return part


def mean_from_spectrum(problem: Problem, penalty: float) -> float:
    """Mean score of a noise-only problem: Σ u²σ²/(σ²+λ) / (n ε √(Σ u²σ²/(σ²+λ)²)), u = Uᵀy."""
    left, sigma, _ = np.linalg.svd(problem.noise, full_matrices=False)
    weight = (left.T @ problem.labels) ** 2 * sigma**2 / (sigma**2 + penalty)
    length = math.sqrt(float((weight / (sigma**2 + penalty)).sum()))
    return float(weight.sum()) / (len(problem.labels) * EPS * length)


def limit(ratio: float, strength: float) -> tuple[float, float]:
    """Mean score and mean leverage of noise-only ridge for n, d → ∞ with d/n → `ratio` and
    λ/(n ε²) → `strength`, by Marchenko and Pastur's law; 0 < strength."""
    g, k = ratio, strength
    t = 1 - g + k
    root = math.sqrt(t * t + 4 * g * k)
    both = root + t if t > 0 else 4 * g * k / (root - t)  # no cancellation on either side of d = n
    m = 2 / both
    slope = -2 * (1 + (t + 2 * g) / root) / both**2
    leverage = g * (1 - k * m)
    return leverage / math.sqrt(g * (m + k * slope)), leverage


# --- the figure ----------------------------------------------------------------------------------

STRENGTHS = {0.001: "λ = .001 nε²", 0.1: "λ = .1 nε²", 1.0: "λ = nε²", 1e6: "λ → ∞: √(d/n)"}
POISONED = 200


def draw(path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from engine.results.figures import DASHES, MARKERS, PALETTE, STYLE, write

    rng = np.random.default_rng(0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        ratios = np.geomspace(0.05, 8, 161)
        n = 200
        for number, (strength, label) in enumerate(STRENGTHS.items()):
            colour = PALETTE[number]
            theory = [limit(ratio, strength)[0] for ratio in ratios]
            left.plot(
                ratios, theory, color=colour, dashes=DASHES[number] or (None, None), label=label
            )
            for ratio in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0):
                problem = noise_only(rng, n, round(ratio * n))
                theta = ridge(problem.inputs, problem.labels, strength * n * EPS**2)
                mean = audited(problem, theta).mean()
                left.plot([ratio], [mean], MARKERS[number], color=colour)
        left.set_xscale("log")
        left.set_yscale("log")
        left.set_xlabel("input dimension / rows")
        left.set_ylabel("mean score")
        left.set_title("noise only: points n = 200, curves the limit", loc="left")
        left.legend(loc="upper left")

        for number, d in enumerate((50, 200, 800)):
            points = []
            for n in (400, 1000, 3000):
                for penalty in (0.3, 3.0, 30.0, 300.0):
                    problem = with_signal(rng, n, d, POISONED)
                    theta = ridge(problem.inputs, problem.labels, penalty)
                    points.append(
                        (memorised(problem, penalty).mean(), audited(problem, theta).mean())
                    )
            x, y = zip(*points, strict=True)
            right.plot(x, y, MARKERS[number], color=PALETTE[number], label=f"d = {d}")
        ends = np.array(right.get_xlim())
        right.plot(ends, ends, color="#000000", linewidth=0.8)
        band = 1.96 / math.sqrt(POISONED)
        right.fill_between(ends, ends - band, ends + band, color="#009E73", alpha=0.15, linewidth=0)
        right.set_xlabel("mean of what training on the row added")
        right.set_ylabel("mean score of 200 rows")
        right.set_title("with signal: the rest is N(0, 1/200), 95 % shaded", loc="left")
        right.legend(loc="upper left")
        write(figure, path)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
