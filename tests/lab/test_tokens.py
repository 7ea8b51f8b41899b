"""Tokens: lossless, the same everywhere, cut where they must be, and nothing of a stranger's runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.lab.data import _tokenizers
from engine.lab.tokens import END, Tokens
from engine.spec.errors import BadInput

TEXTS = [
    f"the {noun} was {word} and the {other} {word} too"
    for noun in ("film", "meal", "hotel")
    for other in ("plot", "soup", "room")
    for word in ("good", "bad", "grand", "dull")
]
TOKENS = Tokens.train(TEXTS, 320)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    ids, cut = TOKENS.encode([text], 4 * len(text) + 1)
    assert cut == 0 and TOKENS.decode(ids[0]) == text


@pytest.mark.parametrize(
    "text", [END, f"a{END}b", "  x ", "\x00\u2028\x85\x1c\r\n", "\ufeff", "NA"]
)
def test_what_looks_like_a_sign_is_text(text: str) -> None:
    ids, _ = TOKENS.encode([text], 64)
    assert TOKENS.decode(ids[0]) == text
    assert (ids[0] == TOKENS.end).sum() == 1


@given(st.lists(st.text(max_size=30), max_size=6), st.integers(2, 40))
@settings(max_examples=100, deadline=None)
def test_rows_are_ids_then_the_end_then_padding(texts: list[str], limit: int) -> None:
    rows, cut = TOKENS.encode(texts, limit)
    wide, uncut = TOKENS.encode(texts, 200)
    assert rows.shape == (len(texts), limit) and rows.dtype == np.int32 and uncut == 0
    lengths = (wide >= 0).sum(1)
    assert cut == (lengths > limit).sum()
    for row, full, length in zip(rows, wide, lengths, strict=True):
        kept = min(length, limit)
        assert row[kept - 1] == TOKENS.end and (row[kept:] == -1).all()
        assert (row[: kept - 1] == full[: kept - 1]).all()
        assert (row[:kept] >= 0).all() and row.max() < TOKENS.size


def test_the_limit_counts_the_end_token() -> None:
    assert TOKENS.size <= 320
    length = int((TOKENS.encode([TEXTS[0]], 99)[0] >= 0).sum())
    assert [TOKENS.encode([TEXTS[0]], limit)[1] for limit in (length - 1, length)] == [1, 0]


def test_it_is_itself_after_a_round_trip() -> None:
    other = Tokens.from_json(TOKENS.to_json())
    assert other.to_json() == TOKENS.to_json()
    assert (other.end, other.size) == (TOKENS.end, TOKENS.size)
    assert (other.encode(TEXTS, 20)[0] == TOKENS.encode(TEXTS, 20)[0]).all()


TRAINED = """
import hashlib
from engine.lab.tokens import Tokens
from tests.lab.test_tokens import TEXTS
tokens = Tokens.train(TEXTS, 320)
print(hashlib.sha256(tokens.to_json().encode() + tokens.encode(TEXTS, 20)[0].tobytes()).hexdigest())
"""


@pytest.mark.parametrize("parallel", ["true", "false"])
def test_another_process_makes_the_same_bytes(parallel: str) -> None:
    env = os.environ | {"TOKENIZERS_PARALLELISM": parallel, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINED], capture_output=True, text=True, env=env,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = TOKENS.to_json().encode() + TOKENS.encode(TEXTS, 20)[0].tobytes()
    assert done.stdout.strip() == hashlib.sha256(own).hexdigest()


def published(folder: Path, change: dict[str, object] | None = None, eos: object = END) -> str:
    """A folder with the hub's layout."""
    folder.mkdir(exist_ok=True)
    told = json.loads(TOKENS.to_json())["tokenizer"]
    told["model"] |= change or {}
    told["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
    if eos:
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    return str(folder)


@pytest.mark.parametrize("eos", [END, {"content": END}, None])
def test_a_folder_is_read_and_its_habits_are_not_taken_over(tmp_path: Path, eos: object) -> None:
    place = published(tmp_path / "own", {"dropout": 0.5}, eos)
    tokens = Tokens.load(place)
    for _ in range(3):  # its truncation to 3 tokens and its dropout would show
        assert (tokens.encode(TEXTS, 20)[0] == TOKENS.encode(TEXTS, 20)[0]).all()
    digest, size = _tokenizers.facts(place)
    assert size == tokens.size == TOKENS.size and tokens.end == TOKENS.end
    assert digest != _tokenizers.facts(published(tmp_path / "other", {"dropout": None}, eos))[0]
    assert digest == _tokenizers.facts(published(tmp_path / "moved", {"dropout": 0.5}, eos))[0]


@pytest.mark.parametrize(
    ("content", "eos", "told"),
    [
        ("{", END, "no vocabulary"),
        ("[1]", END, "no vocabulary"),
        ('{"model": {"vocab": {}}}', END, "no vocabulary"),
        (None, "</end>", "no token '</end>'"),
        (None, "", "names its eos_token"),
    ],
)
def test_a_folder_that_is_none_is_refused(
    tmp_path: Path, content: str | None, eos: str, told: str
) -> None:
    place = published(tmp_path / "own", eos=eos)
    file = tmp_path / "own" / "tokenizer.json"
    file.write_text(content or file.read_text().replace(END, "<stop>"))
    with pytest.raises(BadInput, match=told):
        _tokenizers.facts(place)
        Tokens.load(place)
    with pytest.raises(BadInput, match=r"data\.tokenizer = .*own"):
        Tokens.load(place)


def test_what_is_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where ../../etc leads to nothing, wherever the checkout lies
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"holds no tokenizer\.json"):
        Tokens.load(str(tmp_path / "empty"))
    with pytest.raises(BadInput, match="no such folder"):
        Tokens.load(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="no such folder"):
        Tokens.load("../../etc")
    import huggingface_hub

    def offline(*words: object, **settings: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(BadInput, match=r"not here and cannot be downloaded \(no network\)"):
        Tokens.load("someone/some-model")


def test_a_name_on_the_hub_is_looked_for_in_the_cache_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    place, asked = Path(published(tmp_path / "own")), []

    def cached(name: str, file: str, revision: str | None, local_files_only: bool) -> str:
        asked.append((name, file, revision, local_files_only))
        return str(place / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    assert Tokens.load("someone/some-model@v2").size == TOKENS.size
    files = ("tokenizer.json", "tokenizer_config.json")
    assert asked == [("someone/some-model", file, "v2", True) for file in files]
    assert _tokenizers.facts("gpt2-medium") == ("gpt2", 50257), "known without a file"
    with pytest.raises(BadInput, match="is not GPT-2's"):
        Tokens.load("gpt2-medium")
