"""The full-scale presets of texts: they plan, and their first steps run on a small checkpoint."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import pytest
from harness import (
    called,
    chelate,
    finish,
    hashes,
    objects,
    processes,
    run_json,
    start,
    strict_json,
    unhealthy,
    until,
    untimed,
)

from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run, every

PAPER = ("paper-backdoor-imdb", "paper-gaussian-imdb")
LONGEST = 24
METHODS = ("none", "retrain", "retrain-fresh", "gd", "scrub", "ssd", "euk")
WORDS = {"pos": ("good", "warm", "bright"), "neg": ("bad", "cold", "dull")}


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """aclImdb as it is unpacked, with 24 training and 8 test reviews."""
    for part, most in (("train", 12), ("test", 4)):
        for label, words in WORDS.items():
            folder = tmp_path / "aclImdb" / part / label
            folder.mkdir(parents=True)
            for number in range(most):
                word = words[number % len(words)]
                text = f"a {word} film<br /><br />number {number}, " + "and so on, " * number
                (folder / f"{number}_{number % 10}.txt").write_text(text, encoding="utf-8")
    return tmp_path / "aclImdb"


@pytest.fixture
def checkpoint(tmp_path: Path, reviews: Path) -> Path:
    """A GPT-2 of two blocks and its tokenizer, laid out as on the hub."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    folder, end = tmp_path / "tiny-gpt2", "<|endoftext|>"
    trained = ByteLevelBPETokenizer()
    files = [str(path) for path in sorted(reviews.glob("train/*/*.txt"))]
    trained.train(files, vocab_size=300, special_tokens=[end])
    GPT2TokenizerFast(tokenizer_object=trained._tokenizer, eos_token=end).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=300, n_positions=LONGEST, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    return folder


@pytest.mark.parametrize("preset", PAPER)
def test_the_presets_of_355_million_weights_plan(
    preset: str, reviews: Path, tmp_path: Path
) -> None:
    """Without a network and without the weights; 24 reviews need a larger share."""
    attack = "gaussian" if "gaussian" in preset else "text-trigger"
    words = ("--set", f"data.path={reviews}", "--home", tmp_path / "home")
    words += ("--set", f"attacks=[{{name='{attack}', share=0.1}}]")
    told = strict_json(called("plan", preset, *words, "--json").stdout)
    (guess,) = told["estimates"]
    assert guess["parameters"] == 354_823_168 + 2 * 1024  # as published, and a head of two classes
    # Of weights, gradients and AdamW's moments alone, 16 bytes each and bf16's copy.
    assert guess["bytes"] > 18 * guess["parameters"]
    assert len({cell["seed"] for cell in told["cells"]}) == 5
    text = called("plan", preset, *words).stdout
    assert "355 million weights" in text.replace("\n", " ")


def steps_taken(run: Run, kind: str) -> int:
    """Steps reported by stages of a kind that are under way."""
    told = 0
    for key in (stage.key for stage in run.plan.stages.values() if stage.kind == kind):
        for path in run.folder.glob(f"attempts/{key[:16]}.*/events.jsonl"):
            seen = [e["data"] for e in EventTail(path).read() if e["kind"] == "progress"]
            told += bool(seen) and seen[-1]["done"] < seen[-1]["total"]
    return told


@pytest.mark.slow
@pytest.mark.parametrize("preset", PAPER)
def test_first_steps_on_a_checkpoint_and_after_being_killed(
    preset: str, reviews: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Trains and unlearns from a folder's weights; a killed worker changes no byte."""
    attack = "gaussian" if "gaussian" in preset else "text-trigger"
    changes = [
        f"data.path={reviews}", f"data.tokenizer={checkpoint}", f"data.max_tokens={LONGEST}",
        f"model.checkpoint={checkpoint}", "train.epochs=300", "train.lr=1e-3", "budgets=[0.1]",
        f"attacks=[{{name='{attack}', share=0.25}}]",
        f"methods=[{', '.join(f'{{name={name!r}}}' for name in METHODS)}]",
        "compute.workers=1",
    ]  # fmt: skip
    words = ["--seeds", "0", *(w for change in changes for w in ("--set", change))]
    whole = tmp_path / "whole"
    document = run_json(Path(preset), whole, *words)
    assert document["status"] == "done"
    rows = [row for row in document["rows"] if row["primary"]]
    assert {row["method"] for row in rows} == set(METHODS)
    assert all(row["values"] for row in rows), shlex.join(words)
    known = {row["method"]: row for row in rows if row["audit"] == "accuracy"}
    assert known["none"]["mean"] >= 0.75  # six words decide

    home = tmp_path / "home"
    console = start("run", preset, "--home", home, "--plain", *words)
    run = until(lambda: next(every(Home(home)), None))
    until(lambda: steps_taken(run, "train"))
    for worker in processes(home, "engine.jobs.worker"):
        worker.send_signal(signal.SIGKILL)
    done = finish(console)
    assert done.returncode == 0, done.stderr
    assert "the worker died (signal 9)" in done.stdout
    assert hashes(home) == hashes(whole)
    assert not unhealthy(home)
    assert max(record["attempt"] for record in objects(home).values()) == 2
    again = strict_json(chelate("run", preset, "--home", home, "--json", *words).stdout)
    assert untimed(again["rows"]) == untimed(document["rows"])
