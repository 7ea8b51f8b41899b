"""Is the poison out? One word for every row, and the numbers behind it.

The first of these that applies:

    n/a           nothing was measured, perhaps because every seed diverged
    reference     retraining without the poison, which the others are compared with
    oracle        settings were chosen by looking at the audit: an upper bound, not judged
    wrecked       a loss of accuracy beyond 2 points is shown: nothing else is claimed. Where test
                  accuracy itself is judged and the poison has lowered it: beyond no unlearning, too
    nothing to remove  no unlearning is itself equivalent to the null within the metric's margin
    removed       shown to be negligible: equivalent within the margin (TOST) and below a quarter of
                  no unlearning's effect, with accuracy shown to be kept
    residue       a shift is shown (two-sided, Hommel over the family), and it is not negligible.
                  "reinforced": shown above no unlearning; "over-corrected": shown past retraining
    inconclusive  none of these shown. "accuracy": negligible, but accuracy may be lost

Every word but *residue* of a standard-normal null is a claim about the method, over poisons and
seeds, and needs three seeds. *Removed* needs a value from every seed that ran, too.
docs/statistics.md has the error rates of each word, and how they were found.

A *family* is every row of one (setting, attack, audit): methods x variants x budgets. All its tested
rows share the correction, wrecked ones too: what is corrected for must not depend on what was
found. Oracles are not tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from engine.results import effect, statistics
from engine.results.evidence import (
    ALPHA,
    GATE_ALPHA,
    ONE_SEED,
    ROUNDING,
    SHARE,
    Candidate,
    Evidence,
    References,
    examine,
    show_p,
)
from engine.results.utility import UTILITY_MARGIN, Loss, loss, losses

if TYPE_CHECKING:
    from engine.spec.component import Metric

Word = Literal[
    "residue", "removed", "inconclusive", "wrecked", "nothing to remove", "n/a", "reference", "oracle"
]  # fmt: skip
Qualifier = Literal["", "accuracy", "reinforced", "over-corrected"]
WORDS: tuple[Word, ...] = (
    "residue", "removed", "inconclusive", "wrecked", "nothing to remove", "n/a", "reference", "oracle"
)  # fmt: skip

FEWEST_SEEDS = 3  # that a word about a method rests on
PARTS = {0.25: "a quarter"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word, what qualifies it, and a sentence; None where nothing was tested.

    `p` is the plain two-sided test (see Evidence), `p_holm` corrected by Holm's rule over the family,
    `equivalence_p` the plain test of equivalence. Behind the word stand `p_test`, by the method
    `test`, and `p_hommel`; `equivalence_test`; `p_relative`, that a quarter or more of no
    unlearning's effect is left; `p_reinforced`, of lying above it (Hommel); `p_wrecked`, of a loss
    beyond the margin (Hommel over the attack's models); and `loss` of accuracy.

    `seeds_to_settle` estimates how many seeds in all (more than there are) would turn
    "inconclusive" into another word if the shift seen so far is the true one; None when no sensible
    number would.
    """

    word: Word
    reason: str
    p: float | None = None
    p_holm: float | None = None
    equivalence_p: float | None = None
    seeds_to_settle: int | None = None
    qualifier: Qualifier = ""
    test: str | None = None
    p_test: float | None = None
    p_hommel: float | None = None
    equivalence_test: float | None = None
    p_relative: float | None = None
    p_reinforced: float | None = None
    p_wrecked: float | None = None
    loss: Loss | None = None

    @property
    def label(self) -> str:
        """The word as tables show it: "residue (reinforced)"."""
        return labelled(self.word, self.qualifier)


def labelled(word: str, qualifier: str) -> str:
    return f"{word} ({qualifier})" if qualifier else word


def judge(
    family: Sequence[Candidate],
    metric: Metric,
    losses_of: Sequence[Loss | None] | None = None,
    utility_margin: float = UTILITY_MARGIN,
) -> list[Verdict]:
    """A verdict for each row of a family, in order. `metric` is the audit's primary.

    `losses_of` holds each row's loss of accuracy, corrected over all models of the attack; by
    default over those of the family. `utility_margin` is the loss that wrecks a model.
    """
    court = _Family(family, metric, losses_of, utility_margin)
    return [court.verdict(index) for index in range(len(family))]


def losses_in(family: Sequence[Candidate], margin: float = UTILITY_MARGIN) -> list[Loss | None]:
    """The loss of accuracy of each row, corrected over those that can be wrecked."""
    reference = References.of(family).retrain
    return losses(
        [row.utility for row in family],
        reference.utility if reference is not None else None,
        [row.role not in ("retrain", "none", "oracle") for row in family],
        margin,
    )


class _Family:
    """The rows of one (setting, attack, audit), tested together."""

    def __init__(
        self,
        rows: Sequence[Candidate],
        metric: Metric,
        losses_of: Sequence[Loss | None] | None,
        utility_margin: float,
    ) -> None:
        self.rows, self.metric, self.utility_margin = rows, metric, utility_margin
        self.references = References.of(rows)
        self.losses = losses_in(rows, utility_margin) if losses_of is None else losses_of
        self.found = [examine(row, self.references, metric) for row in rows]
        self.left = [
            None if row.role == "none" else effect.remainder(row, self.references, metric)
            for row in rows
        ]
        tested = {
            index: found
            for index, (row, found) in enumerate(zip(rows, self.found, strict=True))
            if row.role not in ("retrain", "oracle") and isinstance(found, Evidence)
        }
        self.tests = len(tested)
        self.holm = _adjusted(statistics.holm, {i: found.p for i, found in tested.items()})
        self.hommel = _adjusted(statistics.hommel, {i: found.p_test for i, found in tested.items()})
        self.none = self._of(self.references.none)
        self.nothing = self._nothing_to_remove()
        above = {
            index: p
            for index in tested
            if (p := effect.above_none(rows[index], self.references, metric, self._side()))
            is not None
        }
        self.above = _adjusted(statistics.hommel, above)

    def _of(self, row: Candidate | None) -> Evidence | None:
        for other, found in zip(self.rows, self.found, strict=True):
            if other is row and isinstance(found, Evidence):
                return found
        return None

    def _side(self) -> float:
        """Where the poison pushes: as declared, or where no unlearning lies."""
        if self.metric.direction is not None:
            return 1.0 if self.metric.direction == "up" else -1.0
        return 1.0 if self.none is None or self.none.shift >= 0 else -1.0

    def _nothing_to_remove(self) -> str:
        """Why there is nothing to judge anybody by; empty where there is."""
        none = self.none
        row = self.references.none
        if none is None or row is None or row.lost or row.diverged or none.objection:
            return ""
        if none.n < FEWEST_SEEDS or not _below(none.equivalence_test):
            return ""
        within = _equivalence(none, self.metric)
        return f"no unlearning is itself {within} of the null ({none.headline})"

    # --- one row ---------------------------------------------------------------------------------

    def verdict(self, index: int) -> Verdict:
        """Where some seeds diverged, that comes first, and what is said of the others is never
        *removed*."""
        row = self.rows[index]
        verdict = self._of_values(index)
        if not row.diverged or not row.values:
            return verdict
        word: Word = "inconclusive" if verdict.word == "removed" else verdict.word
        return replace(verdict, word=word, reason=f"{row.diverged}; {verdict.reason}")

    def _of_values(self, index: int) -> Verdict:
        row, found = self.rows[index], self.found[index]
        if not row.values:
            return Verdict("n/a", row.absent or "no value")
        if row.role == "retrain":
            return Verdict("reference", _reference_reason(found, self.metric))
        if row.role == "oracle":
            return Verdict(
                "oracle", "settings chosen by looking at an audit: an upper bound, not judged"
            )
        figures = self._figures(index)
        if self._wrecked(index):
            points = f"{100 * self.utility_margin:g} points"
            shown = show_p(figures.p_wrecked) if figures.p_wrecked is not None else ""
            return replace(
                figures, word="wrecked", reason=f"{figures.loss}, beyond {points} (Hommel {shown})"
            )
        if self.nothing:
            own = found if isinstance(found, str) else found.headline
            parts = [self.nothing] if row.role == "none" else [self.nothing, own]
            return replace(figures, word="nothing to remove", reason="; ".join(parts))
        if isinstance(found, str):
            return replace(figures, reason=found)
        return self._tested(index, found, figures)

    def _figures(self, index: int) -> Verdict:
        """All numbers of a row, under the word that holds where none of them shows anything."""
        found, lost = self.found[index], self.losses[index]
        bare = Verdict("inconclusive", "", loss=lost, p_wrecked=lost.p_adjusted if lost else None)
        if isinstance(found, str):
            return bare
        left = self.left[index]
        return replace(
            bare,
            p=found.p,
            p_holm=self.holm[index],
            equivalence_p=found.equivalence_p,
            test=found.test,
            p_test=found.p_test,
            p_hommel=self.hommel[index],
            equivalence_test=found.equivalence_test,
            p_relative=left.p if left is not None else None,
            p_reinforced=self.above.get(index),
        )

    def _wrecked(self, index: int) -> bool:
        row, lost = self.rows[index], self.losses[index]
        if row.role == "none" or lost is None or lost.n < FEWEST_SEEDS:
            return False
        return _below(lost.p_adjusted) and not self._poison_did_it(row)

    def _poison_did_it(self, row: Candidate) -> bool:
        """Where accuracy is what is judged: it is as low without unlearning, so that is the
        residue."""
        none, retrain = self.references.none, self.references.retrain
        if none is None or retrain is None or row.values != row.utility:
            return False
        poisoned = loss(none.utility, retrain.utility, self.utility_margin)
        if poisoned is None or poisoned.mean <= self.utility_margin + ROUNDING:
            return False
        further = loss(row.utility, none.utility, self.utility_margin)
        return further is None or not _below(further.p)

    def _tested(self, index: int, found: Evidence, figures: Verdict) -> Verdict:
        """Residue, removed or inconclusive.

        `removed` has one way in: shown to be small in every sense, with no objection.
        """
        row, metric = self.rows[index], self.metric
        assert figures.p_hommel is not None
        equivalent = _below(found.equivalence_test)
        negligible = equivalent and _below(figures.p_relative)
        perhaps = equivalent and figures.p_relative is None  # of what there was nobody can tell
        shift = [found.headline, f"Hommel {show_p(figures.p_hommel)}"]
        size = [_equivalence(found, metric)]
        if row.role != "none":
            size.append(self._relative(index, figures.p_relative))
        kept = str(figures.loss) if figures.loss is not None else ""
        few = found.n < FEWEST_SEEDS
        word: Word = "inconclusive"
        qualifier: Qualifier = ""
        tail: list[str] = []
        if few and metric.null == "retrain":
            tail = [found.power, f"words need {FEWEST_SEEDS} seeds"]
        elif negligible:
            word, qualifier, tail = self._negligible(index, found)
            shift = [found.headline]
        elif _below(figures.p_hommel) and _below(found.own_p) and not perhaps:
            word = "residue"
            qualifier, tail = self._side_of(index, figures)
        else:
            tail = [found.power]
        settle = None
        if word == "inconclusive" and found.objection in ("", ONE_SEED) and not row.lost:
            if qualifier == "accuracy":
                lost = figures.loss
                settle = lost.seeds_to_exclude(self.utility_margin) if lost is not None else None
            else:
                settle = self._seeds_to_settle(index, found)
            known = f"about {settle} seeds" if settle else "no sensible number of seeds"
            tail.append(f"{known} would settle it")
        parts = (*shift, *size, *tail, found.objection, kept)
        return replace(
            figures,
            word=word,
            qualifier=qualifier,
            reason="; ".join(part for part in parts if part),
            seeds_to_settle=settle,
        )

    def _negligible(self, index: int, found: Evidence) -> tuple[Word, Qualifier, list[str]]:
        """What is said of a row that is shown to leave next to nothing."""
        row, lost = self.rows[index], self.losses[index]
        if found.n < FEWEST_SEEDS:
            return "inconclusive", "", [f"removed needs {FEWEST_SEEDS} seeds"]
        if found.objection:
            return "inconclusive", "", []
        if row.lost:
            return "inconclusive", "", [f"but {row.lost}"]
        if lost is None:
            return "inconclusive", "accuracy", ["accuracy was not measured"]
        points = f"{100 * self.utility_margin:g} points"
        if lost.hi is None or lost.hi >= self.utility_margin - ROUNDING:
            return "inconclusive", "accuracy", [f"a loss below {points} is not shown"]
        partly = "" if lost.n >= found.n else f"accuracy measured in {lost.n} of {found.n} seeds"
        return "removed", "", [found.power, partly]

    def _relative(self, index: int, p: float | None) -> str:
        left = self.left[index]
        part = PARTS.get(SHARE, f"{SHARE:g}")
        if self.references.none is None:
            return "without `none` in the plan nobody knows what there was to remove"
        if left is None:
            return "no unlearning with the same seeds to compare with"
        if p is None:
            return ""
        shown = "below" if p < ALPHA else "not shown to be below"
        return f"{shown} {part} of no unlearning's {left.none:+.3f} ({show_p(p)})"

    def _side_of(self, index: int, figures: Verdict) -> tuple[Qualifier, list[str]]:
        """On which side of retraining and of no unlearning a residue lies."""
        row, found, refs = self.rows[index], self.found[index], self.references
        assert isinstance(found, Evidence)
        seeds = found.n >= FEWEST_SEEDS
        if seeds and _below(figures.p_reinforced) and found.shift * self._side() > 0:
            assert figures.p_reinforced is not None
            return "reinforced", [f"above no unlearning (Hommel {show_p(figures.p_reinforced)})"]
        if row.role != "none" and refs.none is not None and refs.retrain is not None:
            back = effect.recovery(
                row.values, refs.none.values, refs.retrain.values, effect.shown_effect(self.none)
            )
            if seeds and back is not None and back.over_corrected:
                return "over-corrected", [f"past retraining (recovery {back.share:.2f})"]
        away = self.metric.direction is not None and found.shift * self._side() < 0
        return "", ["away from the poison's side"] if away else []

    def _seeds_to_settle(self, index: int, found: Evidence) -> int | None:
        """Seeds (in all) that would show either a shift or that next to nothing is left, whichever
        needs fewer.

        80 % power if the shift seen is the true one; a shift must pass the correction's first step,
        ALPHA/tests. At least one more than there are: these had their say.
        """
        shift, sd, known = found.shift, found.sd, found.known
        ways = [statistics.seeds_for_difference(shift, sd, known=known, alpha=ALPHA / self.tests)]
        left, metric = self.left[index], self.metric
        if metric.margin is not None and left is not None:
            room = min(metric.margin, SHARE * abs(left.none))
            ways.append(
                statistics.seeds_for_equivalence(
                    shift, found.spread, room, known=False, alpha=ALPHA
                )
            )
        best = min((seeds for seeds in ways if seeds is not None), default=None)
        return None if best is None else max(best, found.n + 1, FEWEST_SEEDS)


def _adjusted(
    correct: Callable[[Sequence[float]], list[float]], p_values: dict[int, float]
) -> dict[int, float]:
    return dict(zip(p_values, correct(list(p_values.values())), strict=True))


def _below(p: float | None) -> bool:
    return p is not None and p < ALPHA


def _equivalence(found: Evidence, metric: Metric) -> str:
    if found.equivalence_test is None:
        return "no margin to be equivalent within"
    inside = "within" if found.equivalence_test < ALPHA else "not shown to be within"
    return f"{inside} ±{metric.margin:g} (TOST {show_p(found.equivalence_test)})"


def _reference_reason(found: Evidence | str, metric: Metric) -> str:
    if metric.null == "standard-normal" and isinstance(found, Evidence) and found.p < GATE_ALPHA:
        return f"off the null it should follow ({found.headline}): is the audit leaking?"
    return "retraining from scratch without the poison"
