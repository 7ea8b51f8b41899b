"""SSD: dampen the weights that matter more to the forget set than to the whole training set."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from engine.lab.methods._rows import Tree
    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch


class SSD(Method):
    """θ_i ← θ_i · min(1, dampening · I_all / I_forget) wherever I_forget > selection · I_all.

    I is the diagonal Fisher information at the poisoned model, over the forget set and over the
    whole training set: the mean over rows of the squared gradient.
    """

    name: Literal["ssd"] = "ssd"
    selection: float = Field(
        default=10.0, ge=0, description="A weight is dampened if its importance ratio exceeds this."
    )
    dampening: float = Field(
        default=1.0, ge=0, description="Larger dampens less; 0 sets the selected weights to 0."
    )
    fisher: Literal["per-sample", "batch"] = Field(
        default="per-sample",
        description="Squares of single rows' gradients; or of batches' mean gradients, as the "
        "reference code has it (the value then depends on the batch size).",
    )
    batch_size: int = Field(default=128, ge=1, description='Of fisher = "batch", for both sets.')

    search: ClassVar = {"selection": (3.0, 10.0, 30.0)}
    continues: ClassVar = False
    card: ClassVar = Card(
        title="SSD (selective synaptic dampening)",
        summary="Shrinks weights far more important to the forget set than to all data; no training.",
        reference="Foster et al., Fast Machine Unlearning without Retraining through Selective "
        "Synaptic Dampening, AAAI 2024",
        needs="retain and forget sets",
        cost="1 TEE, once, whatever the settings; a smaller budget uses a sample of the rows",
        deviations="per-row gradients by default, not batches' means; rows are not augmented; with "
        '"batch" both sets use the same batch size, no larger than the forget set, and the ragged '
        "end is left out; biases and normalisation weights are dampened too, buffers are not",
    )

    def step(self, task: UnlearnTask) -> None:
        import torch

        from engine.lab.unlearning import Finished

        if task.steps:
            raise Finished
        whole, forget = self._batched(task) if self.fisher == "batch" else self._per_sample(task)
        with torch.no_grad():
            for name, parameter in task.model.named_parameters():
                selected = forget[name] > self.selection * whole[name]
                factor = (self.dampening * whole[name] / forget[name]).clamp(max=1)
                shrunk = (parameter.double() * factor).to(parameter.dtype)
                parameter.copy_(torch.where(selected, shrunk, parameter))

    def _per_sample(self, task: UnlearnTask) -> tuple[Tree, Tree]:
        """Importances for all rows and for the forget set. The forget set is read once: all = R ∪ F."""
        from engine.lab.methods._rows import BATCH, label_gradient, mean_of, per_row, rows_seen

        gradient = label_gradient(task.row_loss)
        left = task.remaining()
        r = min(len(task.retain), max(left - len(task.forget), left // 2, 1))
        f = min(len(task.forget), max(left - r, 1))
        draws = (task.retain.every(BATCH, limit=r), r), (task.forget.every(BATCH, limit=f), f)
        retain, forget = (
            mean_of(
                task.model,
                per_row(task.model, batches, lambda *row: _squares(gradient(*row))),
                count,
            )
            for batches, count in draws
        )
        rows_seen(task, retain=r, forget=f)
        share = len(task.forget) / (len(task.retain) + len(task.forget))
        whole = {name: (1 - share) * retain[name] + share * forget[name] for name in forget}
        return whole, forget

    def _batched(self, task: UnlearnTask) -> tuple[Tree, Tree]:
        """The reference's importances: E (mean gradient of a batch)², whole batches in random order."""
        from engine.lab.methods._rows import BATCH, rows_seen

        size = min(self.batch_size, len(task.forget))
        left = task.remaining()
        f = max(1, min(len(task.forget), left // 3) // size) * size
        rows = max(1, min(task.meter.rows, left - f) // size) * size
        of_forget = round(rows * len(task.forget) / task.meter.rows)
        mixed = [*task.retain.every(BATCH, limit=rows - of_forget)]
        mixed += task.forget.every(BATCH, limit=of_forget)
        alone = [*task.forget.every(BATCH, limit=f)]
        rows_seen(task, retain=rows - of_forget, forget=of_forget, forget_alone=f)
        return _batch_squares(task, mixed, size), _batch_squares(task, alone, size)


def _squares(tree: Tree) -> Tree:
    return {name: grad.square() for name, grad in tree.items()}


def _batch_squares(task: UnlearnTask, batches: list[Batch], size: int) -> Tree:
    import torch

    from engine.lab.methods._rows import mean_of
    from engine.lab.texts import is_text, joined, lengths_of
    from engine.lab.views import Visit

    model = task.model.eval()
    inputs = joined([batch.inputs for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    order = torch.randperm(len(labels), generator=task.generator("ssd"), device=labels.device)
    lengths = lengths_of(inputs).cpu()[order.cpu()] if is_text(inputs) else None
    visit = Visit(order, lengths)
    names = [name for name, _ in model.named_parameters()]
    starts = range(0, len(order) - size + 1, size)

    def squares(start: int) -> Tree:
        part = slice(start, start + size)
        rows = visit.places[part]
        loss = task.loss_of(model(inputs[rows, : visit.width(part)]), labels[rows])
        grads = torch.autograd.grad(loss, list(model.parameters()))
        return {name: grad.square()[None] for name, grad in zip(names, grads, strict=True)}

    return mean_of(model, map(squares, starts), len(starts))
