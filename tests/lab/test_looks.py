"""How often a model under way is looked at, by a clock of the test's own; and at how many rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.lab.attacks.badnets import BadNets
from engine.lab.attacks.gaussian import Gaussian
from engine.lab.audits.gaussian import gaussian_scores, glimpse
from engine.lab.looks import REST, Looks, Pace
from engine.lab.subject import Subject
from engine.lab.views import Rows, TrainingSet
from engine.spec.component import Attack
from engine.spec.registry import registered
from tests.lab.toys import CLASSES, toy_model, toy_pixels

MODEL = nn.Identity()


@dataclass
class Worked:
    """Stages on one clock: when looks began and ended, and at which step."""

    now: float = 0.0

    def __post_init__(self) -> None:
        self.pace = Pace(lambda: self.now)
        self.looks: list[tuple[float, float, int]] = []

    def stage(self, steps: int, each: float, look: float, kind: str = "") -> list[int]:
        """Steps that take `each` seconds, with looks that take `look`; the steps looked at."""
        before = len(self.looks)

        def slow(_: nn.Module, step: int) -> None:
            self.looks.append((self.now, self.now + look, step))
            self.now += look

        looks = Looks(slow, kind, self.pace)
        for step in range(1, steps + 1):
            self.now += each
            looks.offer(MODEL, step)
        looks.last(MODEL, steps)
        return [step for _, _, step in self.looks[before:]]


@pytest.mark.parametrize("look", [0.01, 0.2, 4.5, 60.0])
def test_after_a_look_none_begins_for_twenty_times_as_long(look: float) -> None:
    """The steps that the review saw (62 of 0.18 s, looks of 4.5 s), many stages of them."""
    run = Worked()
    for _ in range(40):
        run.stage(62, 0.18, look)
    run.stage(20_000, 0.18, look)
    assert run.looks
    for (begin, end, _), (next_begin, _, _) in pairwise(run.looks):
        assert next_begin - end >= REST * (end - begin) - 1e-6


@pytest.mark.parametrize("look", [0.01, 0.05, 0.3, 1.0, 4.5])
@pytest.mark.parametrize("steps", [30, 62, 500, 3000])
def test_looks_take_at_most_a_twentieth_of_a_stage(look: float, steps: int) -> None:
    run = Worked()
    run.stage(3000, 0.18, look)  # from here on it is known what they take
    run.now += 1e6
    took = look * len(run.stage(steps, 0.18, look))
    assert took <= 0.05 * steps * 0.18 + 1e-9
    if look < 0.02:
        assert took, "and they are taken"
    first = Worked()
    assert look * (len(first.stage(steps, 0.18, look)) - 1) <= 0.05 * steps * 0.18


def test_the_last_look_of_a_short_stage_is_always_taken() -> None:
    run = Worked()
    for _ in range(5):
        assert run.stage(7, 0.125, look=2.0) == [7]
    assert run.stage(200, 0.125, look=2.0) == [], "25 s of work are no room for a look of 2 s"
    assert run.stage(500, 0.125, look=2.0) == [320]


def test_a_slow_kind_of_look_does_not_keep_a_quick_one_away_for_ever() -> None:
    run = Worked()
    run.stage(7, 0.125, look=2.0, kind="slow")
    assert run.stage(240, 0.125, look=0.01, kind="quick") == []
    assert len(run.stage(240, 0.125, look=0.01, kind="quick")) > 10


def test_the_outcome_is_looked_at_though_a_look_was_just_before() -> None:
    run = Worked()
    assert run.stage(12, 0.125, look=0.001) == [8, 12]


# --- rows ----------------------------------------------------------------------------------------

MANY = 1500


class Counted(nn.Module):
    """Passes on to a model, and counts the rows that it is asked of."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.rows = toy_model(), 0

    def forward(self, inputs: Tensor) -> Any:
        self.rows += len(inputs)
        return self.inner(inputs)


def many(attack: Attack, model: nn.Module) -> Subject:
    pixels, labels = toy_pixels(MANY)
    clean = TrainingSet(pixels, labels)
    poison = attack.craft(clean, torch.arange(0, MANY, 2), seed=0)  # type: ignore[attr-defined]
    data = TrainingSet(pixels, labels, poison)
    forget, everything = poison.rows, torch.arange(MANY)
    return Subject(
        model=model.eval(), retain=Rows(data, everything[1::2]), forget=Rows(data, forget),
        validation=Rows(clean, everything), test=Rows(clean, everything), base=Rows(clean, forget),
        poison=poison, seed=0, device="cpu", classes=CLASSES,
    )  # fmt: skip


@pytest.mark.parametrize("attack", [Gaussian(noise_std=0.3), BadNets(target=1)])
def test_rows_are_cut_before_they_are_scored(attack: Attack) -> None:
    model = Counted()
    (told,) = attack.glimpse(many(attack, model)).values()
    assert 0 < told["count"] <= model.rows <= 512


def test_attacks_that_look_are_those_that_cut() -> None:
    """Who adds a glimpse, adds it to the tests of how many rows it reads."""
    own = {name for name, cls in registered("attack").items() if cls.glimpse is not Attack.glimpse}  # type: ignore[attr-defined]
    assert own == {
        "gaussian", "badnets", "blended", "sig", "text-trigger", "gradient-matching", "imported",
    }  # fmt: skip


def test_of_few_rows_a_glimpse_tells_all() -> None:
    subject = many(Gaussian(noise_std=0.3), toy_model())
    few = subject.of_poison(torch.arange(MANY // 2) % 2 == 0)
    scores, _ = gaussian_scores(few)
    told = glimpse(few)
    assert told["count"] == len(scores)
    assert (told["mean"], told["std"]) == (float(scores.mean()), float(scores.std()))
    assert len(scores) > 300 and glimpse(subject, rows=100)["count"] <= 100
