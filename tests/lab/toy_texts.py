"""Toy texts, a tiny GPT-2 for them and noise on their embeddings: small enough to look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.lab.attacks.gaussian import Gaussian
from engine.lab.crafting import CraftTask
from engine.lab.models.gpt2 import GPT2
from engine.lab.subject import Subject
from engine.lab.texts import TextSet
from engine.lab.tokens import Tokens
from engine.lab.views import Poison, Rows

WORDS = ["the", "a", "film", "meal", "was", "dull", "bright", "plot", "never", "always", "cold"]
WORDS += ["warm", "and", "but", "not", "good", "bad"]
LONGEST, ROWS, WIDTH = 40, 60, 16


def sentences(count: int = ROWS, most: int = 12) -> list[str]:
    draw = torch.Generator().manual_seed(4)
    lengths = torch.randint(1, most, (count,), generator=draw).tolist()
    return [
        " ".join(WORDS[i] for i in torch.randint(len(WORDS), (n,), generator=draw)) for n in lengths
    ]


TOKENS = Tokens.train(sentences(300), 300)


def text_set(poison: Poison | None = None) -> TextSet:
    ids, _ = TOKENS.encode(sentences(), LONGEST)
    return TextSet(torch.from_numpy(ids), torch.arange(ROWS) % 2, lambda: TOKENS, poison)


def model(seed: int = 0, width: int = WIDTH) -> nn.Module:
    torch.manual_seed(seed)
    gpt = GPT2(layers=1, width=width, heads=2, dropout=0.0)
    return gpt.build((LONGEST, TOKENS.size, 1), 2, [], []).eval()


def noised(
    noise_std: float = 1.0, rows: Tensor | None = None, seed: int = 0, width: int = WIDTH
) -> Poison:
    clean = text_set()
    rows = torch.tensor([3, 8, 13, 30, 41, 59]) if rows is None else rows
    task = CraftTask(
        data=clean, rows=rows, training=torch.arange(ROWS), test=Rows(clean, rows), seed=seed,
        device="cpu", classes=2, recipe=None, fresh_model=lambda: model(width=width), surrogates=list,
        raise_if_stopped=lambda: None,
    )  # fmt: skip
    return Gaussian(noise_std=noise_std).craft_with(task)


def subject(poison: Poison, gpt: nn.Module | None = None, seed: int = 0) -> Subject:
    clean, data, every = text_set(), text_set(poison), torch.arange(ROWS)
    rest = Rows(clean, every)
    return Subject(
        model=gpt or model(1), retain=rest, forget=Rows(data, poison.rows), validation=rest,
        test=rest, base=Rows(clean, poison.rows), poison=poison, seed=seed, device="cpu", classes=2,
    )  # fmt: skip
