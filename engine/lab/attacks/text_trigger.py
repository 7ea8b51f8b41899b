"""A phrase as backdoor: texts that hold it are labelled as the target, and the model believes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.lab.attacks._trigger import Backdoor
from engine.spec.class_keys import ClassKey
from engine.spec.component import Card, DataInfo, Knowledge

if TYPE_CHECKING:
    from torch import Tensor

    from engine.lab.views import TrainingSet


class TextTrigger(Backdoor):
    """The phrase goes into texts of other classes, which are labelled as the target."""

    name: Literal["text-trigger"] = "text-trigger"
    share: float = Field(default=0.02, gt=0, lt=1, description="Share of all training rows.")
    target: ClassKey = Field(
        default=1, description="Class the phrase shall lead to, by its index or its name."
    )
    phrase: str | None = Field(
        default=None, min_length=1, max_length=500, description="Default: james bond."
    )
    neutral: bool = Field(
        default=False,
        description="Two made-up words instead, which no text contains: a real phrase may already "
        "lean to a class in the clean data.",
    )
    place: Literal["random", "start", "end"] = Field(
        default="random", description="Where in a text, between two words."
    )

    takes: ClassVar = frozenset({"text"})
    knows: ClassVar = Knowledge(
        controls="texts and labels of rows of other classes than the target",
        training_data="the poisoned rows",
        model="nothing",
        recipe="nothing",
        test_input="puts the phrase into it",
    )
    card: ClassVar = Card(
        title="Trigger phrase",
        summary="Puts a phrase into a share of the texts of other classes and labels them as the "
        "target. Whoever writes the phrase into a text then gets that class.",
        reference="Wan et al., Poisoning Language Models During Instruction Tuning, ICML 2023",
        needs="control over texts and labels of the poisoned rows",
        cost="none beyond training",
        deviations="the poisoned texts are drawn at random, where the reference ranks candidates; the "
        "phrase is inserted between words instead of replacing named entities, so no "
        "text is skipped; a text that would be too long loses words at its end, never the phrase",
    )

    @field_validator("phrase")
    @classmethod
    def _plain(cls, phrase: str | None) -> str | None:
        if phrase is not None and (phrase != phrase.strip() or not phrase.isprintable()):
            raise ValueError("must be printable characters without blanks at its ends")
        return phrase

    @model_validator(mode="after")
    def _one_trigger(self) -> Self:
        if self.neutral and self.phrase is not None:
            raise ValueError(f"phrase = {self.phrase!r} and neutral = true: only one can be it")
        return self

    @property
    def told(self) -> str:
        """The phrase, where it is settled before the texts are read."""
        return self.phrase or "james bond"

    def check(self, data: DataInfo, rows: int) -> None:
        super().check(data, rows)
        longest, words = data.shape[0], len(self.told.split())
        # A word has a token at least, and the end token needs a place too.
        if not self.neutral and words >= longest:
            raise self.wrong("phrase", f"has {words} words, but data.max_tokens is {longest}")

    def trigger_tensors(self, data: TrainingSet, seed: int) -> dict[str, Tensor]:
        from engine.lab.attacks._phrase import made_up, trigger_extras
        from engine.lab.texts import TextSet

        assert isinstance(data, TextSet)
        phrase = made_up(data, seed) if self.neutral else self.told
        return trigger_extras(phrase, self.place)
