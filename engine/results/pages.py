"""Pages of the columns of tables and screens, and what the pages of metrics leave unsaid.

Everywhere the same three questions: what it is, its null (what it reads where nothing is left), and
what it cannot see.
"""

from __future__ import annotations

from typing import NamedTuple


class Told(NamedTuple):
    what: str
    null: str
    blind: str


COLUMNS = {
    "value": Told(
        "The audit's primary metric: its mean over seeds ± the half width of a 95 % t-interval. In "
        "the console, the pooled z instead where the audit has one.",
        "the metric's own; `chelate explain METRIC` names it.",
        "what the seeds do not share is in the interval, what all of them share (data, model, "
        "preset) is not: it speaks of this setting. One seed has no interval.",
    ),
    "mean": Told(
        "Mean of a metric over the seeds that gave one, each seed with its own poison and training.",
        "the metric's own; `chelate explain METRIC` names it.",
        "how the seeds differ: see lo and hi, and the values. P-values have none.",
    ),
    "lo": Told(
        "With hi, the 95 % t-interval of the mean over seeds: in 95 of 100 such runs it holds the "
        "mean over all seeds there could be. Needs two seeds.",
        "the interval holds the metric's null value.",
        "an interval that holds the null is no proof of it: only equivalence within a margin is "
        "(removed). For rates near 0 it may reach below 0; rate_lo and rate_hi do not.",
    ),
    "n": Told(
        "Seeds that gave a value; of an attack with several targets a seed, seeds and targets. A seed "
        "is one poison and one training: the unit of every interval and test, however many rows were "
        "scored or targets aimed at.",
        "none: it is a count.",
        "seeds that failed or have not run; the verdict's reason counts them.",
    ),
    "values": Told(
        "The metric, seed by seed, in the order of seeds; null where a seed gave none.",
        "the metric's own; `chelate explain METRIC` names it.",
        "which differences are chance: that is what the verdict is for.",
    ),
    "p": Told(
        "Two-sided p of a difference between a judged row and its null, by the plain test: z for "
        "scores, else paired with retraining. p_holm is the same after Holm's correction. The word "
        "rests on p_hommel; see there.",
        "uniform between 0 and 1.",
        "how large the difference is, and whether it matters: a large p with few seeds shows nothing.",
    ),
    "p_hommel": Told(
        "p_test, the two-sided p of the test behind the word (named in test: z, paired, or "
        "two-retrainings), after Hommel's correction over every row of the setting, attack and "
        "audit: below .05 it makes a residue.",
        "uniform between 0 and 1, or above.",
        "how large the difference is, and whether it matters.",
    ),
    "equivalence_p": Told(
        "The larger p of the two one-sided tests that place a judged row within the metric's margin "
        "of its null, by the plain test. equivalence_test is the same by the test behind the word: "
        "below .05 it is one of three things that removed needs.",
        "a difference of exactly the margin.",
        "anything smaller than the margin.",
    ),
    "p_relative": Told(
        "That a row leaves a quarter or more of no unlearning's effect, whichever its side: paired t "
        "over seeds, the larger of two one-sided p. Below .05 it is one of three things that "
        "removed needs.",
        "exactly a quarter left.",
        "whether no unlearning had an effect worth removing: see its own row.",
    ),
    "loss of accuracy": Told(
        "Test accuracy of retraining minus this model's, mean over shared seeds; loss_lo and loss_hi "
        "are its one-sided 95 % bounds, together a 90 % interval. p_wrecked is the test of a loss "
        "beyond 2 points, corrected over the models of the attack (Hommel).",
        "0: retraining from the same seed.",
        "what accuracy does not show: a class given up, calibration.",
    ),
    "qualifier": Told(
        "What a verdict adds to its word: accuracy (of inconclusive: the poison is shown to be out, "
        "but not that accuracy was kept), reinforced and over-corrected (of residue).",
        "none: most words have no qualifier.",
        "anything beyond the word: it rests on further tests of the same rows.",
    ),
    "margin": Told(
        "The equivalence margin a row was judged by, in the metric's own unit: the shipped one, or "
        "the preset's [verdicts].",
        "none: it is a choice.",
        "which shifts matter to you: set it before looking at the results.",
    ),
    "test acc": Told(
        "Mean accuracy on clean test rows, over seeds (audit accuracy, metric test_accuracy). The "
        "utility beside every verdict: shown to be more than 2 points below retraining, a model is "
        "called wrecked.",
        "retraining's, with the same seeds.",
        "poison: backdoors and targeted attacks leave it as it is. Whether a loss is chance: the "
        "verdict's reason has its interval.",
    ),
    "seconds": Told(
        "Time the method itself took on the machine that ran it, mean over seeds; audits are not in "
        "it, nor is the training it starts from.",
        "none: it is a cost.",
        "other load on the machine. TEE is the cost that does not depend on it.",
    ),
    "budget": Told(
        "What a method may spend, as a fraction of the training's compute (TEE). It stops at the "
        "last whole step within; what it spent stands under TEE.",
        "none: it is a choice.",
        "the cost of finding hyper-parameters, which is told apart.",
    ),
    "retrain_mean": Told(
        "Retraining's mean over the seeds this row shares with it: the other side of the gap.",
        "it is the null of paired audits.",
        "how much retraining itself varies: see the band.",
    ),
    "rate_lo": Told(
        "With rate_hi, the 95 % interval of a share of counted rows, the rows of all seeds taken "
        "together: Clopper and Pearson's exact one for tail rates (tpr_at_...), Wilson's for others.",
        "for a tail rate, the interval holds the false-positive rate it was taken at.",
        "that seeds differ: it says how well the rows pin the share down, and is too short for a "
        "claim about the method. lo and hi are for that.",
    ),
    "recovery_lo": Told(
        "With recovery_hi, Fieller's 95 % interval of recovery: the ratios that a t-test on the "
        "seeds does not reject. Needs two seeds.",
        "0 for no unlearning, 1 for retraining.",
        "whether 1 was reached for the right reason: read recovery beside the verdict and the "
        "accuracy.",
    ),
    "rate": Told(
        "Where a model gives a yes or no (a target hit or missed): the share of yes over targets and "
        "seeds, beside the primary metric, with a 95 % interval: Wilson's, or that of the seeds' means "
        "where it is longer, for targets of a seed share data and surrogates.",
        "retraining's rate; a clean model hits a target by chance now and then.",
        "how near a miss was: the margin and the probability tell.",
    ),
    "search tee": Told(
        "What choosing the method's settings cost ([tune]): all trials and their scoring, in TEE; in "
        "seconds beside it. Not part of the method's own cost or budget.",
        "none: it is a cost.",
        "searches that somebody did before writing the preset.",
    ),
    "band": Told(
        "The shaded band in figures: where the mean of another retraining, over as many seeds, falls "
        "95 times in 100. Wider than the interval of retraining's own mean, by √2. The line in it "
        "is that mean.",
        "a perfect method's point lies in it 95 times in 100.",
        "that points inside are equivalent: with few seeds the band is wide and holds much. Points "
        "share seeds with the band, and verdicts use that; the eye cannot.",
    ),
    "histogram": Told(
        "Scores of the poisoned rows as densities, N(0, 1) drawn over them on the same scale. "
        "Pooled over seeds where a run is told, one model's where a run is watched. Intervals "
        "beside it draw whole seeds (clustered bootstrap), for rows of a seed share a model.",
        "the curve: for a model that never saw the noise it is exact.",
        "a shift smaller than 2.8/√rows, and any trace that is not along the input gradient.",
    ),
    "mean and std": Told(
        "Of the scores of the poisoned rows in one look at a model under way: their mean, and their "
        "standard deviation about it.",
        "0 and 1; 95 % of the means lie within 1.96/√rows.",
        "one look is one model of one seed, and there are many looks: one outside is expected.",
    ),
    "ks": Told(
        "Kolmogorov and Smirnov's p: how often scores of a clean model would lie as far from N(0, 1) "
        "somewhere as these do. Sees a wrong spread and a few odd rows, where a mean sees a shift.",
        "uniform between 0 and 1.",
        "it is weak against small shifts, and never averaged over seeds or looks: of twenty looks at "
        "a clean model one lies below .05.",
    ),
    "loss": Told(
        "The training or unlearning loss of a batch, as the method reports it while it runs.",
        "none: methods have different losses, some of them negative.",
        "poison. A loss on the forget set that rises is no forgetting.",
    ),
    "reason": Told(
        "The numbers behind a verdict in words: the shift, Hommel's p, the margin and the equivalence "
        "test, the comparison with no unlearning, the smallest shift that could be seen, the seeds "
        "that would settle it, any objection, and the loss of accuracy with its 90 % interval.",
        "none: it is a sentence.",
        "other audits: a verdict is about one.",
    ),
    "seeds that would settle it": Told(
        "How many seeds in all would show a shift or equivalence 4 times in 5, if the shift and "
        "spread seen so far are the true ones.",
        "none: it is advice.",
        "that what was seen so far is itself uncertain. And looking again is another chance to err: "
        "judged on old and new seeds together, removed on the margin came out at 7 to 9 % instead of 5 "
        "in simulations. For a claim in print choose the number first, or judge the new seeds alone.",
    ),
    "method": Told(
        "The unlearning method, with the hyper-parameters that set its variants apart. none is the "
        "poisoned model as trained; retrain, retrain-fresh and retrain-known are retrainings.",
        "retrain-fresh: what a perfect method gets.",
        "hyper-parameters that were not tried.",
    ),
    "attack": Told(
        "What poisoned the training rows. All rows of one setting, attack and audit (methods, "
        "variants, budgets) are a family, corrected together (Hommel).",
        "none: it is a choice.",
        "other attacks: a method that removes one may leave another untouched.",
    ),
    "audit": Told(
        "What looked for the poison; each has one primary metric, which the verdict is about.",
        "the primary metric's.",
        "what its card and its metric's page name. No audit sees everything.",
    ),
    "class": Told(
        "Of a metric measured for each class (class_accuracy.3): the class's name in the data set; 3 "
        "is its index. Empty for all other metrics.",
        "none: it is a name.",
        "that runs on different data were compared under one name: then it holds both names.",
    ),
    "setting": Told(
        "Data, model and training, where a comparison holds several.",
        "none: it is a choice.",
        "other settings.",
    ),
}

# Other names of pages: headings of narrow tables, ends of intervals.
ALIASES = {
    "z/value": "value",
    "search_tee": "search tee",
    "search_seconds": "search tee",
    "gap to retrain": "gap",
    "gap_lo": "gap",
    "gap_hi": "gap",
    "bar": "gap",
    "p_holm": "p",
    "p_test": "p_hommel",
    "test": "p_hommel",
    "equivalence_test": "equivalence_p",
    "p_reinforced": "reinforced",
    "over_corrected": "over-corrected",
    "loss_lo": "loss of accuracy",
    "loss_hi": "loss of accuracy",
    "p_wrecked": "loss of accuracy",
    "margins": "margin",
    "seeds_to_settle": "seeds that would settle it",
    "not-applicable": "n/a",
    "recov": "recovery",
    "recovery_hi": "recovery_lo",
    "rate_hi": "rate_lo",
    "hi": "lo",
    "acc": "test acc",
    "sec": "seconds",
    "at": "budget",
    "variant": "method",
    "model": "method",
    "s": "n",
    "seed": "n",
    "seeds": "n",
    "metric": "audit",
    "primary": "audit",
    "tpr@fpr": "tpr_at_1pct_fpr",
    "std": "mean and std",
    "mean, std": "mean and std",
    "look": "histogram",
}

# Null and blind spots of pages that are plain text, see engine.results.explain.
BESIDE = {
    "reinforced": (
        "no unlearning, with the same seeds.",
        "by how much: see the gaps of both rows.",
    ),
    "over-corrected": (
        "a recovery of 1: retraining.",
        "why: a method that flattens all predictions goes past retraining, too.",
    ),
    "recovery": (
        "0 for no unlearning and 1 for retraining, by definition.",
        "whether the way was the right one: a wrecked model may recover fully, and a value above 1 "
        "is a trace of its own.",
    ),
    "gap": (
        "0: retraining from the same seed. retrain-fresh shows what chance makes of it.",
        "what both models share, and shifts smaller than its interval.",
    ),
    "tuned": (
        "none: it is a word of a row's variant.",
        "whether forgetting clean rows says anything of forgetting poison: docs/tuning.md.",
    ),
    "tee": (
        "none: it is a cost.",
        "work that is no pass over data, such as decompositions, and the machine: see seconds.",
    ),
    "z": (
        "N(0, 1), exactly.",
        "shifts below 2.8 standard errors, one time in five; traces not along the input gradient; "
        "behaviour, such as a backdoor's.",
    ),
}


# Metrics whose card names no null or no blind spot: name -> (null, what it cannot see).
METRICS = {
    "std_score": (
        "1, exactly: χ² over the rows.",
        "a common shift of all rows, which is mean_score's.",
    ),
    "z": ("N(0, 1), exactly.", "shifts smaller than a few times 1/√rows."),
    "tpr_at_1pct_fpr": (
        ".01, exactly: binomial over the rows.",
        "a small shift of every row, which mean_score finds first; with 180 rows its step is .006.",
    ),
    "tpr_at_1pct_fpr_empirical": (
        ".01, up to the drawing of the fresh noise.",
        "the same as tpr_at_1pct_fpr; that the two agree checks the audit, not the method.",
    ),
    "p_two_sided": ("uniform between 0 and 1.", "how large the shift is, and on which side."),
    "ks_p": ("uniform between 0 and 1.", "small shifts: a mean finds them with fewer rows."),
    "min_detectable": ("none: it is the audit's own power.", "anything of the model."),
    "count": ("none: it is a count.", "anything of the model, but for rows that dropped out."),
    "zero_gradients": (
        "none: a clean model may have them as well.",
        "poison in these rows: they cannot be scored, and most of them missing forbids removed.",
    ),
    "untriggered_rate": ("retraining's, in the gap.", "the trigger's own effect: see asr."),
    "triggered_accuracy": ("retraining's, in the gap.", "where wrong answers go: see asr."),
    "validation_accuracy": ("retraining's, in the gap.", "poison, as little as test_accuracy."),
    "retain_accuracy": (
        "retraining's, in the gap.",
        "memorised rows from learned ones: it is 1 for most models.",
    ),
    "forget_accuracy": (
        "retraining's, in the gap; not 0, for clean-label poison is often answered right.",
        "how the answer comes about: a low value may be forgetting or damage.",
    ),
}
UNSAID = (
    "its value after retraining, which the gap is measured from.",
    "other traces of the poison: it is one number about one of them. Read it beside the audit's "
    "primary metric and the accuracy.",
)
UNSAID_P = "uniform between 0 and 1 where nothing is left."
