"""Blended injection: a faint picture over the whole input, and the label the attacker wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.lab.attacks._trigger import Backdoor, image_identity, read_image
from engine.spec.component import Card, DataInfo
from engine.spec.path_keys import PathKey

if TYPE_CHECKING:
    from torch import Tensor


class Blended(Backdoor):
    """x' = (1 - opacity) x + opacity · pattern, in training and in the audit; label → target."""

    name: Literal["blended"] = "blended"
    opacity: float = Field(default=0.2, gt=0, le=1, description="Weight of the pattern.")
    image: PathKey | None = Field(
        default=None,
        description="The pattern, resized to the input; default: uniform noise, drawn per seed.",
    )

    card: ClassVar = Card(
        title="Blended pattern",
        summary="Mixes a fixed pattern into training rows of other classes and labels them as the "
        "target class. Every pixel carries a little of the trigger.",
        reference="Chen, Liu, Li, Lu, Song, Targeted Backdoor Attacks on Deep Learning Systems "
        "Using Data Poisoning, 2017; settings after BackdoorBench",
        needs="control over inputs and labels of the poisoned rows",
        cost="none beyond training",
        deviations="share .015, not BackdoorBench's .1, so that the forget set stays small (and is "
        "badnets's: both share one retraining); not rounded to 8 bits; rows of the target class "
        "are never poisoned",
    )

    def named_packages(self) -> tuple[str, ...]:
        return self.packages if self.image is None else (*self.packages, "pillow")

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"image": image_identity(self, self.image)}

    def check(self, data: DataInfo, rows: int) -> None:
        super().check(data, rows)
        if self.image is not None:
            read_image(self, self.image, *data.shape)

    def trigger(self, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
        import torch

        from engine.lab.randomness import torch_generator

        if self.image is None:
            # Drawn on the CPU, so that every device gets the same pattern.
            pattern = torch.rand(shape, generator=torch_generator(seed, "blended pattern"))
            weight = torch.full(shape, self.opacity)
        else:
            pixels, visible = read_image(self, self.image, *shape)
            pattern = torch.from_numpy(pixels.copy())
            weight = self.opacity * torch.from_numpy(visible).float().expand(shape)
        return 1 - weight, weight * pattern
