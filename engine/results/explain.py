"""What a word in a table means: `chelate explain NAME`, as plain text."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from engine.results import pages
from engine.results.evidence import ALPHA, GATE_ALPHA, SHARE
from engine.results.tidy import AuditLike, Audits
from engine.results.utility import UTILITY_AUDIT, UTILITY_MARGIN, UTILITY_METRIC
from engine.results.verdict import FEWEST_SEEDS
from engine.spec.errors import BadInput, unknown

if TYPE_CHECKING:
    from engine.spec.component import Metric

WIDTH = 80
POINTS = f"{100 * UTILITY_MARGIN:g} points"
PART = f"{100 * SHARE:g} %"

PAGES = {
    "residue": f"""
        Verdict. The measurement differs from its null by more than chance explains: two-sided
        p < {ALPHA:g} after Hommel's correction over the family, every row of the same setting,
        attack and audit (methods, variants, budgets). And it was not shown to be negligible, in the
        sense of removed. Against retraining it takes {FEWEST_SEEDS} seeds; scores whose null is exact
        may show it of the model of a single seed. Where the plan has retrain-fresh, the control is
        the mean of both retrainings, and their difference helps to say what chance does. "residue
        (reinforced)" is shown to lie above no unlearning, "residue (over-corrected)" past
        retraining, on the other side of it.""",
    "removed": f"""
        Verdict. What is left was shown to be negligible, three times: two one-sided tests, each at
        {ALPHA:g}, place it within the metric's margin (the sentence names it; a preset's [verdicts]
        may set another); it is shown to be below {PART} of what no unlearning leaves; and a loss of
        {UTILITY_METRIC} of {POINTS} is excluded, by the one-sided 95 % bound. "Not significant" is
        never enough, as too few seeds would then look like success. All three are Student's tests
        over seeds (for scores the pooled one must pass as well), so it takes {FEWEST_SEEDS} seeds, a
        value from every seed that ran, and `none` in the plan. Each row has its own
        {100 * ALPHA:g} %: of twenty methods exactly on the margin one is expected to pass. It
        speaks of this audit only.""",
    "inconclusive": f"""
        Verdict. Neither a difference nor that next to nothing is left was shown. The reason
        estimates how many seeds, in all, would settle it if what was seen so far is true. Against
        retraining, fewer than {FEWEST_SEEDS} seeds show nothing. A measurement inside its
        margin is inconclusive too when an assumption fails at {GATE_ALPHA:g}: scores whose spread
        is not 1, or seeds that disagree with one another; when most rows could not be scored; when
        the method failed on some of the seeds; and when the plan has no `none` to compare with.
        "inconclusive (accuracy)": the poison is shown to be out, but not that accuracy was kept.""",
    "wrecked": f"""
        Verdict. A loss of {UTILITY_METRIC} (audit {UTILITY_AUDIT}) beyond {POINTS} is shown: a
        one-sided paired t-test against retraining with the same seeds, at {ALPHA:g} after Hommel's
        correction over all models of the attack, with {FEWEST_SEEDS} seeds at least. A broken model
        forgets everything, so nothing else is claimed; the reason has the loss and its interval.
        Never said of the model before unlearning. Where accuracy itself is judged and the poison has
        lowered it (indiscriminate attacks), a model is wrecked only if it is shown to lie {POINTS}
        below no unlearning, too; otherwise low accuracy is the residue.""",
    "nothing to remove": f"""
        Verdict of every row of a family in which no unlearning is itself shown to be equivalent to
        its null, within the metric's margin and over {FEWEST_SEEDS} seeds at least: the attack left
        nothing that this audit sees, so no method is judged by it. Only a wrecked model is still
        called so.""",
    "reinforced": f"""
        Of a residue: shown to lie further on the poison's side than no unlearning does. Paired by
        seed, one-sided, p < {ALPHA:g} after Hommel's correction over the family, {FEWEST_SEEDS}
        seeds at least. The method made it worse.""",
    "over-corrected": """
        Of a residue or a recovery: shown to be past retraining. The whole 95 % interval of recovery
        lies above 1: the method moved the measurement to where no clean model is, which is a trace
        of its own.""",
    "n/a": """
        Verdict. Nothing was measured: the method does not fit the budget, the audit does not apply,
        or the stage failed, diverged or has not run. The reason says which. "n/a: diverged": at every
        seed the loss or the weights were no finite numbers any more, from the step on that the reason
        names. Where only some seeds diverged, the sentence begins with them, the others are judged,
        and the row is never called removed.""",
    "reference": """
        Verdict of retraining from scratch without the poison: what the others are compared with.
        retrain-fresh, the same with another training seed, is judged like a method: it shows what
        a perfect method would get.""",
    "oracle": """
        Verdict of a row whose settings were chosen by looking at the audit itself ([tune] with
        objective = "oracle"): an upper bound on what tuning could reach, not a result. It is not
        tested and takes no part in the correction.""",
    "tuned": """
        A variant whose settings were chosen by [tune]: once for a method and an attack, at the
        largest budget, on validation rows and on clean retained rows that stand in for the forget
        set; what was chosen follows the word. The proxy's forgetting is 1 - |2 AUC - 1| of losses
        on these rows against validation rows: 1 if they cannot be told apart. Taken is the largest
        among trials that keep validation accuracy within the tolerance. search TEE is what all
        trials cost together.""",
    "recovery": """
        The share of the way from no unlearning to retraining: (none - method) / (none - retrain),
        of means over the seeds all three have. 0 is no unlearning, 1 is retraining; below 0 is
        worse than nothing and above 1 is past retraining, named over-corrected where that is shown. A
        dash where no unlearning's own effect is not shown: the 95 % interval of none - retrain
        contains 0 (of scores with an exact null: their own test shows nothing), or there is a
        single seed.""",
    "gap": """
        Mean difference to retraining, paired by seed, with a 95 % t-interval. Empty for retraining
        itself. An interval needs two seeds. A gap whose interval contains 0 is not a gap of 0: only
        equivalence within a margin makes a verdict of removed.""",
    "known": """
        Where only a share of the poison was found (forget.share below 1), a metric that scores rows
        one by one is also given for the known rows (mean_score_known) and for those nobody found
        (mean_score_unknown). A method sees the known ones only. The reference stays retraining
        without any poison; retrain-known, without the known poison, is the best that unlearning the
        known rows can be asked for.""",
    "tee": """
        Training-epoch equivalents, the unit of budgets: 1 TEE is a forward and a full backward pass
        over every training row. Forward, activation gradients and weight gradients are a third
        each. It is deterministic and the same on every machine; seconds stand beside it.""",
    "z": """
        The mean score of all poison rows and seeds together, in standard errors. For a model that
        never saw the noise it is exactly N(0, 1), whatever the model. Beyond 2 or so there is a
        trace; positive is the poison's side. Near 0 says no more than the number of rows allows:
        the smallest shift found with 80 % power is 2.8 / sqrt(rows x seeds).""",
}

PAGES |= {
    name: f"{told.what}\n\nNull: {told.null}\n\nCannot see: {told.blind}"
    for name, told in pages.COLUMNS.items()
}
for _name, (_null, _blind) in pages.BESIDE.items():
    PAGES[_name] += f"\n\nNull: {_null}\n\nCannot see: {_blind}"

NULLS = {
    "standard-normal": "exact. For a model independent of the poison the mean of all scores is "
    "N(0, 1/count). No retraining is needed to test it.",
    "retrain": "retraining from scratch. Differences are paired by seed; Student's t.",
}
SIDES = {"up": "raises it", "down": "lowers it", None: "has no fixed side"}


def explain(name: str, audits: Audits) -> str:
    """The page of a verdict, a column, an audit, or a metric ("metric" or "audit.metric"): what it
    is, its null, and what it cannot see. Headings count as they stand, in any case.

    A metric of several audits gets a section for each. Raises BadInput for any other name.
    """
    name = pages.ALIASES.get(name.lower(), name)
    page = name if name in PAGES else name.lower()
    if page in PAGES:
        return _page(page, PAGES[page].split("\n\n"))
    if name in audits:
        return _audit_page(name, audits[name])
    # "class_accuracy.3" is explained as its family, "class_accuracy".
    name = re.sub(r"(\.\d+)+$", "", name)
    found = {
        f"{audit}.{metric}": (card, metric)
        for audit, card in sorted(audits.items())
        for metric in card.metrics
        if name in (metric, f"{audit}.{metric}")
    }
    if not found:
        metrics = {metric for audit in audits.values() for metric in audit.metrics}
        raise BadInput(unknown("metric or verdict", name, {*PAGES, *audits, *metrics}))
    return "\n".join(
        _metric_page(title, card.metrics[metric], primary=metric == card.primary)
        for title, (card, metric) in found.items()
    )


def _metric_page(title: str, metric: Metric, *, primary: bool) -> str:
    facts = [metric.summary, f"Poison {SIDES[metric.direction]}."]
    null, blind = pages.METRICS.get(title.partition(".")[2], pages.UNSAID)
    if primary:
        null = NULLS[metric.null]
    elif not metric.averaged:
        null = pages.UNSAID_P
    facts.append(f"Null: {null}")
    if primary:
        if metric.margin is not None:
            facts.append(
                f"Equivalence margin: ±{metric.margin:g}, unless [verdicts] of a preset sets "
                "another. The audit's primary metric."
            )
    else:
        facts.append("Describes: gets no verdict of its own.")
    if metric.rate:
        facts.append("0 or 1 for one model; the mean is a rate, and its interval Wilson's.")
    if not metric.averaged:
        facts.append("Never averaged over seeds: a mean of it would mean nothing.")
    facts.append(f"Cannot see: {metric.blind_spots or blind}")
    return _page(title, facts)


def _audit_page(name: str, audit: AuditLike) -> str:
    names = sorted(audit.metrics, key=lambda metric: (metric != audit.primary, metric))
    mark = {audit.primary: " (primary)"}
    facts = [] if audit.primary else ["It describes and gives no verdict."]
    return _page(
        name, [*facts, *[f"{m}{mark.get(m, '')}: {audit.metrics[m].summary}" for m in names]]
    )


def _page(title: str, paragraphs: list[str]) -> str:
    filled = [textwrap.fill(" ".join(text.split()), WIDTH) for text in paragraphs]
    return "\n\n".join([f"{title}\n{'=' * len(title)}", *filled]) + "\n"
