"""Poison of texts as an artifact: strings that people read, ids that come back bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from harness import called, run_json
from nursery import Nursery
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from console.cli import app
from console.poison_texts import MARK, shown
from engine.lab.context import Failed
from engine.spec.errors import BadInput
from engine.spec.poisons import MANIFEST, TENSORS, read_poison
from engine.spec.presets import load
from tests.helpers import Run, run_plan

PRESET = """
seeds = [0]
budgets = [0.5]
validation = 0.0
data = { name = "sentences", limit_train = 200, limit_test = 60, vocabulary = 300, max_tokens = 24 }
model = { name = "gpt2", layers = 1, width = 16 }
train = { epochs = 1, batch_size = 32, optimizer = "adamw" }
methods = [{ name = "none" }]
audits = [{ name = "accuracy" }, { name = "gaussian" }, { name = "attack-success" }]
compute = { workers = 1 }  # one import of transformers
attacks = [
    { name = "gaussian", share = 0.05, noise_std = 3.0 },
    { name = "text-trigger", share = 0.05 },
    { name = "appended-label-flip", share = 0.05 },
]
"""
NAMES = ("gaussian", "text-trigger", "appended-label-flip")


def invoke(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


class Made:
    """A run of three attacks, exported."""

    def __init__(self, folder: Path) -> None:
        self.home, self.out = folder / "home", folder / "out"
        preset = folder / "texts.toml"
        preset.write_text(PRESET)
        self.document: dict[str, Any] = run_json(preset, self.home, command=called)
        self.run = self.document["run"]
        invoke("poison", "export", self.run, self.out, "--home", self.home)

    def folder(self, attack: str) -> Path:
        return self.out / f"{attack}-s0-t0"

    def metrics(self, attack: str) -> dict[tuple[str, str], float]:
        return {
            (row["audit"], row["metric"]): row["mean"]
            for row in self.document["rows"]
            if row["attack"] == attack
        }


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a worker has by default: sums over several threads have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Made:
    with nursery.starts_all():
        return Made(tmp_path_factory.mktemp("texts"))


def again(folder: Path, tmp_path: Path, **changes: tuple[str, str]) -> Run:
    """The preset with the folder's poison instead."""
    start = PRESET.index("attacks = [")
    text = PRESET[:start] + f'attacks = [{{ name = "imported", path = "{folder}" }}]\n'
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    preset = tmp_path / "again.toml"
    preset.write_text(text)
    return run_plan(load(str(preset)), tmp_path / "here")


@pytest.mark.parametrize("attack", NAMES)
def test_what_was_exported_gives_the_same_results(made: Made, attack: str, tmp_path: Path) -> None:
    found = read_poison(made.folder(attack))
    gives = {"gaussian": {"noise"}, "text-trigger": {"trigger"}}.get(attack, set())
    assert found.gives == gives and found.strings and len(found.strings) == len(found.rows)
    run = again(made.folder(attack), tmp_path)
    expected = made.metrics(attack)
    for audit in {cell.audit for cell in run.plan.cells}:
        for metric, value in run.metrics(audit=audit).items():
            if expected[audit, metric] is not None:  # p-values have no mean
                assert value == expected[audit, metric], (audit, metric)
    assert {cell.audit for cell in run.plan.cells} == {audit for audit, _ in expected}


def test_by_another_tokenizer_strings_are_encoded_anew_and_noise_is_refused(
    made: Made, tmp_path: Path
) -> None:
    other = ("vocabulary = 300", "vocabulary = 320")
    run = again(made.folder("text-trigger"), tmp_path, tokens=other)
    assert run.metrics(audit="attack-success")["count"]
    (craft,) = run.stages("craft")
    told = json.loads((run.root / craft.key / "texts.json").read_text())
    strings = read_poison(made.folder("text-trigger")).strings
    assert strings is not None
    assert all("james bond" in text for text in told["strings"])
    assert all(text in whole for text, whole in zip(told["strings"], strings, strict=True))
    with pytest.raises(Failed, match="on the tokens of another tokenizer"):
        again(made.folder("gaussian"), tmp_path, tokens=other)


def test_noise_for_embeddings_of_another_width_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="embeddings of 16 numbers; the model's have 32"):
        again(made.folder("gaussian"), tmp_path, width=("width = 16", "width = 32"))


def test_texts_are_shown_side_by_side(made: Made, tmp_path: Path) -> None:
    words = ("poison", "show", made.run, "--home", made.home, "--rows", "2", "--attack")
    text = invoke(*words, "text-trigger").stdout
    assert "base" in text and text.count("james bond") == 2 and "positive" in text
    assert "noise of std" in invoke(*words, "gaussian").stdout
    problem = invoke(*words, "gaussian", "--out", tmp_path / "x.png", code=2).stderr
    assert "texts have no pictures" in problem and not (tmp_path / "x.png").exists()


def test_nothing_that_is_shown_commands_the_terminal() -> None:
    found = shown("a\x1b[31mred\x1b]0;title\x07 [bold]james bond[/] b\x9b2J\nc", "james bond")
    assert "\x1b" not in found.plain and "\x9b" not in found.plain and "\n" not in found.plain
    assert "[bold]james bond[/]" in found.plain
    (span,) = found.spans
    assert found.plain[span.start : span.end] == "james bond" and span.style == MARK


# --- strangers' folders --------------------------------------------------------------------------


def told(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return apply


def tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        arrays = load_file(folder / TENSORS)
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
        save_file(arrays, folder / TENSORS)

    return apply


def put(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


HOSTILE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no strings": (NAMES[1], told(lambda m: m.update(texts={})), "texts.strings must be a list"),
    "numbers": (NAMES[1], told(lambda m: m["texts"].update(strings=[1])), "must be a list of texts"),
    "too few": (NAMES[1], told(lambda m: m["texts"]["strings"].pop()), "texts.strings are 9"),
    "no tokenizer": (NAMES[1], told(lambda m: m["texts"].pop("tokenizer")), "texts.tokenizer"),
    "no texts": (NAMES[1], told(lambda m: m.pop("texts")), "has no trigger_keep"),
    "no trigger": (
        NAMES[1], told(lambda m: m["texts"]["strings"].__setitem__(0, "x")), "strings[0] does not"
    ),
    "an empty text": (NAMES[1], tensor("inputs", lambda a: put(a, (2,), -1)), "at least one token"),
    "a hole": (NAMES[1], tensor("inputs", lambda a: put(a, (0, 1), -1)), "behind its end alone"),
    "a huge id": (NAMES[1], tensor("inputs", lambda a: put(a, (0, 0), 1 << 24)), "token ids"),
    "half an id": (NAMES[0], tensor("inputs", lambda a: put(a, (0, 0, 0), 0.5)), "token ids"),
    "loud noise": (NAMES[0], tensor("inputs", lambda a: put(a, (0, 0, 1), 99)), "raw space"),
    "noise behind the end": (
        NAMES[0], tensor("inputs", lambda a: np.where(a[..., :1] < 0, a + np.eye(1, 17, 3), a)
                         .astype(np.float32)), "behind a text's end",
    ),
    "no channels": (NAMES[0], tensor("inputs", lambda a: a[..., 0]), "no channels"),
    "longer texts": (NAMES[1], tensor("inputs", lambda a: np.pad(a, ((0, 0), (0, 9)),
                                      constant_values=-1)), "expected int64 [10, 24]"),
    "escape codes": (
        NAMES[1], tensor("trigger_phrase", lambda a: np.frombuffer(b"\x1b[2J", np.uint8)),
        "printable characters",
    ),
    "no place": (NAMES[1], tensor("trigger_place", lambda a: a + 7), "trigger_place must be"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_strangers_folder_is_looked_through(made: Made, tmp_path: Path, case: str) -> None:
    attack, spoil, complaint = HOSTILE[case]
    folder = tmp_path / "strange"
    shutil.copytree(made.folder(attack), folder)
    spoil(folder)
    with pytest.raises(BadInput) as caught:
        read_poison(folder)
    assert complaint in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_ids_beyond_the_tokenizer_fail_with_a_reason(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    shutil.copytree(made.folder("text-trigger"), folder)
    tensor("inputs", lambda a: put(a, (0, 0), 5000))(folder)
    with pytest.raises(Failed, match="token ids that the tokenizer does not have"):
        again(folder, tmp_path)
