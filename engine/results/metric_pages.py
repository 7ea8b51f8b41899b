"""What the pages of metrics say where an audit's card leaves it open: their null and blind spots."""

from __future__ import annotations

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
