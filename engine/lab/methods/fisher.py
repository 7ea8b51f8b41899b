"""Fisher forgetting: noise on every weight, the more the less the retain set cares about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from engine.lab.methods._rows import Tree
    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch


class Fisher(Method):
    """θ_i ← θ_i + √v_i z_i, z ~ N(0, I), v = noise_scale · min(1/(I + 1e-8), 1000) per output unit.

    I is the diagonal of the true Fisher information over the retain set, E_x Σ_y p(y|x) (∂ℓ/∂θ)²:
    labels are the model's own, not the data's.
    """

    name: Literal["fisher"] = "fisher"
    noise_scale: float = Field(
        default=1e-7, ge=0, description="Noise variance × Fisher information; 0 changes nothing."
    )
    labels: Literal["all", "sampled"] = Field(
        default="all",
        description="Sum over every label of a row, a backward pass each; or one label drawn from "
        "the model's prediction: unbiased, and cheaper (4/3 of training a row).",
    )

    search: ClassVar = {"noise_scale": (1e-8, 1e-7, 1e-6)}
    reads: ClassVar = frozenset({"retain"})
    continues: ClassVar = False
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Fisher forgetting",
        summary="Blurs weights in inverse proportion to their importance for the retain set.",
        reference="Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020",
        needs="the retain set",
        cost="(1 + 2K)/3 of training a row for K classes (all labels), once; a smaller budget uses "
        "a sample of the rows",
        deviations="the classifier is found by its place, not by its width; noise variance is "
        "averaged over all inputs of a unit, kernel positions included; no special case for "
        "forgetting a class",
    )

    def step(self, task: UnlearnTask) -> None:
        import torch

        from engine.lab.meter import FORWARD
        from engine.lab.methods._head import head_of
        from engine.lab.methods._rows import BATCH, mean_of, per_row, rows_seen
        from engine.lab.unlearning import Finished

        if task.steps:
            raise Finished
        head, _ = head_of(task.model, task.classes)
        prefix = f"{head}." if head else ""
        price = FORWARD + (2 / 3 * task.classes if self.labels == "all" else 1.0)
        count = max(1, min(len(task.retain), task.remaining(price)))
        batches = task.retain.every(BATCH, price, limit=count)
        rows_seen(task, retain=count)
        if self.labels == "sampled":
            batches = (_sampled(task, batch, part) for part, batch in enumerate(batches))
        measure = _every_label if self.labels == "all" else _own_label
        information = mean_of(task.model, per_row(task.model, batches, measure), count)
        generator = task.generator("fisher noise")
        with torch.no_grad():
            for name, parameter in task.model.named_parameters():
                variance = self.variance(information[name], of_head=name.startswith(prefix))
                noise = torch.empty_like(parameter).normal_(generator=generator)
                parameter.add_(noise * variance.sqrt().to(parameter.dtype))

    def variance(self, information: torch.Tensor, of_head: bool) -> torch.Tensor:
        """v of one tensor: the classifier is capped lower; it and vectors get ten times the noise."""
        inverse = (1 / (information + 1e-8)).clamp(max=1e2 if of_head else 1e3)
        if inverse.ndim > 1:
            inverse = inverse.mean(dim=tuple(range(1, inverse.ndim)), keepdim=True)
        louder = 10 if of_head or information.ndim == 1 else 1
        return (self.noise_scale * louder * inverse).expand_as(information)


def _every_label(
    logits: torch.Tensor, label: torch.Tensor, pull: Callable[[torch.Tensor], Tree]
) -> Tree:
    import torch

    chances = logits.softmax(0)
    total: Tree = {}
    for own, chance in zip(torch.eye(len(logits), device=logits.device), chances, strict=True):
        for name, grad in pull(chances - own).items():
            term = chance * grad.square()
            total[name] = total[name] + term if name in total else term
    return total


def _own_label(
    logits: torch.Tensor, label: torch.Tensor, pull: Callable[[torch.Tensor], Tree]
) -> Tree:
    from engine.lab.methods._rows import label_gradient

    gradient = label_gradient("cross-entropy")(logits, label, pull)
    return {name: grad.square() for name, grad in gradient.items()}


def _sampled(task: UnlearnTask, batch: Batch, part: int) -> Batch:
    """The batch with labels drawn from the model's own predictions."""
    import torch

    with torch.no_grad():
        chances = task.model.eval()(batch.inputs).softmax(1)
    drawn = chances.multinomial(1, generator=task.generator(f"fisher labels {part}"))
    return batch._replace(labels=drawn[:, 0])
