"""The GPT-2 chain computes what transformers' classifier computes, whatever the padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.lab.context import Failed
from engine.lab.methods._rows import label_gradient, per_row
from engine.lab.models._gpt2 import load
from engine.lab.models.gpt2 import GPT2
from engine.lab.texts import with_room
from engine.lab.units import run, split, units
from engine.lab.views import Batch
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput

LONGEST, IDS, WIDTH = 12, 40, 16
LENGTHS = (12, 1, 5, 2, 7)
SMALL: dict[str, Any] = {"layers": 2, "width": WIDTH, "heads": 2}


def texts(longest: int = LONGEST) -> Tensor:
    ids = torch.randint(0, IDS, (len(LENGTHS), longest), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(LENGTHS):
        ids[row, length:] = -1
    return ids


def built(**keys: Any) -> nn.Module:
    torch.manual_seed(0)
    return GPT2(**SMALL | keys).build((LONGEST, IDS, 1), 3, [], []).eval()


def reference(model: nn.Module) -> Any:
    """transformers' own classifier with the same weights."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(
        vocab_size=IDS, n_positions=LONGEST, n_embd=WIDTH, n_layer=2, n_head=2,
        num_labels=3, pad_token_id=0,
    )  # fmt: skip
    theirs = GPT2ForSequenceClassification(config).eval()
    parts = list(model.children())
    theirs.transformer.wte.load_state_dict(parts[0].wte.state_dict())
    theirs.transformer.wpe.load_state_dict(parts[0].wpe.state_dict())
    for mine, block in zip(parts[1:3], theirs.transformer.h, strict=True):
        block.load_state_dict(mine.block.state_dict())
    theirs.transformer.ln_f.load_state_dict(parts[4].state_dict())
    theirs.score.load_state_dict(parts[5].state_dict())
    return theirs


def test_equals_transformers_text_by_text() -> None:
    model, ids = built().double(), texts()
    theirs = reference(model).double()
    with torch.no_grad():
        mine = model(ids)
        for row, length in enumerate(LENGTHS):
            one = theirs(input_ids=ids[row : row + 1, :length]).logits
            torch.testing.assert_close(mine[row : row + 1], one, rtol=0, atol=1e-12)


def test_logits_do_not_depend_on_padding_or_company() -> None:
    model, ids = built().double(), texts()
    with torch.no_grad():
        together = model(ids)
        for row, length in enumerate(LENGTHS):
            alone = model(ids[row : row + 1, :length])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)


def test_room_for_noise_changes_nothing_and_noise_is_added_to_the_embeddings() -> None:
    model, ids = built().double(), texts()
    noise = 0.1 * torch.randn((*ids.shape, WIDTH), dtype=torch.float64)
    room = with_room(ids, WIDTH).double()
    theirs = reference(model).double()
    with torch.no_grad():
        assert torch.equal(model(room), model(ids))
        room[..., 1:] = noise
        mine = model(room)
        for row, length in enumerate(LENGTHS):
            embedded = theirs.transformer.wte(ids[row : row + 1, :length]) + noise[row, :length]
            states = theirs.transformer(inputs_embeds=embedded).last_hidden_state[:, -1]
            torch.testing.assert_close(
                mine[row : row + 1], theirs.score(states), rtol=0, atol=1e-12
            )


def test_noise_behind_the_end_is_never_read() -> None:
    model, ids = built(), texts()
    room = with_room(ids, WIDTH)
    dirty = room.clone()
    dirty[..., 1:][ids < 0] = 7.0
    assert torch.equal(model(room), model(dirty))


def test_units_are_embedding_blocks_and_head() -> None:
    model, ids = built(), texts()
    assert torch.equal(run(units(model), ids), model(ids))
    for k, blocks in ((1, 0), (2, 1), (3, 2)):
        _, tail = split(model, k)
        assert sum(type(unit).__name__ == "Block" for unit in tail) == blocks
        assert isinstance(tail[-1], nn.Linear)
    assert split(model, 4)[0] == []


def test_recomputing_gives_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model, ids = built(recompute=recompute).train(), texts()
        torch.manual_seed(5)  # dropout's
        model(ids).logsumexp(1).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


def test_gradients_of_single_rows_see_through_recomputing() -> None:
    batch, found = Batch(texts(), torch.arange(len(LENGTHS)) % 3), []
    for recompute in (False, True):
        model = built(recompute=recompute)
        found += [list(per_row(model, [batch], label_gradient("cross-entropy")))]
        assert [b.recompute for b in model.modules() if hasattr(b, "recompute")] == 2 * [recompute]
    for one, two in zip(*found, strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def info(**keys: Any) -> DataInfo:
    told = {"digest": "", "train": 9, "test": 9, "shape": (LONGEST, 1, 1), "classes": ("a", "b"),
            "train_per_class": (5, 4), "kind": "text", "vocabulary": IDS}  # fmt: skip
    return DataInfo(**told | keys)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint as the hub lays it out."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    config = GPT2Config(vocab_size=IDS, n_positions=LONGEST, n_embd=WIDTH, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def loaded(saved: Path) -> nn.Module:
    planned = GPT2.model_validate(GPT2(checkpoint=str(saved)).config())
    model = planned.build((LONGEST, IDS, 1), 2, [], [])
    planned.load_pretrained(model)
    return model.eval()


def test_a_checkpoint_gives_every_weight_but_the_head(saved: Path) -> None:
    from transformers import GPT2LMHeadModel

    body = GPT2LMHeadModel.from_pretrained(saved).eval().transformer
    torch.manual_seed(0)
    model = loaded(saved)
    ids = texts()
    states = run(units(model)[:-1], ids)
    for row, length in enumerate(LENGTHS):
        theirs = body(input_ids=ids[row : row + 1, :length]).last_hidden_state[0, -1]
        torch.testing.assert_close(states[row], theirs, rtol=0, atol=1e-5)
    torch.manual_seed(1)
    assert not torch.equal(list(loaded(saved).parameters())[-1], list(model.parameters())[-1])


def test_a_checkpoint_is_known_by_content_not_by_place(saved: Path, tmp_path: Path) -> None:
    here = GPT2(checkpoint=str(saved)).identity()
    moved = saved.rename(tmp_path / "elsewhere")
    assert GPT2(checkpoint=str(moved)).identity() == here
    content = bytearray((moved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (moved / "model.safetensors").write_bytes(content)
    assert GPT2(checkpoint=str(moved)).identity() != here


def test_a_checkpoint_that_changed_after_planning_is_refused(saved: Path) -> None:
    planned = GPT2.model_validate(GPT2(checkpoint=str(saved)).config())
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(Failed, match="changed"):
        planned.load_pretrained(planned.build((LONGEST, IDS, 1), 2, [], []))


def test_a_hub_name_plans_without_network_and_fails_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = GPT2(checkpoint="gpt2-medium").config()
    assert (told["layers"], told["width"], told["positions"]) == (24, 1024, 1024)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Failed, match="'gpt2-nowhere-at-all' cannot be loaded") as caught:
        load(built(), "gpt2-nowhere-at-all", "main")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"checkpoint": "no/such/folder"}, "is no folder here"),
        ({"positions": LONGEST - 1}, "data.max_tokens = 12: the model has 11 positions"),
        ({"vocabulary": IDS - 1}, "up to 40 tokens and the model 39"),
    ],
)
def test_bad_keys_are_refused_before_anything_is_computed(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        GPT2(**keys).check(info())


def test_a_folder_without_a_gpt2_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadInput, match=r"config\.json does not describe a GPT-2"):
        GPT2(checkpoint=str(saved)).config()
    (saved / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json: No such file"):
        GPT2(checkpoint=str(saved)).config()


@pytest.mark.parametrize("keys", [{"width": 10, "heads": 3}, {"checkpoint": "gpt2", "layers": 3}])
def test_impossible_keys_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must divide|the checkpoint decides it"):
        GPT2(**keys)
