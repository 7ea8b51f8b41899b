"""EU-k: train the last k layers anew on the retain set, the rest frozen (exact unlearning)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.methods.cfk import CFK
from engine.spec.component import Card

if TYPE_CHECKING:
    from engine.lab.unlearning import UnlearnTask


class EUK(CFK):
    """CF-k from a tail that starts anew: weights, biases and buffers as retraining's."""

    name: Literal["euk"] = "euk"  # type: ignore[assignment]
    k: int = Field(default=1, ge=1, description="Layers or blocks from the end; the head counts.")

    card: ClassVar = Card(
        title="EU-k (exactly unlearn the last k layers)",
        summary="Re-initialises the end of the network and trains it on the retain set.",
        reference="Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022",
        needs="the retain set",
        cost="as CF-k",
        deviations="as CF-k; with k = all layers it is retraining, bit for bit",
    )

    def begin(self, task: UnlearnTask) -> None:
        from engine.lab.methods._tail import renew_tail

        renew_tail(task, self.k)
        super().begin(task)
