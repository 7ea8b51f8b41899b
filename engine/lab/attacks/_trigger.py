"""What the backdoor attacks share: a trigger as two tensors, target and share checked, image files.

A trigger of images is x' = clamp(x · keep + add, 0, 1) with keep and add [C, H, W] in raw space; one
of texts is a phrase and a place (`_phrase`). So one audit serves every attack. Nothing here imports
torch or Pillow before it is called.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from engine.lab.data._images import FORMATS, quiet
from engine.spec.class_keys import ClassKey, index, not_an_index
from engine.spec.component import Attack, DataInfo, Knowledge, poisoned_count
from engine.spec.errors import BadInput
from engine.spec.files import content_of
from engine.spec.keys import package_version
from engine.spec.places import expanded
from engine.spec.registry import component_name

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from engine.lab.subject import Subject
    from engine.lab.views import Poison, TrainingSet


def apply_trigger(inputs: Tensor, keep: Tensor, add: Tensor) -> Tensor:
    """`inputs` [B, C, H, W] in [0, 1] with the trigger on; a new tensor."""
    return (inputs * keep + add).clamp(0, 1)


def triggered(data: TrainingSet, rows: Tensor, extras: dict[str, Tensor]) -> Tensor:
    """Clean inputs of some rows with the trigger that a poison's `extras` describe."""
    if "trigger_phrase" in extras:
        from engine.lab.attacks._phrase import with_phrase

        return with_phrase(data, rows, extras)
    return apply_trigger(data.base(rows), extras["trigger_keep"], extras["trigger_add"])


class Backdoor(Attack):
    """Base of attacks that put one trigger on every poisoned row, before any augmentation."""

    share: float = Field(default=0.015, gt=0, lt=1, description="Share of all training rows.")
    target: ClassKey = Field(
        default=0, description="Class the trigger shall lead to, by its index or its name."
    )

    takes: ClassVar = frozenset({"image"})
    gives: ClassVar = frozenset({"trigger", "decoys"})
    knows: ClassVar = Knowledge(
        controls="inputs and labels of rows of other classes than the target",
        training_data="the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="puts the trigger on it",
    )
    relabels: ClassVar[bool] = True  # poison other classes' rows, labelled as the target

    @property
    def target_index(self) -> int:
        return index(self.target)

    def trigger(self, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
        """keep and add, float32 `shape` = [C, H, W], on the CPU."""
        raise NotImplementedError

    def trigger_tensors(self, data: TrainingSet, seed: int) -> dict[str, Tensor]:
        """The trigger as a poison's extras."""
        keep, add = self.trigger(tuple(data.pixels.shape[1:]), seed)
        device = data.pixels.device
        return {"trigger_keep": keep.to(device), "trigger_add": add.to(device)}

    def selection(self) -> dict[str, Any]:
        # Rows of the target class would teach nothing if relabelled, and break clean labels if not.
        return {"share": self.share, "not" if self.relabels else "only": self.target_index}

    def check(self, data: DataInfo, rows: int) -> None:
        target = self.target_index
        if not 0 <= target < len(data.classes):
            raise self.wrong("target", not_an_index(data.classes))
        members, told = data.train_per_class[target], f"class {target} ({data.classes[target]!r})"
        if self.relabels:
            members, told = data.train - members, f"the classes other than {target}"
        sure = surely_left(members, data.train, rows)
        wanted = poisoned_count(self.selection(), rows)
        if wanted > sure:
            hint = "no share fits"
            if sure:
                hint = f"the largest share possible is {_down(sure / rows)}"
            raise self.wrong(
                "share",
                f"of {rows} training rows is {wanted}, but only {sure} of {told} are there "
                f"for sure after the validation cut; {hint}",
            )

    def craft(self, data: TrainingSet, rows: Tensor, seed: int) -> Poison:
        import torch

        from engine.lab.views import Poison

        extras = self.trigger_tensors(data, seed)
        labels = data.labels[rows]
        return Poison(
            rows=rows,
            inputs=triggered(data, rows, extras),
            labels=torch.full_like(labels, self.target_index) if self.relabels else labels,
            extras=extras,
            movable=True,  # a patch that is cropped and flipped with its image still is the trigger
            facts={"target": self.target_index},
        )

    def decoys(self, data: TrainingSet, rows: Tensor, poison: Poison, seed: int) -> Poison:
        import torch

        from engine.lab.views import Poison

        labels = data.labels[rows]
        return Poison(
            rows,
            triggered(data, rows, poison.extras),
            torch.full_like(labels, self.target_index) if self.relabels else labels,
        )

    def glimpse(self, subject: Subject) -> dict[str, dict[str, Any]]:
        from engine.lab.audits.attack_success import glimpse

        return {"attack-success": glimpse(subject)}

    def wrong(self, key: str, problem: str) -> BadInput:
        """An error about one key of this attack."""
        return BadInput(
            f"attacks.{component_name(type(self))}.{key} = {getattr(self, key)!r}: {problem}."
        )


def surely_left(members: int, train: int, rows: int) -> int:
    """How many of a group's `members` among `train` rows stay when `rows` survive a random cut.

    The cut is drawn for each seed, so this is the hypergeometric mean less four standard
    deviations: fewer are left once in 30,000 seeds. Exact when nothing is cut.
    """
    cut = train - rows
    share = members / train
    spread = math.sqrt(cut * share * (1 - share) * rows / max(1, train - 1))
    return max(0, members - min(members, cut, math.ceil(cut * share + 4 * spread)))


def _down(value: float) -> str:
    """Three significant digits, never more than `value`."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.floor(value / step) * step:.3g}"


# --- image files ---------------------------------------------------------------------------------


def image_identity(attack: Backdoor, path: str | None) -> dict[str, str] | None:
    """What decides an image's pixels: the file's content and what decodes it; not where it lies."""
    if path is None:
        return None
    return {
        "sha256": hashlib.sha256(_content(attack, path)).hexdigest(),
        "pillow": package_version("pillow"),
    }


def read_image(
    attack: Backdoor, path: str, channels: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """(pixels float32 [C, H, W] in [0, 1], visible bool [H, W]) of an image file, resized.

    A pixel is visible when it is at least half opaque after resizing: a trigger has no halo.
    Raises BadInput if there is no such image or nothing of it can be seen.
    """
    from io import BytesIO

    import numpy as np
    from PIL import Image

    if channels not in (1, 3):
        raise attack.wrong("image", f"is for grey or RGB data, not for {channels} channels")
    content = _content(attack, path)
    quiet()
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as file:
            image = file.convert("RGBA")
    except (
        OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
        Image.DecompressionBombError,
    ):  # fmt: skip
        raise attack.wrong("image", "is not an image that can be read") from None
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    visible = np.asarray(image.getchannel("A")) >= 128
    if not visible.any():
        raise attack.wrong("image", "is transparent all over: it would be no trigger")
    flat = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
    return flat.reshape(height, width, channels).transpose(2, 0, 1), visible


def _content(attack: Backdoor, path: str) -> bytes:
    key = f"attacks.{component_name(type(attack))}.image"
    try:
        return content_of(expanded(path, key), "cannot be read")
    except BadInput as error:
        if str(error).startswith("cannot be read"):
            raise attack.wrong("image", str(error).rstrip(".")) from None
        raise
