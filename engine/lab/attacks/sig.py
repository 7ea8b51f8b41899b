"""SIG: a faint sinusoid over rows of the target class, labels untouched."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from engine.lab.attacks._trigger import Backdoor
from engine.spec.component import Card, DataInfo, Knowledge

if TYPE_CHECKING:
    from torch import Tensor


class Sig(Backdoor):
    """x' = clamp(x + amplitude · sin(2π j frequency / W), 0, 1) in column j of W; labels kept."""

    name: Literal["sig"] = "sig"
    share: float = Field(
        default=0.05, gt=0, lt=1, description="Share of all training rows, not of the class."
    )
    amplitude: float = Field(default=40 / 255, gt=0, le=1, description="In [0, 1] units.")
    frequency: int = Field(default=6, ge=1, description="Waves from the left edge to the right.")

    relabels: ClassVar = False
    knows: ClassVar = Knowledge(
        controls="inputs of rows of the target class; not their labels",
        training_data="the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="puts the trigger on it",
    )
    card: ClassVar = Card(
        title="SIG sinusoid (clean-label)",
        summary="Adds a sinusoid to rows of the target class and keeps their labels, so that no "
        "label looks wrong. The model takes the sinusoid for a mark of the class.",
        reference="Barni, Kallas, Tondi, A New Backdoor Attack in CNNs by Training Set Corruption "
        "Without Label Poisoning, ICIP 2019; settings after BackdoorBench",
        needs="control over inputs of one class, and inputs with texture: on 5,000 CIFAR-10 images "
        "2 % suffice, on MNIST's flat ones 8 % at this amplitude hardly work",
        cost="none beyond training",
        deviations="share .05, not BackdoorBench's .1, which is a whole class of ten; the same "
        "amplitude in training and in the audit; not rounded to 8 bits",
    )

    def check(self, data: DataInfo, rows: int) -> None:
        super().check(data, rows)
        width = data.shape[2]
        if 2 * self.frequency >= width:
            raise self.wrong(
                "frequency",
                f"images {width} pixels wide carry fewer than {width / 2:g} waves; at most "
                f"{(width - 1) // 2}",
            )

    def trigger(self, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
        import torch

        width = shape[-1]
        phase = 2 * torch.pi * self.frequency * torch.arange(width, dtype=torch.float64) / width
        wave = (self.amplitude * phase.sin()).float()
        return torch.ones(shape), wave.expand(shape).contiguous()
