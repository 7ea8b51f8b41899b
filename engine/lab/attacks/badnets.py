"""BadNets: a small patch in a corner, and the label the attacker wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.lab.attacks._trigger import Backdoor, image_identity, read_image
from engine.spec.component import Card, DataInfo
from engine.spec.path_keys import PathKey

if TYPE_CHECKING:
    from torch import Tensor

Place = Literal["bottom-right", "bottom-left", "top-right", "top-left", "centre"]


class BadNets(Backdoor):
    """x' = x with a patch of size × size pixels painted over; label → target."""

    name: Literal["badnets"] = "badnets"
    size: int = Field(default=3, ge=1, description="Height and width of the patch, in pixels.")
    place: Place | tuple[int, int] = Field(
        default="bottom-right",
        description="A corner, centre, or [down, right] of the patch's top left pixel.",
    )
    colour: float | tuple[float, ...] | None = Field(
        default=None, description="In [0, 1]: one level, or one per channel; default: 1, white."
    )
    image: PathKey | None = Field(
        default=None,
        description="A picture instead of a colour, resized to the patch; where it is less than "
        "half opaque, the input shows through.",
    )

    card: ClassVar = Card(
        title="BadNets patch",
        summary="Paints a patch on training rows of other classes and labels them as the target "
        "class. The trained model sees the patch and answers with the target.",
        reference="Gu, Dolan-Gavitt, Garg, BadNets: Identifying Vulnerabilities in the Machine "
        "Learning Model Supply Chain, 2017",
        needs="control over inputs and labels of the poisoned rows",
        cost="none beyond training",
        deviations="1.5 % of all rows by default; rows of the target class are never poisoned; the "
        "patch touches the border (the original's lies a pixel inside: place = [down, right])",
    )

    @field_validator("place", mode="before")
    @classmethod
    def _known_place(cls, value: Any) -> Any:
        names = Place.__args__  # type: ignore[attr-defined]
        pair = isinstance(value, list | tuple) and len(value) == 2
        if pair and all(type(v) is int and v >= 0 for v in value):
            return tuple(value)
        if value in names:
            return value
        raise ValueError(f"{value!r} must be {', '.join(names)}, or [down, right] in pixels")

    @field_validator("colour", mode="before")
    @classmethod
    def _levels(cls, value: Any) -> Any:
        many = isinstance(value, list | tuple)
        levels = tuple(value) if many else (value,)
        if levels and all(type(v) in (int, float) and 0 <= v <= 1 for v in levels):
            return levels if many else value
        if value is None:
            return None
        raise ValueError(f"{value!r} must be a level in [0, 1], or a list of one per channel")

    @model_validator(mode="after")
    def _one_look(self) -> Self:
        if self.image is not None and self.colour is not None:
            raise ValueError(
                f"colour = {self.colour!r} and image = {self.image!r}: only one can be the patch"
            )
        return self

    def named_packages(self) -> tuple[str, ...]:
        return self.packages if self.image is None else (*self.packages, "pillow")

    def identity(self) -> dict[str, Any]:
        told = super().identity() | {"image": image_identity(self, self.image)}
        if self.colour is None and self.image is None:
            told["colour"] = 1.0
        return told

    def check(self, data: DataInfo, rows: int) -> None:
        super().check(data, rows)
        channels, height, width = data.shape
        if self.size > min(height, width):
            raise self.wrong(
                "size",
                f"the patch does not fit into {height}×{width} pixels; at most {min(height, width)}",
            )
        down, right = self.corner(height, width)
        if down + self.size > height or right + self.size > width:
            raise self.wrong(
                "place",
                f"a {self.size}×{self.size} patch there leaves the image of {height}×{width}; at "
                f"most [{height - self.size}, {width - self.size}]",
            )
        if isinstance(self.colour, tuple) and len(self.colour) != channels:
            raise self.wrong(
                "colour", f"{len(self.colour)} values, but the images have {channels} channel(s)"
            )
        if self.image is not None:
            read_image(self, self.image, channels, self.size, self.size)

    def trigger(self, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
        import torch

        channels, height, width = shape
        keep, add = torch.ones(shape), torch.zeros(shape)
        down, right = self.corner(height, width)
        patch = (..., slice(down, down + self.size), slice(right, right + self.size))
        if self.image is None:
            colour = torch.tensor(1.0 if self.colour is None else self.colour)
            keep[patch] = 0.0
            add[patch] = colour.reshape(-1, 1, 1)
        else:
            pixels, visible = read_image(self, self.image, channels, self.size, self.size)
            keep[patch] = torch.from_numpy(~visible).float()
            add[patch] = torch.from_numpy(pixels * visible)
        return keep, add

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """(down, right) of the patch's top left pixel."""
        if not isinstance(self.place, str):
            return self.place
        if self.place == "centre":
            return (height - self.size) // 2, (width - self.size) // 2
        return (
            height - self.size if self.place.startswith("bottom") else 0,
            width - self.size if self.place.endswith("right") else 0,
        )
