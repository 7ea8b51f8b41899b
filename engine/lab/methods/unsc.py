"""UNSC: relabel the forget set, moving weights only where the retain set cannot feel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Card, Method

if TYPE_CHECKING:
    import torch

    from engine.lab.unlearning import UnlearnTask
    from engine.lab.views import Batch

BASIS = "basis/"


class UNSC(Method):
    """W ← W - lr (G - G U Uᵀ), G = ∇ cross-entropy of F on pseudo-labels, layer by layer.

    U is an orthonormal basis of what the layer reads on retained rows: W u stays as it is for every
    u in it, so retained rows keep their outputs. Pseudo-labels are the poisoned model's best class
    other than the one the row was trained on.
    """

    name: Literal["unsc"] = "unsc"
    lr: float = Field(default=0.04, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    epochs: int = Field(default=25, ge=1, description="Passes over the forget set, at most.")
    batch_size: int = Field(default=512, ge=1)
    energy: float = Field(
        default=0.99, gt=0, le=1, description="Of a layer's retained inputs, kept by its basis."
    )
    basis_rows: int = Field(default=512, ge=1, description="Retained rows that make the bases.")
    patches: int = Field(
        default=2048, ge=1, description="Inputs of one layer, at most: patches of images, tokens."
    )

    version: ClassVar = 2  # bases are contiguous, so that a snapshot goes on to the same bits
    search: ClassVar = {"lr": (0.001, 0.002, 0.004, 0.04)}
    card: ClassVar = Card(
        title="UNSC (null-space calibration)",
        summary="Trains the forget set towards its second-best class within the null space of the "
        "retain set, layer by layer.",
        reference="Chen et al., Machine Unlearning via Null Space Calibration, IJCAI 2024",
        needs="the forget set, and a few retained rows for the bases",
        cost="a forward pass over basis_rows, then 4/3 of training a forget row; the "
        "decompositions take seconds that TEE does not count",
        deviations="SGD, also where training used AdamW; for any forget set, not a class: one "
        "joint basis over retained rows of all classes, the smallest that reaches `energy`; the "
        "pseudo-label excludes the trained-on one; only weights of linear layers and of "
        "convolutions move: vectors, embeddings, BatchNorm statistics and the projections of "
        "torch's MultiheadAttention stay",
    )

    def begin(self, task: UnlearnTask) -> None:
        from engine.lab.context import NotApplicable
        from engine.lab.meter import FORWARD
        from engine.lab.methods._nullspace import basis, layer_inputs
        from engine.lab.unlearning import frozen_copy

        rows = min(self.basis_rows, len(task.retain))
        batches = task.retain.every(32, FORWARD, limit=rows)
        seen = layer_inputs(task.model, batches, rows, self.patches, task.generator("unsc patches"))
        task.state["start"] = frozen_copy(task.model)
        task.model.requires_grad_(False)
        for name, inputs in seen.items():
            directions = basis(inputs, self.energy)
            task.state[BASIS + name] = directions
            if directions.shape[1] < len(directions):
                task.model.get_parameter(name).requires_grad_(True)
        if not any(p.requires_grad for p in task.model.parameters()):
            raise NotApplicable(
                "retained inputs span every layer's whole input space: nothing may move "
                "(less energy or fewer basis_rows would leave room)"
            )
        task.state["optimizer"] = task.sgd(self.lr, self.momentum)

    def step(self, task: UnlearnTask) -> None:
        from engine.lab.meter import FORWARD, TRAIN
        from engine.lab.methods._nullspace import felt, layers
        from engine.lab.unlearning import Finished

        if task.forget.drawn >= self.epochs * len(task.forget):
            raise Finished
        batch = task.forget.batch(self.batch_size, TRAIN + FORWARD)
        labels = self.pseudo_labels(task, batch)
        task.train_mode("frozen")
        optimizer = task.state["optimizer"]
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss_of(task.logits(batch), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, layer in layers(task.model).items():
            parameter = task.model.get_parameter(name)
            if parameter.requires_grad and parameter.grad is not None:
                parameter.grad.sub_(felt(layer, parameter.grad, task.state[BASIS + name]))
        optimizer.step()
        task.mean_loss.add(loss)

    def pseudo_labels(self, task: UnlearnTask, batch: Batch) -> torch.Tensor:
        """int64 [B]: the poisoned model's best class, the trained-on one left out."""
        import torch

        with torch.no_grad():
            logits = task.logits(batch, task.state["start"]).float()
        return logits.scatter(1, batch.labels[:, None], -torch.inf).argmax(1)
