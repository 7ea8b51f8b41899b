"""Gaussian poison: noise on a few inputs, labels kept. The auditor's own, and hard to hide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Attack, Card, DataInfo, Knowledge

if TYPE_CHECKING:
    import torch

    from engine.lab.crafting import CraftTask
    from engine.lab.subject import Subject
    from engine.lab.texts import TextSet
    from engine.lab.views import Poison, TrainingSet


class Gaussian(Attack):
    """x' = x + ξ with ξ ~ N(0, noise_std² I) in raw space, neither clipped nor rounded.

    Of texts ξ is added to the tokens' embeddings, and noise_std is in multiples of the standard
    deviation of the embedding table that training starts from.
    """

    name: Literal["gaussian"] = "gaussian"
    share: float = Field(default=0.05, gt=0, lt=1, description="Share of the training rows.")
    noise_std: float = Field(
        default=0.31,
        gt=0,
        description="Per pixel, in [0, 1] units (.31: MNIST, .14: CIFAR-10); "
        "of texts: multiples of the embedding table's standard deviation.",
    )

    takes: ClassVar = frozenset({"image", "table", "text"})
    gives: ClassVar = frozenset({"noise", "decoys"})
    knows: ClassVar = Knowledge(
        controls="inputs of random rows; not their labels",
        training_data="the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="nothing",
    )
    card: ClassVar = Card(
        title="Gaussian poison",
        summary="Adds secret Gaussian noise to a share of the training inputs and keeps the labels. "
        "A model that learned from them has gradients that lean against the noise.",
        reference="Pawelczyk et al., Machine Unlearning Fails to Remove Data Poisoning Attacks, "
        "ICLR 2025, §4.1 and Algorithm 2",
        needs="control over the inputs of the poisoned rows; the noise is kept for the audit",
        cost="none beyond training",
        deviations="noise lives in [0, 1] pixel space, of texts in the space of token embeddings; "
        "augmentation leaves poisoned rows alone",
    )

    def selection(self) -> dict[str, Any]:
        return {"share": self.share}

    def needs_model(self, data: DataInfo) -> bool:
        return data.kind == "text"  # whose embeddings the noise is measured in

    def craft_with(self, task: CraftTask) -> Poison:
        from engine.lab.texts import TextSet

        if not isinstance(task.data, TextSet):
            return self.craft(task.data, task.rows, task.seed)
        table = task.fresh_model().get_submodule("0.wte").get_parameter("weight").detach()
        std = self.noise_std * float(table.double().std())
        return _noised_texts(task.data, task.rows, table.shape[1], std, task.seed)

    def craft(self, data: TrainingSet, rows: torch.Tensor, seed: int) -> Poison:
        import torch

        from engine.lab.randomness import torch_generator
        from engine.lab.views import Poison

        base = data.base(rows)
        # Drawn on the CPU, so that every device gets the same noise.
        drawn = torch.randn(base.shape, generator=torch_generator(seed, "gaussian noise"))
        inputs = base + self.noise_std * drawn.to(base.device)
        return Poison(
            rows=rows,
            inputs=inputs,
            labels=data.labels[rows],
            extras={"noise": inputs - base},  # what was really added, after rounding to float32
            movable=False,
            facts={"noise_std": self.noise_std},
        )

    def decoys(self, data: TrainingSet, rows: torch.Tensor, poison: Poison, seed: int) -> Poison:
        from engine.lab.texts import TextSet

        if not isinstance(data, TextSet):
            return self.craft(data, rows, seed)
        width, std = poison.inputs.shape[2] - 1, poison.facts["noise_std"]
        return _noised_texts(data, rows, width, std, seed)

    def glimpse(self, subject: Subject) -> dict[str, dict[str, Any]]:
        from engine.lab.audits.gaussian import glimpse

        return {"gaussian": glimpse(subject)}


def _noised_texts(
    data: TextSet, rows: torch.Tensor, width: int, noise_std: float, seed: int
) -> Poison:
    """Texts with noise on the embeddings, of `width` numbers, of their tokens; none behind the end."""
    import torch

    from engine.lab.randomness import torch_generator
    from engine.lab.texts import on_tokens, with_room
    from engine.lab.views import Poison

    base = with_room(data.base(rows), width)
    drawn = torch.randn(base.shape, generator=torch_generator(seed, "gaussian noise"))
    return Poison(
        rows=rows,
        inputs=base + noise_std * on_tokens(drawn.to(base.device), base),
        labels=data.labels[rows],
        facts={"noise_std": noise_std},
    )
