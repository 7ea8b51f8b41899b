"""The rule of `engine.results.power`, for arrays of draws, says what `judge` says, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from engine.results.evidence import Candidate, Trial
from engine.results.power import WORDS, Outlook, Sample, judged
from engine.results.verdict import Verdict, judge
from engine.spec.component import Metric

DRAWS = 300


@dataclass
class Case:
    outlook: Outlook
    seeds: int
    spread: float  # of the method's own values, in units of retraining's


def random_case(chance: np.random.Generator, null: str, accuracy: bool) -> Case:
    """Near the thresholds of every word: effects of a few margins, spreads of a few tenths."""
    margin = 0.15 if null == "standard-normal" else 0.02 if accuracy else 0.05
    fresh = bool(chance.integers(2))
    outlook = Outlook(
        null=null,  # type: ignore[arg-type]
        margin=margin if chance.random() < 0.9 else None,
        effect=margin * float(chance.choice([0.2, 1, 3, 6])),
        gap_sd=margin * float(chance.choice([0.1, 0.4, 0.8])),
        none_sd=margin * float(chance.choice([0.0, 0.4, 1.0])),
        accuracy_sd=float(chance.choice([0.003, 0.01, 0.03])) if chance.random() < 0.9 else None,
        rows=int(chance.choice([60, 180])),
        resolution=0.0 if null == "standard-normal" else float(chance.choice([0.002, 0.05])),
        none=chance.random() < 0.85,
        fresh=fresh and null == "retrain",
        of_accuracy=accuracy,
    )
    return Case(outlook, int(chance.choice([1, 2, 3, 4, 6])), float(chance.choice([0.5, 1, 3])))


def sampled(case: Case, chance: np.random.Generator) -> tuple[Sample, np.ndarray]:
    """One family of values, and the standard deviations of the scores of each seed."""
    outlook, n = case.outlook, case.seeds
    known = outlook.null == "standard-normal"
    sd = outlook.rows**-0.5 if known else outlook.gap_sd / 2**0.5
    none = outlook.effect + (outlook.none_sd + sd) * chance.standard_normal(n)
    left = float(chance.choice([0, 0, 0, 0.2, 0.5, 1]))
    x = left * none + case.spread * sd * chance.standard_normal(n)
    r, f = sd * chance.standard_normal((2, n))
    stds = 1 + float(chance.choice([0, 0, 0.3])) + chance.standard_normal(n) / 40
    dof = n * (outlook.rows - 1)
    statistic = (outlook.rows - 1) * float((stds**2).sum())
    from scipy.special import chdtr, chdtrc

    sound = 2 * min(chdtr(dof, statistic), chdtrc(dof, statistic)) >= 0.01
    loss = none_loss = None
    if outlook.of_accuracy:
        loss, none_loss = x - r, none - r
    elif outlook.accuracy_sd is not None:
        shift = float(chance.choice([0, 0, 0.02, 0.06]))
        loss = shift + outlook.accuracy_sd * chance.standard_normal(n)
    one = Sample(
        x=x[None],
        none=none[None] if outlook.none else None,
        retrain=None if known else r[None],
        fresh=f[None] if outlook.fresh else None,
        loss=None if loss is None else loss[None],
        none_loss=None if none_loss is None or not outlook.none else none_loss[None],
        sound=np.array([sound]),
    )
    return one, stds


def family(
    one: Sample, outlook: Outlook, stds: np.ndarray, chance: np.random.Generator
) -> list[Candidate]:
    """The same values as rows to be judged; the method's is the last."""
    n = one.x.shape[1]
    known = outlook.null == "standard-normal"
    count = outlook.rows if known else round(1 / outlook.resolution)
    companions = {"count": dict.fromkeys(map(Trial, range(n)), float(count))}
    if known:
        companions["std_score"] = by_seed(stds)
    reference = one.retrain[0] if one.retrain is not None else 0.05 * chance.standard_normal(n)
    base = 0.9 + 0.01 * chance.standard_normal(n)  # retraining's accuracy
    sides = {"retrain": reference}
    if one.fresh is not None:
        sides["retrain-fresh"] = one.fresh[0]
    if one.none is not None:
        sides["none"] = one.none[0]
    sides["unlearn"] = one.x[0]
    rows = []
    for role, values in sides.items():
        if outlook.of_accuracy:  # poison lowers it
            values = 0.9 - values
            utility = values
        elif one.loss is None:
            utility = None
        else:
            utility = base - (one.loss[0] if role == "unlearn" else 0.0)
        rows.append(
            Candidate(
                role,
                by_seed(values),
                companions,
                {} if utility is None else by_seed(utility),
            )
        )
    return rows


def by_seed(values: np.ndarray) -> dict[Trial, float]:
    return {Trial(seed): float(value) for seed, value in enumerate(values)}


def of_method(rows: list[Candidate], outlook: Outlook) -> Verdict:
    direction = "down" if outlook.of_accuracy else "up"
    metric = Metric("made up", direction=direction, margin=outlook.margin, null=outlook.null)  # type: ignore[arg-type]
    return judge(rows, metric)[-1]


def compared(null: str, accuracy: bool = False) -> Iterator[tuple[Case, str, Verdict]]:
    """Case, the word for arrays, the verdict of `judge`."""
    chance = np.random.default_rng(3 + accuracy)
    for _ in range(DRAWS):
        case = random_case(chance, null, accuracy)
        one, stds = sampled(case, chance)
        rows = family(one, case.outlook, stds, chance)
        verdict = of_method(rows, case.outlook)
        # What Hommel's correction made of this row's p-values is known here: a number of tests.
        loss = verdict.loss
        outlook = replace(
            case.outlook,
            tests=factor(verdict.p_test, verdict.p_hommel),
            models=factor(loss.p, loss.p_adjusted) if loss is not None else 1.0,
        )
        yield case, WORDS[int(judged(one, outlook)[0])], verdict


def factor(p: float | None, corrected: float | None) -> float:
    return corrected / p if p and corrected is not None else 1.0


@pytest.mark.parametrize(
    ("null", "accuracy"), [("standard-normal", False), ("retrain", False), ("retrain", True)]
)
def test_the_words_are_those_of_judge(null: str, accuracy: bool) -> None:
    seen: dict[str, int] = {}
    for case, word, verdict in compared(null, accuracy):
        assert word == verdict.word, (case, verdict)
        seen[word] = seen.get(word, 0) + 1
    assert seen.keys() == set(WORDS), seen
