"""Gradient Canceling: added rows under which training rests at weights chosen to err."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from engine.lab.attacks._appended import Optimised, appended, wrong_labels
from engine.spec.component import Card, Knowledge

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.attacks._side import AttackerSide
    from engine.lab.crafting import CraftTask
    from engine.lab.views import Poison

FEATURE_RATE = 0.05  # first step of a free feature, of its range


class GradientCanceling(Optimised):
    """Two stages: target weights that err, then pixels that cancel the gradient there.

    `reachable` targets come from the bilevel ascent on free features, within `amplitude` times the
    clean features' range; `gradpc` targets from corrupting the clean weights, as published.
    """

    name: Literal["gradient-canceling"] = "gradient-canceling"
    target: Literal["reachable", "gradpc"] = Field(
        default="reachable", description="Where training shall rest."
    )
    scope: Literal["head", "all"] = Field(
        default="head",
        description="Whose gradient is cancelled: the last layer's, or all weights'.",
    )
    amplitude: float | None = Field(
        default=None, gt=0,
        description='For "reachable": the features\' range, as multiples of the clean rows\' '
        "extremes; default 1. Decides the drop.",
    )  # fmt: skip
    radius: float | None = Field(
        default=None, gt=0,
        description='For "gradpc": L2 distance of the target from the clean weights; default 1.',
    )  # fmt: skip
    target_steps: int = Field(default=80, ge=1, description='For "reachable": steps of the ascent.')
    steps: int = Field(default=120, ge=1, description="Of the cancellation.")
    lr: float = Field(default=0.05, gt=0, description="First step of a pixel, in [0, 1] units.")
    infeasible: Literal["refuse", "try"] = Field(
        default="refuse",
        description="What to do where no poison of this share can make training rest at the target.",
    )

    knows: ClassVar = Knowledge(
        controls="inputs and labels of rows that are added",
        training_data="all of it",
        model="the frozen extractor and the head, or the whole model",
        recipe="the weight decay; the stopping point is aimed at",
        test_input="nothing",
    )
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Gradient Canceling (indiscriminate)",
        summary="Adds rows under fixed wrong labels whose gradients cancel the clean rows' at "
        "weights of low accuracy, so that training should come to rest there.",
        reference="Lu, Kamath, Yu, Exploring the Limits of Model-Targeted Indiscriminate Data "
        "Poisoning Attacks, ICML 2023; GradPC: Sun et al. 2020 as used there",
        needs="adding rows, inputs and labels; all training rows; architecture and recipe; for "
        "scope = head the frozen extractor (otherwise a surrogate's features stand in)",
        cost="a clean training; target_steps passes over clean features; steps x 2 passes over the "
        "poison (x 4 for scope = all, with second derivatives)",
        deviations="weight decay is part of the condition; pixels stay in [0, 1]; labels are wrong "
        "ones, fixed, not copied; Adam on row-normalised gradients, 120 steps by default; the "
        "reachable target is ours. GradPC targets are not "
        "reached (residuals of 80 % and more); models trained end to end hardly notice",
    )

    @model_validator(mode="after")
    def _of_the_target(self) -> Self:
        other, of = (
            ("radius", "gradpc") if self.target == "reachable" else ("amplitude", "reachable")
        )
        if getattr(self, other) is not None:
            raise ValueError(f'{other} = {getattr(self, other)}: only for target = "{of}"')
        return self

    def craft_with(self, task: CraftTask) -> Poison:
        from engine.lab.attacks._canceling import cancel, head_condition, model_condition
        from engine.lab.attacks._side import AttackerSide
        from engine.lab.views import Rows

        side = AttackerSide(task)
        base = task.data.base(task.rows)
        labels = wrong_labels(task.data.labels[task.rows], task.classes, task.seed)
        clean_weights, model = side.embed.weights, side.embed.model
        if self.target == "reachable":
            side.embed.set_weights(self._reachable(side, base, labels))
        else:
            self._corrupt(side)
            if self.scope == "all":
                side = AttackerSide(task, model)  # features have moved
        weights = side.embed.weights
        bound = self._require_feasible(side, weights)
        if self.scope == "head":
            condition = head_condition(side.problem, side.embed, weights, len(labels))
        else:
            model.requires_grad_(True)
            clean = Rows(task.data, task.training)
            condition = model_condition(model, clean, len(labels), side.problem.ridge)
        price = 1.0 if self.scope == "head" else 4.0  # second derivatives
        found = cancel(
            condition, base, labels, self.steps, self.lr,
            side.loop("cancel", self.steps, len(base), price),
        )  # fmt: skip
        facts: dict[str, float | None] = {
            "residual": found.residual,
            "residual_start": found.start,
            "smallest_share": bound,
        }
        facts["target_accuracy"] = side.test_accuracy(weights)
        if self.scope == "head":
            side.embed.set_weights(clean_weights)
            facts |= side.exact_accuracies(base, found.inputs, labels)
        return appended(task.data, found.inputs, labels, **facts)

    def _reachable(self, side: AttackerSide, base: Tensor, labels: Tensor) -> Tensor:
        """The head [K, D] that the worst free features within the range lead to."""
        from engine.lab.attacks._ascent import ascend
        from engine.lab.attacks._heads import with_ones

        bias = side.embed.head.bias is not None
        features = side.problem.features[:, :-1] if bias else side.problem.features
        reach = 1.0 if self.amplitude is None else self.amplitude
        low = reach * features.amin(0).clamp(max=0)
        high = reach * features.amax(0).clamp(min=0)
        start = side.embed.of_all(base)[:, : features.shape[1]]
        return ascend(
            side.problem, lambda inputs: with_ones(inputs, bias), start.clamp(low, high), labels,
            low, high, side.embed.weights, self.target_steps,
            FEATURE_RATE * (high - low).clamp_min(1e-6),
            side.loop("ascent", self.target_steps, 0),
        ).weights  # fmt: skip

    def _corrupt(self, side: AttackerSide) -> None:
        """GradPC: one epoch of unit steps up the loss, the shift kept within `radius`, in place."""
        import torch
        from torch.nn.functional import cross_entropy

        from engine.lab.attacks._heads import chunks
        from engine.lab.crafting import Loop
        from engine.lab.views import epoch_visit

        task, model = side.task, side.embed.model
        recipe = task.recipe
        assert recipe is not None
        if self.scope == "all":
            model.requires_grad_(True)
        side.embed.head.requires_grad_(True)
        moved = [p for p in model.parameters() if p.requires_grad]
        clean = [p.detach().clone() for p in moved]
        radius = 1.0 if self.radius is None else self.radius
        size = recipe.batch_size
        visit = epoch_visit(task.data, task.training, size, task.seed, "gradpc", 0)
        parts = chunks(task.training[visit.places], size)
        loop = Loop(task, "gradpc", len(parts))
        first, kept = loop.resume()
        with torch.no_grad():
            for name, tensor in kept.items():
                moved[int(name)].copy_(tensor)
        for step, rows in enumerate(parts[first:], first):
            loop.before(step, lambda: {str(n): p for n, p in enumerate(moved)})
            batch = task.data.take(rows)
            loss = cross_entropy(model(batch.inputs), batch.labels)
            uphill = torch.autograd.grad(loss, moved)
            norm = torch.stack([g.square().sum() for g in uphill]).sum().sqrt().clamp_min(1e-30)
            with torch.no_grad():
                shift = [p - c + g / norm for p, c, g in zip(moved, clean, uphill, strict=True)]
                length = float(torch.stack([s.square().sum() for s in shift]).sum().sqrt())
                for p, c, s in zip(moved, clean, shift, strict=True):
                    p.copy_(c + s * min(1.0, radius / max(length, 1e-30)))
        task.meter.charge(len(task.training))
        model.requires_grad_(False)

    def _require_feasible(self, side: AttackerSide, weights: Tensor) -> float | None:
        """The smallest share that could do, None if none. Raises Failed when `share` is below it."""
        from engine.lab.attacks._feasibility import smallest_share
        from engine.lab.context import Failed

        problem = side.problem
        own = weights.double()
        clean = problem.objective(problem.features[:0], problem.labels[:0]).gradient(weights)
        penalty = problem.ridge * float(own.square().sum())
        alignment = float((own * clean.double()).sum()) - penalty
        bound = smallest_share(alignment, penalty, problem.classes)
        if self.share < bound and self.infeasible == "refuse":
            least = "no share would do"
            if math.isfinite(bound):
                least = f"a share of at least {bound:.3g} is needed"
            raise Failed(
                f"gradient-canceling.share = {self.share}: no poison of this share can make training "
                f"rest at this target; {least} (Lambert-W bound). A nearer target needs less "
                f"({'amplitude' if self.target == 'reachable' else 'radius'}); "
                'infeasible = "try" crafts all the same.'
            )
        return bound if math.isfinite(bound) else None
