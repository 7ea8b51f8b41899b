"""5,000 labelled sentences from a small grammar: nothing to download.

A review says what its last word on the matter says, and one word does not tell. With y the label, −y
its opposite, an opinion is one of

    plain     the soup was fresh               says what its adjective or verb says
    negated   the soup was by no means fresh   says the opposite

and a review is one of

    one       an opinion of y
    contrast  −y, but y · although −y, y · y, even though −y: the main clause decides
    degree    slightly −y and extremely y, in either order: the stronger one decides

half of them with a remark that says nothing. At last some labels are flipped, so nothing
can be right on more than 97 of 100 test rows but by chance.
"""

from __future__ import annotations

from functools import cache
from random import Random
from typing import ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

from engine.lab.data._texts import TextData, Texts
from engine.spec.component import Card

T = TypeVar("T")
TRAIN, TEST = 4000, 1000
NOISE = 0.03  # share of labels that are flipped


class Topic(NamedTuple):
    """Something to review: how one comes to it, its names, its parts, and words that fit these,
    negative and positive."""

    visited: str
    things: tuple[str, ...]
    parts: tuple[str, ...]
    adjectives: tuple[tuple[str, ...], tuple[str, ...]]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TOPICS = (
    Topic(
        "we saw",
        ("film", "documentary", "comedy", "thriller", "sequel"),
        ("plot", "acting", "ending", "dialogue", "soundtrack", "opening scene", "camera work"),
        (_words("boring clumsy predictable hollow tiresome"),
         _words("gripping moving inventive funny convincing")),
    ),
    Topic(
        "we ate at",
        ("restaurant", "café", "bistro", "pizzeria", "canteen"),
        ("soup", "bread", "dessert", "salad", "pasta", "sauce", "fish"),
        (_words("stale bland greasy soggy tasteless"),
         _words("delicious fresh tasty crisp flavoursome")),
    ),
    Topic(
        "we stayed at",
        ("hotel", "guest house", "hostel", "inn", "resort"),
        ("room", "bed", "bathroom", "lobby", "terrace", "pool", "garden"),
        (_words("dirty shabby noisy cramped damp"),
         _words("clean comfortable quiet cosy spacious")),
    ),
    Topic(
        "we read",
        ("novel", "biography", "short story", "essay", "memoir"),
        ("first chapter", "style", "translation", "narrator", "story", "final chapter", "tone"),
        (_words("tedious confusing wooden dry repetitive"),
         _words("witty clear vivid elegant captivating")),
    ),
    Topic(
        "we went to",
        ("concert", "opera", "festival", "recital", "musical"),
        ("singing", "sound", "lighting", "second act", "orchestra", "staging", "finale"),
        (_words("shrill lifeless sloppy sluggish muddled"),
         _words("lively graceful powerful thrilling polished")),
    ),
)  # fmt: skip
ADJECTIVES = (
    _words("bad poor awful dreadful disappointing terrible mediocre unpleasant horrible weak"),
    _words("good great excellent wonderful impressive superb lovely delightful pleasant charming"),
)
VERBS = (
    (("hated", "hate"), ("disliked", "dislike"), ("regretted", "regret")),
    (("loved", "love"), ("enjoyed", "enjoy"), ("admired", "admire")),
)  # past, infinitive
NEGATORS = ("not", "not very", "not at all", "never", "hardly", "by no means", "far from",
            "anything but")  # fmt: skip
ADVERBS = ("really", "very", "quite", "rather", "truly", "clearly")
WEAK = ("slightly", "a little", "a bit", "somewhat")
STRONG = ("extremely", "utterly", "incredibly", "remarkably")
WHO = ("my brother", "a colleague", "our neighbour", "an old friend", "my aunt", "the whole family")
DID = ("came along", "had booked it", "paid for it", "told us about it", "drove us there")
WHEN = ("on monday", "on a tuesday in march", "last winter", "after work", "on the second day",
        "in the summer", "two weeks ago", "on the way to the coast")  # fmt: skip
REMARKS = ("it was our second visit", "it started at eight", "there were about forty people",
           "it took nearly two hours", "it is next to the station")  # fmt: skip


class Sentences(TextData):
    """4,000 training and 1,000 test sentences about films, meals, hotels, books and concerts; none
    is there twice."""

    name: Literal["sentences"] = "sentences"
    seed: int = Field(default=0, ge=0, lt=2**32, description="Other seeds, other sentences.")
    vocabulary: int = Field(default=1024, ge=257, le=1_000_000, description="Tokens of the BPE.")

    card: ClassVar = Card(
        title="Sentences",
        summary="4,000/1,000 generated reviews, negative or positive, with negation and contrast.",
        reference="the grammar in engine/lab/data/sentences.py",
        deviations="generated: simpler than any real review; 3 % of the labels are flipped",
    )

    def _texts(self) -> Texts:
        import numpy as np

        rows = generate(self.seed, TRAIN + TEST)
        texts = [row.text for row in rows]
        labels = np.array([row.label for row in rows], dtype=np.int64)
        return Texts(
            texts[:TRAIN], labels[:TRAIN], texts[TRAIN:], labels[TRAIN:], ("negative", "positive")
        )


class Sentence(NamedTuple):
    """`says` is what its words say, 0 or 1; `label` is the same but for the noise."""

    text: str
    label: int
    says: int
    form: str


@cache
def generate(seed: int, count: int) -> tuple[Sentence, ...]:
    """`count` different sentences, as many of either kind before the noise.

    Shuffled, for a short sentence is more likely to be there already the later it comes.
    """
    speaker = _Speaker(Random(seed))  # noqa: S311  # no secret
    found: dict[str, Sentence] = {}
    while len(found) < count:
        says = len(found) % 2
        form, text = speaker.review(says)
        flipped = speaker.chance(NOISE)
        found.setdefault(text, Sentence(text, says ^ flipped, says, form))
    return speaker.shuffled(list(found.values()))


class _Speaker:
    """Draws by `Random.random` alone: of that Python promises the same numbers in every version."""

    def __init__(self, random: Random) -> None:
        self.random = random.random

    def chance(self, share: float) -> bool:
        return self.random() < share

    def pick(self, options: tuple[T, ...]) -> T:
        return options[int(self.random() * len(options))]

    def shuffled(self, rows: list[T]) -> tuple[T, ...]:
        for last in range(len(rows) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            rows[last], rows[other] = rows[other], rows[last]
        return tuple(rows)

    def review(self, says: int) -> tuple[str, str]:
        """(form, text) of a review that says 0 or 1."""
        topic = self.pick(TOPICS)
        first = self.pick(topic.parts)
        second = self.pick(tuple(part for part in topic.parts if part != first))
        draw = self.random()
        if draw < 0.65:
            form = "one"
            text = self.opinion(topic, first, says)
        elif draw < 0.9:
            form = "contrast"
            text = self.contrast(
                self.opinion(topic, first, 1 - says), self.opinion(topic, second, says)
            )
        else:
            form = "degree"
            text = self.degree(topic, first, second, says)
        return form, self.embedded(topic, text)

    def opinion(self, topic: Topic, part: str, says: int) -> str:
        negated = self.chance(0.25)
        word = 1 - says if negated else says
        if self.chance(0.2):
            past, infinitive = self.pick(VERBS[word])
            return f"i did not {infinitive} the {part}" if negated else f"i {past} the {part}"
        adjective = self.adjective(topic, word)
        if negated:
            return f"the {part} was {self.pick(NEGATORS)} {adjective}"
        adverb = f"{self.pick(ADVERBS)} " if self.chance(0.5) else ""
        return f"the {part} was {adverb}{adjective}"

    def adjective(self, topic: Topic, word: int) -> str:
        return self.pick(topic.adjectives[word] if self.chance(0.5) else ADJECTIVES[word])

    def contrast(self, other: str, main: str) -> str:
        return self.pick(
            (
                f"{other}, but {main}",
                f"{other}; {main}, though, and that is what counts",
                f"although {other}, {main}",
                f"{main}, even though {other}",
            )
        )

    def degree(self, topic: Topic, first: str, second: str, says: int) -> str:
        clauses = [
            f"the {first} was {self.pick(WEAK)} {self.adjective(topic, 1 - says)}",
            f"the {second} was {self.pick(STRONG)} {self.adjective(topic, says)}",
        ]
        if self.chance(0.5):
            clauses.reverse()
        return " and ".join(clauses)

    def embedded(self, topic: Topic, text: str) -> str:
        """In half of all cases between remarks that say nothing."""
        if self.chance(0.35):
            text = f"{topic.visited} the {self.pick(topic.things)} {self.pick(WHEN)}. {text}"
        if self.chance(0.25):
            remark = f"{self.pick(WHO)} {self.pick(DID)}" if self.chance(0.6) else ""
            text = f"{text}. {remark or self.pick(REMARKS)}"
        return f"{text}."
