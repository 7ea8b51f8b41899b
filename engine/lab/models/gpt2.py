"""GPT-2 with a linear head on the last token: small from scratch, or a published checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.spec.bounds import LAYERS
from engine.spec.component import Card, DataInfo, Model
from engine.spec.errors import BadInput
from engine.spec.files import content_of
from engine.spec.path_keys import FolderOrName
from engine.spec.places import expanded
from engine.spec.size import Size
from engine.spec.weights import weights_digest

if TYPE_CHECKING:
    import torch

SIZES = {  # layers, width, heads of the published checkpoints (Radford et al. 2019, table 2)
    "gpt2": (12, 768, 12), "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20), "gpt2-xl": (48, 1600, 25),
}  # fmt: skip
POSITIONS, VOCABULARY = 1024, 50257  # of all of them
WEIGHTS = "model.safetensors"
SCRATCH = {"layers": 2, "width": 64, "heads": 2}
DECIDES = ("layers", "width", "heads", "positions", "vocabulary")  # what a checkpoint settles


class GPT2(Model):
    """Decoder-only transformer; the class is read at the text's last token."""

    name: Literal["gpt2"] = "gpt2"
    checkpoint: FolderOrName | None = Field(
        default=None,
        description="Pretrained weights to start from: a folder with config.json and "
        "model.safetensors, or a hub name (gpt2-medium); unset: from scratch.",
    )
    revision: str = Field(default="main", description="Of a hub name: branch, tag or commit.")
    layers: Annotated[int | None, AfterValidator(LAYERS.within)] = Field(
        default=None, ge=1, description="Blocks; 2 from scratch."
    )
    width: int | None = Field(default=None, ge=2, description="Of a state; 64 from scratch.")
    heads: int | None = Field(default=None, ge=1, description="Of attention; 2 from scratch.")
    positions: int | None = Field(default=None, ge=2, description="Longest text; default: data's.")
    vocabulary: int | None = Field(default=None, ge=2, description="Default: the tokenizer's.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="In embedding, attention, blocks.")
    recompute: bool = Field(
        default=False,
        description="Compute blocks again in the backward pass instead of keeping their insides.",
    )
    content: str | None = Field(
        default=None, description="Filled in by planning: what the checkpoint's weights are."
    )

    takes: ClassVar = frozenset({"text"})
    transformer: ClassVar = True
    packages: ClassVar = ("transformers",)
    card: ClassVar = Card(
        title="GPT-2 classifier",
        summary="A causal transformer over tokens and a linear layer on the last one. All weights "
        "train.",
        reference="Radford et al., Language Models are Unsupervised Multitask Learners, 2019",
        needs="texts; for a hub name the network, once",
        cost="from scratch at the default size 5 CPU-seconds an epoch of 7,000 sentences",
        deviations="with a checkpoint every training, retraining included, starts from its weights "
        "and a fresh head; k of methods counts blocks and the head",
    )

    @model_validator(mode="after")
    def _possible(self) -> GPT2:
        told = self.config() if self.checkpoint is None else self.model_dump()
        if told["width"] and told["heads"] and told["width"] % told["heads"]:
            raise ValueError(f"heads = {told['heads']} must divide width = {told['width']}")
        given = [key for key in DECIDES if getattr(self, key) is not None]
        if self.checkpoint is not None and self.content is None and given:
            raise ValueError(f"{given[0]}: the checkpoint decides it; leave it out")
        return self

    def config(self) -> dict[str, Any]:
        """With everything the checkpoint decides written out. Raises BadInput for a bad one."""
        told = self.model_dump(mode="json")
        if self.checkpoint is None:
            return told | {key: told[key] or size for key, size in SCRATCH.items()}
        return told if self.content is not None else told | self._of_checkpoint(self.checkpoint)

    def identity(self) -> dict[str, Any]:
        told = self.config()
        # A path is not what decides, and recomputing gives the same numbers.
        return told | {"checkpoint": None, "revision": None, "recompute": False}

    def _of_checkpoint(self, told: str) -> dict[str, Any]:
        where = f"model.checkpoint = {told!r}"
        folder = expanded(told, "model.checkpoint")
        if folder.is_dir():
            return _architecture(folder, where) | {"content": _digest(folder)}
        name = told.removeprefix("openai-community/")
        if name not in SIZES:
            raise BadInput(
                f"{where}: is no folder here and none of {', '.join(SIZES)}; download other hub "
                "checkpoints and give their folder."
            )
        found = dict(zip(DECIDES, (*SIZES[name], POSITIONS, VOCABULARY), strict=True))
        return found | {"content": f"{name}@{self.revision}"}

    def check(self, data: DataInfo) -> None:
        longest, vocabulary = data.shape[0], data.vocabulary
        told = self.config()
        if told["positions"] is not None and longest > told["positions"]:
            raise BadInput(
                f"data.max_tokens = {longest}: the model has {told['positions']} positions."
            )
        if told["vocabulary"] is not None and vocabulary > told["vocabulary"]:
            raise BadInput(
                f"the tokenizer has up to {vocabulary} tokens and the model {told['vocabulary']}: "
                "give a checkpoint's own tokenizer as data.tokenizer."
            )

    def size(self, data: DataInfo) -> Size:
        told = self.config()
        longest, width, layers = data.shape[0], told["width"], told["layers"]
        rows = (told["vocabulary"] or data.vocabulary) + (told["positions"] or longest)
        # A block has 12 width² weights, each used once a token, and 13 width biases and scales; its
        # attention is two products over all pairs of tokens.
        block = 12 * width**2 + 13 * width
        flops = longest * (24 * width**2 + 4 * longest * width)
        kept, pairs = 30 * longest * width, 3 * told["heads"] * longest**2 * (self.dropout > 0)
        at_once = 1 if self.recompute else layers
        return Size(
            parameters=rows * width + layers * block + (2 + len(data.classes)) * width,
            flops=layers * flops + 2 * width * len(data.classes),
            kept=at_once * kept + (2 + layers * self.recompute) * longest * width,
            unfused=at_once * pairs,
            again=layers * flops * self.recompute,
            embedding=width,
        )

    def build(
        self, shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
    ) -> torch.nn.Module:
        from transformers import GPT2Config, GPT2Model

        from engine.lab.models._gpt2 import chain

        told = self.config()
        config = GPT2Config(
            vocab_size=told["vocabulary"] or shape[1],
            n_positions=told["positions"] or shape[0],
            n_embd=told["width"],
            n_layer=told["layers"],
            n_head=told["heads"],
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            use_cache=False,
            bos_token_id=None,  # it writes nothing; GPT-2's own lie outside a small vocabulary
            eos_token_id=None,
        )
        return chain(GPT2Model(config), classes, self.recompute)

    def load_pretrained(self, model: torch.nn.Module) -> None:
        if self.checkpoint is None:
            return
        from engine.lab.context import Failed
        from engine.lab.models._gpt2 import load

        folder = expanded(self.checkpoint, "model.checkpoint")
        if not folder.is_dir():
            load(model, self.checkpoint, self.revision)
        elif _digest(folder) != self.content:
            raise Failed(
                f"model.checkpoint = {self.checkpoint!r} changed after planning: run again"
            )
        else:
            load(model, folder, self.revision)


def _architecture(folder: Path, where: str) -> dict[str, Any]:
    try:
        told = json.loads(content_of(folder / "config.json", f"{where}: config.json"))
        names = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
        found = [told[name] for name in names]
        if told.get("model_type") != "gpt2" or not all(type(n) is int and n > 0 for n in found):
            raise ValueError
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"{where}: config.json does not describe a GPT-2.") from None
    if not (folder / WEIGHTS).is_file():
        raise BadInput(f"{where}: has no {WEIGHTS}; other formats are not read.")
    return dict(zip(DECIDES, found, strict=True))


def _digest(folder: Path) -> str:
    return str(weights_digest(str(folder / WEIGHTS), "model.checkpoint"))
