"""Newton removal: what the last layer would be without the forget set, its features frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from torch import nn

    from engine.lab.unlearning import UnlearnTask
    from engine.spec.closed_form import ClosedForm

LARGEST = 10_000  # weights of a head: its Hessian is dense, 8 bytes × this squared


class NewtonHead(Method):
    """θ ← θ + H_retain⁻¹ Σ_forget ∇ℓ on the last linear layer; ℓ with its share of weight decay.

    Exact where the loss is quadratic and θ is a minimum, in error by O((|F|/N)²) where the loss is
    merely convex; further `newton_steps` go on to the exact minimum over the retain set. On a model
    that was solved for (ridge) it is retraining, up to rounding.
    """

    name: Literal["newton-head"] = "newton-head"
    newton_steps: int = Field(
        default=1,
        ge=1,
        description="1: the removal step from the forget set's gradient. More: Newton steps on the "
        "retain set's own objective after it (they also make up for unfinished training).",
    )
    l2: float | None = Field(
        default=None, ge=0, description="Weight decay of the objective; unset: the training's."
    )

    version: ClassVar = 2
    continues: ClassVar = False
    card: ClassVar = Card(
        title="Newton removal on the head (certified-removal style)",
        summary="Re-solves the last layer without the forget set by a Newton step in float64.",
        reference="Guo et al., Certified Data Removal from Machine Learning Models, ICML 2020",
        needs="retain and forget sets, a linear last layer of at most 10,000 weights, and weight "
        "decay (else the Hessian is singular)",
        cost="a forward pass over both sets, once; the Hessian and its solution take seconds that "
        "TEE does not count; a smaller budget uses a sample of the rows. On a model in closed form the "
        "Hessian is all the work and counted: nothing is saved over retraining",
        deviations="no noise in the objective, so no certificate; decoupled weight decay (AdamW) is "
        "taken for an L2 term; poison in the frozen features stays",
    )

    def begin(self, task: UnlearnTask) -> None:
        from engine.lab.context import NotApplicable
        from engine.lab.methods._head import head_of

        _, head = head_of(task.model, task.classes)
        if task.closed_form is not None:
            return
        size = sum(p.numel() for p in head.parameters())
        if size > LARGEST:
            raise NotApplicable(
                f"a head of {size:,} weights; a Newton step takes up to {LARGEST:,}"
            )
        if self._l2(task) == 0:
            raise NotApplicable("needs weight decay (or l2 > 0): the head's Hessian is singular")

    def step(self, task: UnlearnTask) -> None:
        from engine.lab.meter import tail
        from engine.lab.methods import _head
        from engine.lab.methods._rows import rows_seen
        from engine.lab.unlearning import Finished

        if task.steps:
            raise Finished
        _, head = _head.head_of(task.model, task.classes)
        if task.closed_form is not None:
            self._leave_out(task, head, task.closed_form)
            return
        example = task.retain.example()
        price = tail(_head.head_share(task.model, head, example))
        f, r = _affordable(task, price)
        forget_batches = task.forget.every(256, price, limit=f)
        retain_batches = task.retain.every(256, price, limit=r)
        rows_seen(task, forget=f, retain=r)

        # The training minimised the mean over N rows + l2/2 ‖θ‖²: each row brings its own l2.
        forget, retain = (
            _head.SoftmaxObjective(
                *_head.head_inputs(task.model, head, batches),
                scale=len(source) / count,
                ridge=self._l2(task) * len(source),
            )
            for batches, source, count in (
                (forget_batches, task.forget, f),
                (retain_batches, task.retain, r),
            )
        )
        weights = _head.head_weights(head)
        weights = weights + _head.newton_step(retain.hessian(weights), forget.gradient(weights))
        for _ in range(self.newton_steps - 1):
            weights = _head.descend(retain, weights)
        _head.set_head_weights(head, weights)

    def _leave_out(self, task: UnlearnTask, head: nn.Linear, how: ClosedForm) -> None:
        """The step where the objective is quadratic, its Hessian at the price of solving for it."""
        from engine.lab.methods import _head
        from engine.lab.methods._rows import rows_seen
        from engine.lab.solving import NormalEquations

        size = head.in_features, task.classes
        task.meter.charge(how.solving_price(*size))
        price = how.row_price(*size)
        f, r = _affordable(task, price)
        forget_batches = task.forget.every(256, price, limit=f)
        retain_batches = task.retain.every(256, price, limit=r)
        rows_seen(task, forget=f, retain=r)

        penalty = how.penalty if self.l2 is None else self.l2 * task.meter.rows
        scales = len(task.forget) / f, len(task.retain) / r
        forget = NormalEquations(task.model, head, forget_batches, 0.0, scales[0])
        retain = NormalEquations(task.model, head, retain_batches, penalty, scales[1])
        weights = _head.head_weights(head)
        weights = weights + retain.solve(forget.gradient(weights))
        for _ in range(self.newton_steps - 1):
            weights = weights - retain.solve(retain.gradient(weights))
        _head.set_head_weights(head, weights)

    def _l2(self, task: UnlearnTask) -> float:
        return task.recipe.weight_decay if self.l2 is None else self.l2


def _affordable(task: UnlearnTask, price: float) -> tuple[int, int]:
    """How many rows of the forget and the retain set fit at `price` each: the whole where it does."""
    left = task.remaining(price)
    f = max(1, min(len(task.forget), left // 2))
    return f, max(1, min(len(task.retain), left - f))
