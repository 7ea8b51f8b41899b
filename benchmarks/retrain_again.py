"""A third retraining of a seed: a perfect unlearner that is no part of the reference.

`retrain` and `retrain-fresh` make the null of a family; whoever wants to see how often the product
wrongs a perfect unlearner needs one more model, which is neither. `benchmarks/retrainings.py` makes
this a plug-in for its own runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class RetrainAgain(Method):
    """The recipe's training on the retained rows, from other weights and in another order.

    The new weights are those a retraining starts from, each tensor's entries in a random order.
    They are drawn independently and alike, so that is a draw of the same kind.
    """

    name: Literal["retrain-again"] = "retrain-again"

    reads: ClassVar = frozenset({"retain"})
    continues: ClassVar = False  # the rate's schedule ends where the training does
    card: ClassVar = Card(
        title="Retraining, a third seed",
        summary="Trains anew without the poisoned rows: a perfect unlearner, judged like a method.",
        reference="control",
        needs="the retain set",
        cost="the whole training, less the forget set's share",
    )

    def begin(self, task: UnlearnTask) -> None:
        import torch

        from engine.lab.training import make_optimizer

        generator = task.generator("again")
        start = task.fresh_model()
        with torch.no_grad():
            for weights in start.parameters():
                order = torch.randperm(weights.numel(), generator=generator, device=weights.device)
                weights.copy_(weights.flatten()[order].view_as(weights))
        task.model.load_state_dict(start.state_dict())
        task.state["optimizer"] = make_optimizer(task.model, task.recipe)

    def step(self, task: UnlearnTask) -> None:
        from engine.lab.randomness import stream
        from engine.lab.training import lr_factor, set_lr
        from engine.lab.unlearning import Finished

        # Else epochs would be shuffled as retraining's, and the two be closer than two seeds are.
        task.retain._seed = stream(task.seed, "again")
        size, epochs = task.recipe.batch_size, task.recipe.epochs
        if task.retain.drawn >= epochs * len(task.retain):
            raise Finished
        total = epochs * task.retain.batches_per_epoch(size)
        rate = task.recipe.lr * lr_factor(task.recipe, task.steps, total)
        set_lr(task.state["optimizer"], rate)
        task.train_mode()
        task.descend(task.loss(task.retain.batch(size)))
