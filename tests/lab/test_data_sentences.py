"""The generated sentences: their labels follow from the grammar, and from no bag of words."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from engine.lab.data import sentences as grammar
from engine.lab.data.sentences import TEST, TRAIN, Sentences, generate

ROWS = generate(0, TRAIN + TEST)
SAYS = np.array([row.says for row in ROWS])
LABELS = np.array([row.label for row in ROWS])
WORDS = [set[str](grammar.ADJECTIVES[side]) for side in (0, 1)]
for topic in grammar.TOPICS:
    for side in (0, 1):
        WORDS[side] |= set(topic.adjectives[side])
for side in (0, 1):
    WORDS[side] |= {word for pair in grammar.VERBS[side] for word in pair}
NEGATED = re.compile(rf"\b({'|'.join(grammar.NEGATORS)})\b")


def test_they_are_the_same_ones_everywhere() -> None:
    """Pinned: results of other people's runs must stay comparable."""
    assert (
        Sentences().texts().digest
        == "ec81426ae208c8a7e51e1025cb597fc407ef28935226add28ae061db09306712"
    )
    assert Sentences(seed=1).texts().digest != Sentences().texts().digest
    assert Sentences(seed=1).identity() == Sentences().identity(), "the digest tells them apart"
    generate.cache_clear()
    assert generate(0, TRAIN + TEST) == ROWS


def test_counts_and_no_copies() -> None:
    data = Sentences()
    info, found = data.inspect(), data.encode()
    assert (info.train, info.test, info.classes) == (4000, 1000, ("negative", "positive"))
    told = found.report
    assert told["train"]["duplicates"] == told["test"]["duplicates"] == told["overlap"] == 0
    assert told["train"]["cut"] == told["test"]["cut"] == 0
    assert found.tokens.size <= info.vocabulary and found.arrays["train_x"].shape == (4000, 64)
    assert Counter(SAYS.tolist()) == {0: 2500, 1: 2500}
    assert np.abs(np.bincount(LABELS) - 2500).max() < 60
    forms = [Counter(row.form for row in part) for part in (ROWS[:TRAIN], ROWS[TRAIN:])]
    for form in ("one", "contrast", "degree"):
        assert abs(forms[0][form] / TRAIN - forms[1][form] / TEST) < 0.05, "one distribution"


def test_the_noise_is_as_told() -> None:
    flipped = (SAYS != LABELS).mean()
    assert abs(flipped - grammar.NOISE) < 3 * np.sqrt(grammar.NOISE * 0.97 / len(ROWS))


def opinion(clause: str, negation: bool) -> int:
    """What one clause says, by its one word of opinion and whether that is negated."""
    (side,) = [s for s in (0, 1) if WORDS[s] & set(re.findall(r"\w+", clause))]
    return 1 - side if negation and NEGATED.search(clause) else side


def understood(text: str, negation: bool = True, contrast: bool = True) -> int:
    """The label by the rules the module states, with some of them left out."""
    parts = re.split(r"[.;,] (?:but |even though )?| and (?=the )", text)
    clauses = [c for c in parts if sum(len(w & set(re.findall(r"\w+", c))) for w in WORDS)]
    said = [opinion(clause, negation) for clause in clauses]
    if len(said) == 1:
        return said[0]
    assert len(said) == 2, text
    if any(word in text for word in grammar.WEAK) and " and the " in text:
        strong = [any(word in clause for word in grammar.STRONG) for clause in clauses]
        return said[strong.index(True)] if contrast else said[0]
    return said[0] if contrast and ", even though " in text else said[-1 if contrast else 0]


def share_right(**rules: bool) -> float:
    return float(np.mean([understood(row.text, **rules) == row.says for row in ROWS]))


def test_a_reader_of_the_rules_is_always_right_and_needs_them_all() -> None:
    assert share_right() == 1.0
    assert share_right(negation=False) < 0.80
    assert share_right(contrast=False) < 0.80


def test_no_word_decides_and_no_bag_of_words() -> None:
    """Seeds 0 to 3 gave: best word .515 to .520, words .64 to .66 on test rows and .69 to .71 on
    those fitted; on plain opinions .87 to .94, on all others .40 to .44, below chance. A reader of
    the rules would be right on .97."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = CountVectorizer(token_pattern=r"\w+|[,;]")
    train = counts.fit_transform([row.text for row in ROWS[:TRAIN]])
    test = counts.transform([row.text for row in ROWS[TRAIN:]])
    there = (train > 0).toarray()
    by_word = (there == LABELS[:TRAIN, None].astype(bool)).mean(axis=0)
    assert max(by_word.max(), 1 - by_word.min()) < 0.55
    model = LogisticRegression(C=1.0, max_iter=2000).fit(train, LABELS[:TRAIN])
    right = model.predict(test) == LABELS[TRAIN:]
    assert right.mean() < 0.70
    assert model.score(train, LABELS[:TRAIN]) < 0.75, "not even on what it was fitted to"
    negated = np.array([bool(NEGATED.search(row.text)) for row in ROWS[TRAIN:]])
    plain = np.array([row.form == "one" for row in ROWS[TRAIN:]]) & ~negated
    assert right[plain].mean() > 0.85 > 0.5 > right[~plain].mean()


@pytest.mark.parametrize("seed", [0, 7])
def test_they_read_like_sentences(seed: int) -> None:
    for row in generate(seed, 300):
        assert re.fullmatch(r"[a-zé ,;.]+\.", row.text), row.text
        assert "  " not in row.text and " ." not in row.text
