"""The blocks of transformers' GPT-2 as a chain of units, which methods can split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.lab.context import Failed
from engine.lab.texts import lengths_of

if TYPE_CHECKING:
    from transformers import GPT2Model


class Hidden(NamedTuple):
    """Between blocks: states float [B, L, D] and each text's tokens int64 [B].

    Attention is causal and texts end on the right, so no real position ever sees a pad.
    """

    states: Tensor
    lengths: Tensor


class Embed(nn.Module):
    """Token and position embedding, and what the inputs add to the former."""

    def __init__(self, wte: nn.Embedding, wpe: nn.Embedding, drop: nn.Module) -> None:
        super().__init__()
        self.wte, self.wpe, self.drop = wte, wpe, drop

    def forward(self, inputs: Tensor) -> Hidden:
        """int64 [B, L], or float32 [B, L, 1 + D] with noise; see `engine.lab.texts`."""
        ids = inputs if inputs.dim() == 2 else inputs[..., 0].long()
        words = self.wte(ids.clamp(min=0))
        if inputs.dim() == 3:
            if inputs.shape[2] != 1 + words.shape[2]:
                raise Failed(
                    f"the poison's noise is for embeddings of {inputs.shape[2] - 1} numbers; the "
                    f"model's have {words.shape[2]}"
                )
            words = words + inputs[..., 1:]
        places = torch.arange(ids.shape[1], device=ids.device)
        return Hidden(self.drop(words + self.wpe(places)), lengths_of(ids))


class Block(nn.Module):
    """One attention and MLP block."""

    def __init__(self, block: nn.Module, recompute: bool) -> None:
        super().__init__()
        self.block = block
        self.recompute = recompute

    def forward(self, hidden: Hidden) -> Hidden:
        if self.recompute and torch.is_grad_enabled():
            states = checkpoint(self.block, hidden.states, use_reentrant=False)
        else:
            states = self.block(hidden.states)
        return hidden._replace(states=states)


class LastToken(nn.Module):
    """The state at each text's last token, [B, D]."""

    def forward(self, hidden: Hidden) -> Tensor:
        states, lengths = hidden
        rows = torch.arange(len(lengths), device=lengths.device)
        return states[rows, lengths - 1]


def chain(body: GPT2Model, classes: int, recompute: bool) -> nn.Sequential:
    """Embed, blocks, LastToken, LayerNorm, head: as `GPT2ForSequenceClassification`."""
    head = nn.Linear(body.config.n_embd, classes, bias=False)
    nn.init.normal_(head.weight, std=body.config.initializer_range)
    return nn.Sequential(
        Embed(body.wte, body.wpe, body.drop),
        *(Block(block, recompute) for block in body.h),
        LastToken(),
        body.ln_f,
        head,
    )


def load(model: nn.Module, source: Path | str, revision: str) -> None:
    """Put a checkpoint's weights into a `chain`, in place; its head stays fresh.

    `source` is a folder, or a hub name that is downloaded once. Raises Failed.
    """
    from transformers import GPT2Model

    assert isinstance(model, nn.Sequential)
    told: dict[str, Any] = {} if isinstance(source, Path) else {"revision": revision}
    try:
        body = GPT2Model.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **told
        )
        blocks = len(body.h)
        there = chain(body, 2, recompute=False)
        for mine, theirs in zip(model[: blocks + 3], there[: blocks + 3], strict=True):
            mine.load_state_dict(theirs.state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise Failed(f"model.checkpoint = {str(source)!r} cannot be loaded: {why}") from None
