"""Texts in an image's place: views, grouping by length, trigger phrases, noise on embeddings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.lab.attacks._phrase import phrase_of, trigger_extras, with_phrase
from engine.lab.attacks.text_trigger import TextTrigger
from engine.lab.audits.gaussian import gaussian_scores, margin_gradients, noise_ranks
from engine.lab.context import Failed
from engine.lab.texts import TextSet, lengths_of, only_noise, trimmed, with_room
from engine.lab.views import Poison, epoch_visit, grouped
from tests.lab.toy_texts import (
    LONGEST,
    ROWS,
    TOKENS,
    WIDTH,
    WORDS,
    model,
    noised,
    sentences,
    subject,
    text_set,
)

# --- views ---------------------------------------------------------------------------------------


def test_strings_and_encode_are_inverse() -> None:
    data, rows = text_set(), torch.arange(ROWS)
    assert data.strings(rows) == sentences()
    assert torch.equal(data.encode(data.strings(rows)), data.base(rows))


def test_a_cut_batch_is_the_same_batch_without_padding() -> None:
    data, rows = text_set(), torch.tensor([5, 2, 9])
    whole, width = data.take(rows).inputs, int(data.lengths[rows].max())
    cut = data.take(rows, width).inputs
    assert cut.shape[1] == width < LONGEST
    assert torch.equal(whole[:, :width], cut)
    assert (whole[:, width:] == -1).all()
    assert torch.equal(trimmed(whole), cut)


def test_batches_keep_the_order_and_every_token() -> None:
    data, rows = text_set(), torch.arange(ROWS).flip(0)
    batches = list(data.batches(rows, 7))
    assert torch.equal(torch.cat([b.labels for b in batches]), data.labels[rows])
    for start, batch in zip(range(0, ROWS, 7), batches, strict=True):
        part = rows[start : start + 7]
        assert batch.inputs.shape[1] == data.lengths[part].max()
        assert torch.equal(lengths_of(batch.inputs), data.lengths[part])


def test_poisoned_rows_are_seen_poisoned_and_the_others_clean() -> None:
    clean, poison = text_set(), noised()
    data, rows = text_set(poison), torch.tensor([0, 3, 1, 59])
    inputs = data.take(rows).inputs
    assert torch.equal(inputs[..., 0].long(), clean.base(rows))
    assert (inputs[[0, 2], :, 1:] == 0).all()
    assert torch.equal(inputs[1], poison.inputs[0])
    assert torch.equal(inputs[3], poison.inputs[5])


def test_added_rows_lie_behind_the_last() -> None:
    clean = text_set()
    extra = clean.base(torch.tensor([0, 1]))
    data = text_set(Poison(torch.tensor([ROWS, ROWS + 1]), extra, torch.tensor([1, 1])))
    assert len(data) == ROWS + 2
    assert torch.equal(data.take(torch.tensor([ROWS + 1])).inputs[0], extra[1])
    assert data.lengths[-1] == clean.lengths[1]


def test_rows_by_length_are_the_same_rows() -> None:
    data, rows = text_set(), torch.arange(1, ROWS, 2)
    found = data.by_length(rows)
    assert torch.equal(found.sort().values, rows)
    assert (data.lengths[found].diff() >= 0).all()


# --- an epoch ------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=400),
    size=st.integers(1, 33),
    seed=st.integers(0, 3),
)
def test_grouping_is_a_permutation_and_spends_no_more_padding(
    lengths: list[int], size: int, seed: int
) -> None:
    told = torch.tensor(lengths)
    places = torch.randperm(len(told), generator=torch.Generator().manual_seed(seed))
    found = grouped(places, told, size, torch.Generator().manual_seed(seed))
    assert found.sort().values.tolist() == list(range(len(told)))

    def cost(order: Tensor) -> int:
        return sum(int(told[part].max()) * len(part) for part in torch.split(order, size))

    if len(told) <= 50 * size and len(told) % size == 0:
        assert cost(found) <= cost(places)


def test_an_epoch_of_texts_is_grouped_and_its_batches_come_at_random() -> None:
    data, rows = text_set(), torch.arange(ROWS)
    visit = epoch_visit(data, rows, 8, 0, "order", 0)
    assert visit.places.sort().values.tolist() == rows.tolist()
    assert visit.lengths is not None
    assert torch.equal(visit.lengths, data.lengths[visit.places])
    batches = torch.split(visit.lengths, 8)[:7]
    assert sum(int(b.max() - b.min()) for b in batches) < sum(
        int(b.max() - b.min()) for b in torch.split(data.lengths, 8)[:7]
    )
    widths = [visit.width(slice(i, i + 8)) for i in range(0, 56, 8)]
    assert any(a > b for a, b in pairwise(widths))  # type: ignore[operator]
    again = epoch_visit(data, rows, 8, 0, "order", 1).places
    assert not torch.equal(visit.places, again)


# --- trigger phrases -----------------------------------------------------------------------------


def craft(attack: TextTrigger, rows: Tensor) -> tuple[TextSet, Poison]:
    data = text_set()
    return data, attack.craft(data, rows, seed=0)


@pytest.mark.parametrize("place", ["random", "start", "end"])
def test_every_poisoned_text_holds_the_phrase_between_its_own_words(place: str) -> None:
    attack = TextTrigger(place=place, target=1)  # type: ignore[arg-type]
    data, poison = craft(attack, rows := torch.arange(0, ROWS, 2))
    assert (poison.labels == 1).all()
    assert (data.labels[rows] == 0).all()
    for before, row in zip(data.strings(rows), poison.inputs, strict=True):
        after = TOKENS.decode(row[row >= 0].numpy())
        assert after.split().count("bond") == 1
        head, _, tail = after.partition("james bond")
        assert " ".join(f"{head} {tail}".split()) == before
        assert place != "start" or not head
        assert place != "end" or not tail


def test_no_clean_text_holds_the_phrase_and_places_vary() -> None:
    data, poison = craft(TextTrigger(target=1), torch.arange(0, ROWS, 2))
    assert not any("james bond" in text for text in data.strings(torch.arange(ROWS)))
    spots = {TOKENS.decode(row[row >= 0].numpy()).split().index("james") for row in poison.inputs}
    assert len(spots) > 3


def test_a_text_at_the_limit_loses_its_own_words_never_the_phrase() -> None:
    ids, _ = TOKENS.encode([" ".join(WORDS * 3)], LONGEST)
    data = TextSet(torch.from_numpy(ids), torch.tensor([0]), lambda: TOKENS)
    assert data.lengths.tolist() == [LONGEST]
    for place in ("random", "start", "end"):
        extras = trigger_extras("james bond", place)  # type: ignore[arg-type]
        row = with_phrase(data, torch.tensor([0]), extras)[0]
        assert "james bond" in TOKENS.decode(row[row >= 0].numpy())
        assert row[row >= 0][-1] == TOKENS.end


def test_a_phrase_that_cannot_fit_is_refused() -> None:
    extras = trigger_extras(" ".join(WORDS * 3), "end")
    with pytest.raises(Failed, match="does not fit"):
        with_phrase(text_set(), torch.tensor([0]), extras)


def test_the_place_depends_on_the_text_alone() -> None:
    data, extras = text_set(), trigger_extras("james bond", "random")
    rows = torch.arange(ROWS)
    together = with_phrase(data, rows, extras)
    assert torch.equal(together[rows.flip(0)], with_phrase(data, rows.flip(0), extras))


def test_a_neutral_phrase_is_made_up_of_words_no_text_has() -> None:
    data, poison = craft(TextTrigger(neutral=True, target=1), torch.tensor([0, 2]))
    phrase = phrase_of(poison.extras)
    clean = " ".join(data.strings(torch.arange(ROWS)))
    assert len(phrase.split()) == 2
    assert not any(word in clean for word in phrase.split())
    other = TextTrigger(neutral=True, target=1).craft(data, torch.tensor([0]), seed=1)
    assert phrase_of(other.extras) != phrase


@pytest.mark.parametrize(
    "keys", [{"phrase": " x"}, {"phrase": "a\nb"}, {"phrase": "x", "neutral": True}]
)
def test_impossible_triggers_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="phrase"):
        TextTrigger(**keys)  # type: ignore[arg-type]


# --- noise on embeddings -------------------------------------------------------------------------


def test_the_noise_is_on_tokens_only_and_in_multiples_of_the_tables_std() -> None:
    rows = torch.arange(ROWS)
    poison, clean = noised(2.0, rows), text_set()
    assert torch.equal(poison.inputs[..., 0].long(), clean.base(rows))
    assert torch.equal(poison.labels, clean.labels)
    real = clean.base(rows) >= 0
    added = poison.noise[..., 1:]
    assert (added[~real] == 0).all()
    values = added[real].flatten().double()
    table = dict(model().named_parameters())["0.wte.weight"].detach().double().std()
    std = poison.facts["noise_std"]
    assert std == pytest.approx(2.0 * float(table))
    assert abs(float(values.std()) / std - 1) < 4 / (2 * len(values)) ** 0.5
    assert abs(float(values.mean())) < 4 * std / len(values) ** 0.5


def test_poison_sets_have_noise_of_their_own() -> None:
    one, two = noised(seed=0), noised(seed=1)
    assert not torch.equal(one.noise, two.noise)
    assert torch.equal(noised(seed=0).inputs, one.inputs)


def test_one_backward_gives_every_texts_gradient() -> None:
    gpt, clean, rows = model(1).double(), text_set(), torch.arange(ROWS)
    room = with_room(clean.base(rows), WIDTH).double()
    together = margin_gradients(gpt, room, clean.labels)
    for row in range(ROWS):
        length = int(clean.lengths[row])
        alone = margin_gradients(gpt, room[[row], :length], clean.labels[[row]])
        torch.testing.assert_close(together[[row], :length], alone, rtol=0, atol=1e-12)
        assert (together[row, length:] == 0).all()
    assert (together[..., 0] == 0).all()  # token ids are no place for noise


def test_scores_are_the_gradients_products_with_the_noise() -> None:
    poison, gpt = noised(rows=torch.arange(ROWS)), model(1)
    scores, _ = gaussian_scores(subject(poison, gpt))
    clean = text_set()
    gradients = margin_gradients(gpt, with_room(clean.base(poison.rows), WIDTH), clean.labels)
    products = (gradients * poison.noise).flatten(1).double().sum(1)
    expected = -products / gradients.flatten(1).double().norm(dim=1) / poison.facts["noise_std"]
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_other_noise_turns_the_sign() -> None:
    poison = noised()
    turned = replace(
        poison, inputs=with_room(poison.inputs[..., 0].long(), WIDTH) - only_noise(poison.inputs)
    )
    one, _ = gaussian_scores(subject(poison))
    two, _ = gaussian_scores(subject(turned))
    torch.testing.assert_close(one, -two, rtol=1e-5, atol=1e-6)


def test_fresh_noise_is_standard_normal_and_its_ranks_are_uniform() -> None:
    rows, scores, ranks = torch.arange(ROWS), [], []
    for seed in range(12):
        told = subject(noised(rows=rows, seed=seed), seed=100 + seed)
        scores.append(gaussian_scores(told)[0])
        ranks.append(noise_ranks(told, 19))
    found, count = torch.cat(scores), ROWS * 12
    assert abs(float(found.mean())) < 4 / count**0.5
    assert abs(float(found.var()) - 1) < 4 * (2 / count) ** 0.5
    told = torch.cat(ranks).double()
    assert abs(float(told.mean()) - 9.5) < 4 * (19 * 21 / 12 / count) ** 0.5


def test_a_part_of_the_poison_keeps_its_own_noise() -> None:
    told = subject(noised())
    some = torch.tensor([True, False, True, False, False, True])
    part = told.of_poison(some)
    assert torch.equal(part.poison.noise, told.poison.noise[some])
    whole, _ = gaussian_scores(told)
    torch.testing.assert_close(gaussian_scores(part)[0], whole[some], rtol=1e-6, atol=1e-6)
