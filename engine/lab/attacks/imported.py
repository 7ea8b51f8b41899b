"""Poison from a folder that `chelate poison export` wrote, here or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from engine.spec.component import Attack, Card, DataInfo, Knowledge
from engine.spec.errors import BadInput
from engine.spec.path_keys import PathKey
from engine.spec.places import expanded
from engine.spec.poisons import MANIFEST, PoisonFolder, check_fit, read_poison

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.subject import Subject
    from engine.lab.views import Poison, TrainingSet


class Imported(Attack):
    """The rows, inputs and labels of a poison folder, as they are."""

    name: Literal["imported"] = "imported"
    path: PathKey = Field(
        description="A folder with poison.safetensors and poison.json, or one that holds such "
        "folders: then those made for a run's seeds are taken, all targets of a seed in one row."
    )

    takes: ClassVar = frozenset({"image", "table", "text"})
    gives: ClassVar = frozenset({"noise", "trigger", "target"})  # at most; see `offers`
    knows: ClassVar = Knowledge(
        controls="what the attack that made it controls",
        training_data="which rows they were",
        model="as the attack that made it",
        recipe="as the attack that made it",
        test_input="as the attack that made it",
    )
    card: ClassVar = Card(
        title="Imported poison",
        summary="Takes poisoned rows from a folder instead of making them. The folder is looked "
        "through first: shapes, types, ranges, and that it was made for these data.",
        reference="chelate's own format; see `chelate poison export --help`",
        needs="a poison folder, the same data set, and rows that training has (validation = 0, or "
        "the seed it was made with)",
        cost="none beyond training",
        deviations="what the attack itself knew (a residual, a baseline beside it) stays behind",
    )

    def units(self, data: DataInfo, seed: int) -> list[tuple[int, Self]]:
        root = expanded(self.path, "attacks.imported.path")
        if (root / MANIFEST).exists():
            return [(0, self)]
        inner = [read_poison(p.parent) for p in sorted(root.glob(f"*/{MANIFEST}"))]
        made = [one for one in inner if one.manifest["made"]["seed"] == seed]
        if not made:
            seeds = sorted({int(one.manifest["made"]["seed"]) for one in inner})
            hint = f"made for seeds {seeds}" if seeds else f"no {MANIFEST} in it or below it"
            raise BadInput(
                f"attacks.imported.path = {self.path!r}: nothing for seed {seed}; {hint}."
            )
        numbers = [int(one.manifest["made"]["unit"]) for one in made]
        if len(set(numbers)) < len(numbers):
            raise BadInput(
                f"attacks.imported.path = {self.path!r}: holds several poisons of one unit and seed "
                f"{seed}; give the folder of one attack alone."
            )
        return [
            (number, self.model_copy(update={"path": str(one.path)}))
            for number, one in zip(numbers, made, strict=True)
        ]

    def folder(self) -> PoisonFolder:
        """Raises BadInput."""
        return read_poison(expanded(self.path, "attacks.imported.path"))

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": self.folder().sha256}

    def offers(self) -> frozenset[str]:
        return self.folder().gives

    def adds(self) -> bool:
        return self.folder().added

    def selection(self) -> dict[str, Any]:
        found = self.folder()
        return {"added": len(found.rows)} if found.added else {"rows": found.rows}

    def check(self, data: DataInfo, rows: int) -> None:
        check_fit(self.folder(), data)

    def craft(self, data: TrainingSet, rows: Tensor, seed: int) -> Poison:
        import torch

        from engine.lab.context import Failed
        from engine.lab.views import Poison

        found = self.folder()
        told = {name: torch.from_numpy(a).to(rows.device) for name, a in found.arrays.items()}
        given, inputs, labels = (told.pop(name) for name in ("rows", "inputs", "labels"))
        if found.strings is not None:
            inputs = _tokens(found, inputs, data)
        if not found.added and not torch.equal(given, rows):
            raise Failed("the poison's rows are not those that were selected")
        epsilon = found.manifest["bounds"]["epsilon"]
        if epsilon is not None and not found.added:
            change = float((inputs.double() - data.base(rows).double()).abs().max())
            if change > epsilon:
                raise Failed(f"the poison changes a pixel by {change:g}; its bound is {epsilon:g}")
        facts = {str(name): value for name, value in found.manifest["facts"].items()}
        return Poison(given, inputs, labels, told, found.manifest["movable"], facts)

    def glimpse(self, subject: Subject) -> dict[str, dict[str, Any]]:
        from engine.lab.audits import attack_success, gaussian, targeted_success

        poison = subject.poison
        shown: dict[str, dict[str, Any]] = {}
        if "noise_std" in poison.facts:
            shown["gaussian"] = gaussian.glimpse(subject)
        if poison.extras.keys() & {"trigger_keep", "trigger_phrase"}:
            shown["attack-success"] = attack_success.glimpse(subject)
        if "target_row" in poison.facts:
            shown["targeted-success"] = targeted_success.glimpse(subject)
        return shown


def _tokens(found: PoisonFolder, inputs: Tensor, data: TrainingSet) -> Tensor:
    """The texts' inputs in the tokens of `data`: as they are, or encoded anew. Raises Failed."""
    from engine.lab.context import Failed
    from engine.lab.texts import TextSet

    assert isinstance(data, TextSet) and found.strings is not None
    if found.manifest["texts"]["tokenizer"] == data.tokenizer:
        ids = inputs[..., 0] if inputs.dim() == 3 else inputs
        if int(ids.max()) >= data.tokens.size:
            raise Failed("the poison holds token ids that the tokenizer does not have")
        return inputs
    if inputs.dim() == 3:
        raise Failed(
            "the poison's noise is on the tokens of another tokenizer: give data.tokenizer, "
            "data.vocabulary and data.max_tokens as where it was made"
        )
    encoded = data.encode(found.strings)
    if "trigger_phrase" in found.arrays:
        phrase = found.arrays["trigger_phrase"].tobytes().decode()
        if not all(phrase in text for text in data.decode(encoded)):
            raise Failed(f"the trigger {phrase!r} is cut off: data.max_tokens is too small for it")
    return encoded
