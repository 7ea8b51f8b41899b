"""Label attacks change labels only, wrongly and evenly; the confusion test counts what they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.lab.attacks._labels import partners, swap_two
from engine.lab.attacks.interclass_confusion import InterclassConfusion as Confusion
from engine.lab.attacks.label_flip import LabelFlip
from engine.lab.audits.interclass_confusion import InterclassConfusion, mcnemar
from engine.lab.selection import choose
from engine.lab.subject import Subject
from engine.lab.views import Rows, TrainingSet
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from tests.helpers import Run, run_plan, small_experiment
from tests.lab.toys import CLASSES, toy_model, toy_pixels, toy_subject

ATTACKS = [LabelFlip(share=0.3), Confusion(classes=(0, 2), share=0.3)]
each = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


def poisoned(attack: LabelFlip | Confusion, rows: int = 60, seed: int = 0) -> TrainingSet:
    data = TrainingSet(*toy_pixels(rows))
    chosen = choose(attack.selection(), np.arange(rows), data.labels.numpy(), seed)
    poison = attack.craft(data, torch.from_numpy(chosen), seed)
    return TrainingSet(data.pixels, data.labels, poison)


def clean_labels(data: TrainingSet) -> Tensor:
    return toy_pixels(len(data))[1]


@each
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_label_is_wrong_and_no_class_grows(attack: LabelFlip | Confusion, seed: int) -> None:
    data = poisoned(attack, seed=seed)
    assert data.poison is not None and len(data.poison.rows) == 18
    before, after = clean_labels(data), data.labels
    assert torch.equal(torch.bincount(before), torch.bincount(after))
    assert (before != after).nonzero().flatten().tolist() == data.poison.rows.tolist()
    clean = TrainingSet(*toy_pixels(len(data)))
    everything = torch.arange(len(data))
    assert torch.equal(data.take(everything).inputs, clean.take(everything).inputs)


@each
def test_twice_is_none(attack: LabelFlip | Confusion) -> None:
    data = poisoned(attack)
    assert data.poison is not None
    rows = data.poison.rows
    if isinstance(attack, Confusion):
        again = swap_two(data.labels[rows], *attack.classes)
    else:
        order = partners(clean_labels(data)[rows], 0)
        again = data.labels[rows][order]
    assert torch.equal(again, clean_labels(data)[rows])


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(0, 3))
@settings(deadline=None, max_examples=150)
def test_partners_are_mutual_and_of_another_class_wherever_that_can_be(
    told: list[int], seed: int
) -> None:
    labels = torch.tensor(told, dtype=torch.long)
    found = partners(labels, seed)
    count = len(told)
    assert torch.equal(found[found], torch.arange(count))
    alone = found == torch.arange(count)
    assert (labels[found][~alone] != labels[~alone]).all()
    most = max((told.count(label) for label in told), default=0)
    assert int(alone.sum()) == max(count % 2, 2 * most - count)


def test_the_partners_class_is_not_told_by_ones_own() -> None:
    """Label noise, not a confusion of fixed pairs of classes."""
    labels = torch.arange(3000) % 5
    seen = labels[partners(labels, 1)]
    for label in range(5):
        counts = torch.bincount(seen[labels == label], minlength=5)
        assert counts[label] == 0 and counts[torch.arange(5) != label].min() > 100


def test_confusion_takes_half_from_either_class() -> None:
    data = poisoned(ATTACKS[1])
    assert data.poison is not None
    true = clean_labels(data)[data.poison.rows]
    assert torch.bincount(true, minlength=3).tolist() == [9, 0, 9]


def test_confusion_refuses_what_cannot_work() -> None:
    info = DataInfo("d", 90, 30, (1, 6, 6), ("a", "b", "c"), (30, 30, 30))
    with pytest.raises(BadInput, match="0 to 2"):
        Confusion(classes=(1, 3)).check(info, 90)
    with pytest.raises(BadInput, match=r"largest share possible is 0\.667"):
        Confusion(classes=(0, 1), share=0.9).check(info, 90)
    with pytest.raises(ValueError, match="two different"):
        Confusion(classes=(1, 1))


# --- the audit -----------------------------------------------------------------------------------


class Answers(nn.Module):
    """Answers by the brightness of a row, which tells its class; `answer` maps class to answer."""

    def __init__(self, answer: list[int]) -> None:
        super().__init__()
        self.answer = torch.tensor(answer)

    def forward(self, inputs: Tensor) -> Tensor:
        label = ((inputs.flatten(1).mean(1) * 255 - 59.5) / 60).round().long().clamp(0, 2)
        return nn.functional.one_hot(self.answer[label], CLASSES).float()


def audited(model: nn.Module, retrain: nn.Module) -> dict[str, float | None]:
    test = Rows(TrainingSet(*toy_pixels(60)), torch.arange(60))
    subject: Subject = toy_subject(model, poisoned(ATTACKS[1]))
    subject = replace(subject, test=test, load=lambda role: {"retrain": retrain}[role])
    measured = InterclassConfusion().measure(subject).metrics
    assert measured.keys() == InterclassConfusion.metrics.keys()
    return dict(measured)


def test_a_right_model_confuses_nothing_and_a_swapped_one_everything() -> None:
    right, swapped, third = Answers([0, 1, 2]), Answers([2, 1, 0]), Answers([1, 1, 1])
    told = audited(right, right)
    assert told["test_confusion"] == told["test_error"] == told["forget_confusion"] == 0
    assert told["forget_error"] == told["retain_confusion"] == 0 and told["count"] == 40
    assert told["mcnemar_p"] == 1
    told = audited(swapped, right)
    assert told["test_confusion"] == told["test_error"] == told["forget_confusion"] == 1
    assert told["forget_error"] == told["retain_confusion"] == 1
    assert told["mcnemar_p"] is not None and told["mcnemar_p"] < 1e-9
    told = audited(third, right)
    assert told["test_confusion"] == told["forget_confusion"] == 0
    assert told["test_error"] == told["forget_error"] == 1


def test_mcnemar_counts_rows_that_just_one_gets_right() -> None:
    one = torch.tensor([True] * 8 + [False] * 5)
    other = torch.tensor([True] * 2 + [False] * 11)
    assert mcnemar(one, other) == pytest.approx(2 / 2**6)
    assert mcnemar(one, other) == mcnemar(other, one)


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    return run_plan(
        small_experiment(
            attacks=[{"name": "interclass-confusion", "share": 0.12}, {"name": "label-flip"}],
            methods=[{"name": name} for name in ("none", "retrain", "retrain-fresh")],
            audits=[{"name": "interclass-confusion"}, {"name": "accuracy"}, {"name": "mia-loss"}],
        ),
        workshop,
    )


def test_the_poisoned_model_confuses_and_the_retrained_one_less(run: Run) -> None:
    found = {
        method: run.metrics(method=method, audit="interclass-confusion")
        for method in ("none", "retrain")
    }
    assert found["none"]["forget_confusion"] > found["retrain"]["forget_confusion"] + 0.2
    assert found["none"]["test_confusion"] > found["retrain"]["test_confusion"]
    assert found["retrain"]["mcnemar_p"] == 1, "retraining against itself"
    assert not run.cells(attack="label-flip", audit="interclass-confusion")
    assert run.metrics(attack="label-flip", method="none", audit="mia-loss")["auc"] > 0.55


def test_a_toy_model_is_audited() -> None:
    told = audited(toy_model(), toy_model(1))
    assert all(value is None or 0 <= value <= 40 for value in told.values())
