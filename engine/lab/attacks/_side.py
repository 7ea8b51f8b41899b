"""What an attacker of the head knows: a surrogate, its features of the clean rows, the recipe."""

from __future__ import annotations

from torch import Tensor, nn

from engine.lab.attacks._heads import Embedding, HeadProblem
from engine.lab.context import Failed
from engine.lab.crafting import CraftTask, Loop
from engine.lab.meter import FORWARD, TRAIN
from engine.lab.views import Rows


class AttackerSide:
    """The clean training rows as the surrogate's last layer reads them, and the head's training.

    `model` stands in for the surrogate, if given. Raises Failed without weight decay: the head's
    optimum would lie at infinity.
    """

    def __init__(self, task: CraftTask, model: nn.Module | None = None) -> None:
        assert task.recipe is not None
        ridge = task.recipe.weight_decay
        if ridge == 0:
            raise Failed("train.weight_decay = 0: the attack needs a head that has an optimum")
        self.task = task
        self.embed = Embedding(model or task.surrogates()[0], task.classes)
        features, labels = self.embed.of(Rows(task.data, task.training).batches())
        task.meter.charge(len(labels), FORWARD)
        self.problem = HeadProblem(features, labels, task.classes, ridge)

    def loop(self, name: str, steps: int, poisons: int, price: float = TRAIN) -> Loop:
        """A loop whose steps are charged the poison's passes: the head's attacks read it forward,
        then forward and back to the pixels."""
        return Loop(self.task, name, steps, lambda: self.task.meter.charge(poisons, price))

    def test_accuracy(self, weights: Tensor) -> float:
        """Of a head [K, D] on the attacker's features; for the record only."""
        test, truth = self.embed.of(self.task.test.batches())
        return self.problem.accuracy(weights, test, truth)

    def exact_accuracies(self, base: Tensor, inputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Test accuracy of the exact head: clean, with plain label flips, with the poison.

        For the record only: nothing is chosen by it. `base` [P, C, H, W] are the unchanged rows.
        """
        test, truth = self.embed.of(self.task.test.batches())
        problem = HeadProblem(
            self.problem.features.double(), self.problem.labels, self.problem.classes,
            self.problem.ridge,
        )  # fmt: skip
        told, start = {}, self.embed.weights.double()
        for name, added in (("clean", inputs[:0]), ("flipped", base), ("poisoned", inputs)):
            features = self.embed.of_all(added) if len(added) else self.problem.features[:0]
            start = problem.optimum(
                features.double(), labels[: len(added)], start, steps=10, solves=100
            )
            told[f"exact_{name}_accuracy"] = problem.accuracy(start, test.double(), truth)
        return told
