"""Influence unlearning: one step against the forget set's gradient, through an inverse Fisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from engine.lab.methods._rows import Tree
    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch


class Influence(Method):
    """θ ← θ + scale · (λI + E g gᵀ)⁻¹ v, v = |F|/N · (∇L_forget - ∇L_retain).

    g are gradients of single retained rows on their labels (the empirical Fisher). The sign is plus:
    a training without F would have ended where F's loss is higher. λ = damping · E ‖g‖².
    """

    name: Literal["influence"] = "influence"
    scale: float = Field(default=1.0, ge=0, description="1 is the estimate itself; 0 does nothing.")
    damping: float = Field(
        default=0.01,
        gt=0,
        description="λ as a share of the Fisher's trace: directions that carry less curvature than "
        "this count as flat. Less damping makes a larger step.",
    )
    curvature_rows: int = Field(
        default=256, ge=1, description="Retained rows whose gradients make the Fisher, at most."
    )
    memory: float = Field(
        default=1.0, gt=0, description="GB for these gradients: large models get fewer rows."
    )

    search: ClassVar = {"damping": (0.001, 0.003, 0.01)}
    continues: ClassVar = False
    card: ClassVar = Card(
        title="Influence unlearning (WoodFisher)",
        summary="Estimates by influence functions where training without the forget set would "
        "have ended, and goes there in one step.",
        reference="Izzo et al., AISTATS 2021; Singh & Alistarh (WoodFisher), NeurIPS 2020; "
        "baseline IU of Jia et al., NeurIPS 2023",
        needs="retain and forget sets",
        cost="1 TEE and 1 for each curvature row, once; a smaller budget uses samples; the Gram matrix "
        "of the curvature rows is not counted",
        deviations="the inverse is exact for its rows (Woodbury identity), where the reference "
        "recursion spends its first row as a starting vector; damping is explicit and relative, "
        "there it is 1; fewer rows by default (there about 1,000)",
    )

    def step(self, task: UnlearnTask) -> None:
        import torch

        from engine.lab.methods._rows import BATCH, label_gradient, per_row, rows_seen
        from engine.lab.unlearning import Finished

        if task.steps:
            raise Finished
        forget, rows, retain = self._affordable(task)
        forget_batches = task.forget.every(256, limit=forget)
        curvature_batches = task.retain.every(BATCH, limit=rows)
        retain_batches = task.retain.every(256, limit=retain)
        rows_seen(task, forget=forget, curvature=rows, retain=retain)

        difference = _mean_gradient(task, forget_batches, forget)
        difference -= _mean_gradient(task, retain_batches, retain)
        difference *= len(task.forget) / task.meter.rows
        gradients = difference.new_empty(rows, len(difference), dtype=torch.float32)
        done = 0
        for tree in per_row(task.model, curvature_batches, label_gradient(task.row_loss)):
            part = _flat(tree)
            gradients[done : done + len(part)] = part
            done += len(part)
        step = self.scale * inverse_product(gradients, difference, self.damping)
        parameters = list(task.model.parameters())
        pieces = torch.split(step, [p.numel() for p in parameters])
        with torch.no_grad():
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.add_(piece.view(parameter.shape).to(parameter.dtype))

    def _affordable(self, task: UnlearnTask) -> tuple[int, int, int]:
        """Rows of the forget set, of the curvature, and of the retain set: the whole where it fits."""
        left = task.remaining()
        weights = sum(p.numel() for p in task.model.parameters())
        held = max(1, int(self.memory * 1e9 / (4 * weights)))
        forget = max(1, min(len(task.forget), left // 3))
        rows = max(1, min(self.curvature_rows, held, len(task.retain), (left - forget) // 2))
        return forget, rows, max(1, min(len(task.retain), left - forget - rows))


def inverse_product(rows: torch.Tensor, vector: torch.Tensor, damping: float) -> torch.Tensor:
    """(λI + rowsᵀ rows / n)⁻¹ vector with λ = damping · mean ‖row‖²; float64 [P].

    By the Woodbury identity only an n × n matrix is solved. Rows float32 or float64 [n, P].
    """
    import torch

    n, size = rows.shape
    blocks = [slice(start, start + 16384) for start in range(0, size, 16384)]
    inner = torch.zeros(n, n, dtype=torch.float64, device=rows.device)
    projected = inner.new_zeros(n)
    for block in blocks:
        inner += rows[:, block] @ rows[:, block].T
        projected += rows[:, block].double() @ vector[block]
    ridge = damping * inner.diagonal().mean()
    if not ridge > 0:
        return torch.zeros_like(vector)  # every row is fitted perfectly: there is no curvature
    inner.diagonal().add_(n * ridge)
    solved = torch.cholesky_solve(projected[:, None], torch.linalg.cholesky(inner))[:, 0]
    back = torch.cat([rows[:, block].T.double() @ solved for block in blocks])
    return (vector - back) / ridge


def _mean_gradient(task: UnlearnTask, batches: Iterable[Batch], count: int) -> torch.Tensor:
    """∇ of the training's mean loss over `count` rows, flat float64 [P], in eval mode and float32."""
    import torch

    parameters = list(task.model.eval().parameters())
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64, device=task.device)
    for batch in batches:
        loss = task.loss_of(task.model(batch.inputs), batch.labels, reduction="sum")
        grads = torch.autograd.grad(loss, parameters)
        total += torch.cat([grad.reshape(-1) for grad in grads])
    return total / count


def _flat(tree: Tree) -> torch.Tensor:
    """[B, P], parameters in the model's order."""
    import torch

    return torch.cat([grad.reshape(len(grad), -1) for grad in tree.values()], dim=1)
