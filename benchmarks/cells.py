"""The cells of docs/statistics.md's simulation: made-up studies of which the truth is known, as data.

A cell says what is true of every row of a run, on how many seeds and rows it is measured, and how
accurate the models are. `benchmarks/simulation.py` draws runs of a cell and judges them. Seeds of
the draws follow from the cell's name: nothing here depends on what a rule of verdicts makes of it.

Which words would be false follows from the truth, too: see `simulation.falsehoods`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

RUNS = 10_000
Kind = Literal["rate", "auc", "score", "target", "accuracy"]
Start = Literal["methods", "seed", "retrainings"]
MIXED = (1 / 3, 1.0, 3.0)  # deviations over seeds, in those of retraining
EVEN = (1.0,)
POISONED_ROWS = 180  # of the Gaussian poison of the quickstart
TARGETS = 16  # of one seed

MARGINS: dict[Kind, float] = {
    "rate": 0.05, "auc": 0.02, "score": 0.15, "target": 0.05, "accuracy": 0.02
}  # fmt: skip
SHARE = 0.25  # of none's effect: a method that leaves as much has not removed it
LOSS = 0.02  # of test accuracy: a method that costs no more has not wrecked the model


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Test accuracy of retraining: its mean, and the deviation over seeds of the gap between two
    perfect models with the same seed, whose accuracies have correlation `together`.

    With `tail` an accuracy is `mean` less a gamma variable of shape 1: most models do well, a few
    badly, which is how small text models fail.
    """

    name: str
    mean: float
    paired_gap: float
    together: float = 0.3
    tail: bool = False


# Measured on 40 retrainings of mnist5k's MLP (deviation .0034, of paired gaps .0039), and on 12 of
# backdoor-text's transformer (.044). Of ResNet-18 few seeds are known: .02 is assumed.
DIGITS = Accuracy("digits MLP", 0.943, 0.0039, together=0.34)
TEXT = Accuracy("text model", 0.72, 0.044)
TEXT_TAIL = Accuracy("text model, a few bad", 0.72, 0.044, tail=True)
RESNET = Accuracy("ResNet-18", 0.90, 0.020)


@dataclass(frozen=True, slots=True)
class Methods:
    """`count` rows of one truth: the mean of the audit's value over seeds, and of accuracy lost.

    spreads  deviation over seeds in units of retraining's, of one row after the other in turn
    coin     each seed is the mean plus or minus three of retraining's deviations, at random
    """

    truth: str
    count: int
    mean: float
    spreads: tuple[float, ...] = MIXED
    loss: float = 0.0
    coin: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One truth, drawn RUNS times. Rows of a run: retrain, none, retrain-fresh, the methods.

    kind     rate      beta-distributed true rates, binomial counts over `rows`
             auc       normal values
             score     the mean of 180 scores that are N(0, 1) for a clean model: retraining's mean
                       is 0, its deviation 1/√180, half of its variance shared by a run's rows;
                       `spreads` are of deviations beyond that one
             target    16 targets a seed, each 0 or 1; the seed's own rate is beta-distributed with
                       correlation `within` between its targets
             accuracy  what is judged is test accuracy itself
    mean, sd, rows   of retraining's value, over seeds
    none     mean of the row without unlearning; `none_spread` as of `Methods`
    start    who shares, beside the seed, the start of training: the methods (they begin with the
             poisoned model); retraining with the methods ("seed"); or both retrainings
    together, alike  the share of variance (of the Gaussian copula) due to the seed, and to the start
    held     False for what is reported and not held to 5 %
    """

    name: str
    kind: Kind
    seeds: int
    mean: float
    sd: float
    none: float
    methods: tuple[Methods, ...]
    rows: int = 900
    none_spread: float = 1.0
    accuracy: Accuracy = DIGITS
    start: Start = "methods"
    together: float = 0.3
    alike: float = 0.3
    within: float = 0.0
    held: bool = True
    power: bool = False

    @property
    def margin(self) -> float:
        return MARGINS[self.kind]

    @property
    def up(self) -> bool:
        """Whether poison raises the value."""
        return self.kind != "accuracy"


@dataclass(frozen=True, slots=True)
class World:
    """Retraining's law of one audit, and none's where the attack had its effect."""

    name: str
    kind: Kind
    mean: float
    sd: float
    none: float
    rows: int = 900
    none_spread: float = 1.0
    within: float = 0.0
    together: float = 0.3

    def cell(self, what: str, seeds: int, *methods: Methods, **other: object) -> Cell:
        """A cell of this world; `other` replaces fields of it."""
        own = {
            "mean": self.mean, "sd": self.sd, "none": self.none, "rows": self.rows,
            "none_spread": self.none_spread, "within": self.within, "together": self.together,
        }  # fmt: skip
        name = f"{what}: {self.name}, {seeds} seed{'s' if seeds > 1 else ''}"
        return Cell(name, self.kind, seeds, methods=methods, **(own | other))  # type: ignore[arg-type]


RATES = World("rates at .1, 900 rows", "rate", 0.1, 0.03, 0.9)
RATES_100 = World("rates at .1, 100 rows", "rate", 0.1, 0.03, 0.9, rows=100)
RATES_20 = World("rates at .1, 20 rows", "rate", 0.1, 0.03, 0.9, rows=20)
NEAR_0 = World("rates at .005, 900 rows", "rate", 0.005, 0.003, 0.9, none_spread=10)
NEAR_0_100 = World("rates at .005, 100 rows", "rate", 0.005, 0.003, 0.9, rows=100, none_spread=10)
NEAR_0_20 = World("rates at .005, 20 rows", "rate", 0.005, 0.003, 0.9, rows=20, none_spread=10)
NEAR_1 = World("rates at .97, 900 rows", "rate", 0.97, 0.01, 0.99, none_spread=0.5)
STEADY = World("rates at .1, 900 rows, steady", "rate", 0.1, 0.005, 0.9, none_spread=3)
TEXTS = World("rates at .25, 500 rows", "rate", 0.25, 0.1, 0.99, rows=500, none_spread=0.1)
AUC = World("AUC", "auc", 0.5, 0.012, 0.65)
AUC_STEADY = World("AUC, steady", "auc", 0.5, 0.005, 0.65)
SCORE = World("standard-normal, 180 rows", "score", 0.0, 0.0, 0.9, POISONED_ROWS, 1.0, 0.0, 0.5)
ACCURATE = World("accuracy", "accuracy", 0.0, 0.0, 0.0)  # the accuracy's law is its cell's


def targets(mean: float, within: float) -> World:
    """16 targets a seed. Models share nothing, so that `within` is the gap's correlation, too."""
    name = f"targets at {mean:g}, correlation {within:g}"
    return World(name, "target", mean, 0.0, 0.9, TARGETS, 1.0, within, 0.0)


def null(count: int, world: World, spreads: tuple[float, ...] = MIXED) -> Methods:
    return Methods("null", count, world.mean, spreads)


def everything_null() -> Iterator[Cell]:
    """Nothing has an effect, not even the attack."""
    for world, seeds in ((RATES, 5), (NEAR_0, 5), (AUC, 3)):
        yield world.cell("all null", seeds, null(11, world), none=world.mean, none_spread=1.0)
    yield SCORE.cell("all null", 3, null(11, SCORE, (0.0,)), none=0.0, none_spread=0.0)


def methods_null() -> Iterator[Cell]:
    """The attack had its effect, and every method is as good as retraining."""
    for world, numbers in (
        (RATES, (3, 5, 10)), (NEAR_0, (3, 5)), (AUC, (3, 5, 10)),
        (RATES_100, (5,)), (RATES_20, (5,)), (NEAR_1, (3, 5)),
    ):  # fmt: skip
        for seeds in numbers:
            yield world.cell("methods null, 13 rows", seeds, null(11, world))
    for world, rows, seeds in ((RATES, 20, 3), (RATES, 20, 5), (AUC, 6, 3), (AUC, 20, 3)):
        yield world.cell(f"methods null, {rows} rows", seeds, null(rows - 2, world))
    for world in (RATES, AUC):
        for spread, words in ((1.0, "spread 1"), (3.0, "spread 3")):
            yield world.cell(f"methods null, {words}", 3, null(11, world, (spread,)))
    alike = null(11, AUC, EVEN)
    yield AUC.cell("methods null, retrainings alike", 3, alike, start="retrainings")
    yield RATES.cell("methods null, one start a seed", 3, null(11, RATES), start="seed")
    for seeds in (1, 3, 5, 10):
        yield SCORE.cell("methods null, 13 rows", seeds, null(11, SCORE, (0.0,)))
    yield SCORE.cell("methods null, 20 rows", 3, null(18, SCORE, (0.0,)))


def some_residue() -> Iterator[Cell]:
    """Half of the methods, or three of four, leave much."""
    for world, left, numbers in ((RATES, 0.6, (3, 5)), (NEAR_0, 0.4, (5,)), (AUC, 0.6, (3, 5))):
        for seeds in numbers:
            yield world.cell("half residue", seeds, null(5, world), Methods("residue", 6, left))
    for world, left, seeds in ((RATES, 0.6, 5), (AUC, 0.6, 3)):
        yield world.cell("most residue, 20 rows", seeds, null(4, world, (1 / 3, 3.0)),
                         Methods("residue", 14, left))  # fmt: skip
    yield SCORE.cell("half residue", 3, null(5, SCORE, (0.0,)), Methods("residue", 6, 0.5))


def accurate_models() -> Iterator[Cell]:
    """Perfect unlearners on models whose accuracy differs more from seed to seed; and, judged by
    accuracy itself, where the poison has cost six points."""
    for accuracy, world, numbers in (
        (TEXT, TEXTS, (3, 5, 10)), (TEXT_TAIL, TEXTS, (3, 5)), (RESNET, RATES, (3, 5))
    ):  # fmt: skip
        for seeds in numbers:
            yield world.cell(f"methods null, {accuracy.name}", seeds, null(11, world),
                             accuracy=accuracy)  # fmt: skip
    yield TEXTS.cell("methods null, 20 rows, text model", 3, null(18, TEXTS), accuracy=TEXT)
    for accuracy, seeds in ((DIGITS, 3), (TEXT, 3), (TEXT, 5)):
        mean, poisoned = accuracy.mean, accuracy.mean - 0.06
        yield ACCURATE.cell(f"methods null, {accuracy.name}", seeds,
                            Methods("null", 11, mean, EVEN),
                            accuracy=accuracy, mean=mean, none=poisoned)  # fmt: skip
        yield ACCURATE.cell(f"as bad as none, {accuracy.name}", seeds,
                            Methods("as none", 11, poisoned, EVEN, loss=0.06),
                            accuracy=accuracy, mean=mean, none=poisoned)  # fmt: skip


def clusters() -> Iterator[Cell]:
    """Many targets of one seed."""
    for mean, within, numbers in (
        (0.1, 0.0, (5,)), (0.1, 0.5, (5,)), (0.5, 0.2, (3, 5)), (0.5, 0.5, (3, 5))
    ):  # fmt: skip
        world = targets(mean, within)
        for seeds in numbers:
            yield world.cell("methods null, 13 rows", seeds, null(11, world, EVEN), alike=0.0)
    margin = Methods("on the margin", 4, 0.05, EVEN)
    for within, seeds in ((0.0, 5), (0.2, 5), (0.5, 3), (0.5, 5), (0.5, 10)):
        yield targets(0.0, within).cell("on the margin", seeds, margin, alike=0.0)


def on_the_margin() -> Iterator[Cell]:
    """As far from retraining as the margin, a small part of what the attack did."""
    for world, numbers in (
        (STEADY, (3, 5)), (NEAR_0, (3, 5, 10)), (NEAR_0_100, (3, 5, 10)), (NEAR_0_20, (10,)),
        (AUC_STEADY, (3, 5, 10)),
    ):  # fmt: skip
        for seeds in numbers:
            left = world.mean + MARGINS[world.kind]
            yield world.cell("on the margin", seeds, Methods("on the margin", 6, left))
    for seeds in (3, 5, 10):
        beyond = Methods("on the margin", 4, 0.15, (0.0, 1.5, 3.0))
        yield SCORE.cell("on the margin", seeds, beyond)
    below = Methods("on the margin", 4, STEADY.mean - MARGINS["rate"])
    yield STEADY.cell("on the margin from below", 5, below)


# Attacks of a small effect: a quarter of it lies well inside the margin
SMALL_RATES = World("rates at .02, none at .10", "rate", 0.02, 0.002, 0.10, none_spread=5)
SMALL_AUC = World("AUC, none at .53", "auc", 0.5, 0.002, 0.53, none_spread=3)
SMALL_SCORE = World("standard-normal, none at .2", "score", 0.0, 0.0, 0.2, POISONED_ROWS, 1.0, 0.0,
                    0.5)  # fmt: skip


def a_quarter_left() -> Iterator[Cell]:
    """A quarter of the attack's effect is left, well inside the margin."""
    for world in (SMALL_RATES, SMALL_AUC, SMALL_SCORE):
        for seeds in (3, 5):
            left = world.mean + SHARE * (world.none - world.mean)
            spreads = (0.0,) if world.kind == "score" else MIXED
            yield world.cell("a quarter left", seeds, Methods("a quarter left", 6, left, spreads))


def two_points_lost() -> Iterator[Cell]:
    """Nothing is left, and exactly two points of accuracy are lost: neither wrecked nor removed."""
    for accuracy, numbers in (
        (DIGITS, (3, 5)), (TEXT, (3, 5, 10)), (TEXT_TAIL, (5,)), (RESNET, (3,))
    ):  # fmt: skip
        for seeds in numbers:
            lossy = Methods("two points lost", 11, STEADY.mean, (1 / 3, 1.0), loss=LOSS)
            yield STEADY.cell(f"two points lost, {accuracy.name}", seeds, lossy,
                              accuracy=accuracy)  # fmt: skip


def none_on_the_margin() -> Iterator[Cell]:
    """The attack's effect is exactly the margin."""
    for world, numbers in ((STEADY, (5,)), (NEAR_0, (3, 5)), (AUC_STEADY, (3,)), (SCORE, (3, 5))):
        for seeds in numbers:
            left = world.mean + MARGINS[world.kind]
            spread = 0.0 if world.kind == "score" else 1.0
            yield world.cell("none on the margin", seeds, null(4, world, (spread,)),
                             none=left, none_spread=spread)  # fmt: skip


def no_better_than_none() -> Iterator[Cell]:
    """Every method leaves all of it: none is reinforced."""
    rates = World("rates at .1, none at .6", "rate", 0.1, 0.03, 0.6, none_spread=3)
    for world, numbers in ((rates, (3,)), (AUC, (3, 5)), (SCORE, (3,))):
        for seeds in numbers:
            spreads = (0.0, 1.0, 3.0) if world.kind == "score" else MIXED
            yield world.cell("as none", seeds, Methods("as none", 11, world.none, spreads))


def coin_flips() -> Iterator[Cell]:
    """Rows whose mean is retraining's, and which no single seed shows: reported, not held to 5 %."""
    for world in (RATES, AUC):
        coin = Methods("coin-flip", 1, world.mean, coin=True)
        coins = Methods("coin-flip", 11, world.mean, coin=True)
        yield world.cell("one coin-flip", 3, coin, null(10, world), held=False)
        for seeds in (3, 5):
            yield world.cell("all coin-flips", seeds, coins, held=False)


def power() -> Iterator[Cell]:
    """Nothing, half and all of it left, in one run of 13 rows."""
    weak_rates = World("rates at .1, none at .3", "rate", 0.1, 0.03, 0.3, none_spread=2)
    weak_auc = World("AUC, steady, none at .55", "auc", 0.5, 0.005, 0.55)
    score = World("standard-normal, none at .6", "score", 0.0, 0.0, 0.6, POISONED_ROWS, 1.0, 0.0,
                  0.5)  # fmt: skip
    for world, accuracy, numbers in (
        (RATES, DIGITS, (3, 5)),
        (TEXTS, TEXT, (3, 5, 10)),
        (weak_rates, DIGITS, (3, 5)),
        (NEAR_0, DIGITS, (3,)),
        (AUC, DIGITS, (3, 5, 10)),
        (weak_auc, DIGITS, (3, 5)),
        (score, DIGITS, (3, 5)),
    ):
        half = (world.mean + world.none) / 2
        for seeds in numbers:
            yield world.cell(
                f"power, {accuracy.name}", seeds,
                Methods("nothing left", 4, world.mean, (0.0,) if world is score else EVEN),
                Methods("half left", 4, half, (max(1.0, world.none_spread),)),
                Methods("all left", 3, world.none, (world.none_spread,)),
                accuracy=accuracy, power=True,
            )  # fmt: skip


CELLS: tuple[Cell, ...] = (
    *everything_null(),
    *methods_null(),
    *some_residue(),
    *accurate_models(),
    *clusters(),
    *on_the_margin(),
    *a_quarter_left(),
    *two_points_lost(),
    *none_on_the_margin(),
    *no_better_than_none(),
    *coin_flips(),
    *power(),
)
