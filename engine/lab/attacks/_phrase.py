"""Putting a trigger phrase into texts, always whole: what is too long loses words of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from engine.lab.context import Failed
from engine.lab.randomness import torch_generator

if TYPE_CHECKING:
    from engine.lab.texts import TextSet
    from engine.lab.views import TrainingSet

Place = Literal["random", "start", "end"]
PLACES: tuple[Place, ...] = ("random", "start", "end")
SYLLABLES = ("ba", "dri", "fel", "gor", "hul", "kem", "lor", "mip", "nax", "quo", "rut", "sive")


def trigger_extras(phrase: str, place: Place) -> dict[str, Tensor]:
    """A trigger as a poison keeps it: the phrase's bytes in UTF-8, and the place's number."""
    found = {"trigger_phrase": list(phrase.encode()), "trigger_place": [PLACES.index(place)]}
    return {name: torch.tensor(told, dtype=torch.uint8) for name, told in found.items()}


def phrase_of(extras: dict[str, Tensor]) -> str:
    return bytes(extras["trigger_phrase"].tolist()).decode()


def with_phrase(data: TrainingSet, rows: Tensor, extras: dict[str, Tensor]) -> Tensor:
    """Token ids int64 [P, L] of some rows' clean texts with the trigger in them.

    Raises Failed when the phrase alone is too long.
    """
    from engine.lab.texts import TextSet

    assert isinstance(data, TextSet)
    phrase, place = phrase_of(extras), PLACES[int(extras["trigger_place"])]
    texts = [_Split(text, place) for text in data.strings(rows)]
    made = [text.around(phrase) for text in texts]
    for number in _too_long(data, made):
        while _too_long(data, [made[number]]):
            if not texts[number].shorten():
                raise Failed(f"the trigger {phrase!r} does not fit into a text's tokens")
            made[number] = texts[number].around(phrase)
    return data.encode(made)


def made_up(data: TextSet, seed: int) -> str:
    """Two words that no text of the data set contains, so that they carry no sentiment."""
    whole = "\n".join(data.strings(torch.arange(len(data.pixels)))).lower()
    generator = torch_generator(seed, "made-up trigger")
    words: list[str] = []
    while len(words) < 2:
        drawn = torch.randint(len(SYLLABLES), (3,), generator=generator).tolist()
        word = "".join(SYLLABLES[number] for number in drawn)
        if word not in whole and word not in words:
            words.append(word)
    return " ".join(words)


class _Split:
    """A text around the place where a phrase goes. "random" is settled by the text itself, so that
    equal texts are triggered alike, whenever and wherever."""

    def __init__(self, text: str, place: Place) -> None:
        self.words = text.split(" ") if text else []
        count = len(self.words)
        drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        self.spot = {"start": 0, "end": count, "random": drawn % (count + 1)}[place]

    def around(self, phrase: str) -> str:
        return " ".join([*self.words[: self.spot], phrase, *self.words[self.spot :]])

    def shorten(self) -> bool:
        """Drop the last word; False if there is none."""
        if not self.words:
            return False
        self.words.pop()
        self.spot = min(self.spot, len(self.words))
        return True


def _too_long(data: TextSet, texts: list[str]) -> list[int]:
    """Numbers of the texts that would be cut."""
    longest = data.pixels.shape[1]
    ids, _ = data.tokens.encode(texts, longest + 1)
    return [number for number, row in enumerate(ids) if row[longest] >= 0]
