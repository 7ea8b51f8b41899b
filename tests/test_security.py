"""Strangers' presets, stores and logs are data: read without pickle, run by nobody, printed plainly."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "cli"))
sys.path.insert(0, str(Path(__file__).parent / "console"))

import homes
from harness import chelate

from console.output import say_json
from console.watching.feed import Feed
from console.watching.index import Index
from engine.jobs.events import strip_control
from engine.jobs.home import Home
from engine.jobs.runs import Run

ROOT = Path(__file__).resolve().parents[1]

# --- code that would run data ---------------------------------------------------------------------

# Reads archives whose checksum it knows, with an unpickler that builds arrays only.
JUSTIFIED = {"engine/lab/data/_cifar.py: pickle"}
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "yaml",
}
CALLS = {
    "eval", "exec", "compile", "torch.load", "os.system", "os.popen", "numpy.load", "np.load",
    "subprocess.getoutput", "subprocess.getstatusoutput", "os.execvp", "pandas.read_pickle",
}  # fmt: skip


def findings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        yield from (name for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        told = {word.arg: ast.unparse(word.value) for word in node.keywords}
        loads_arrays = called in ("numpy.load", "np.load") and told.get("allow_pickle") == "False"
        if called in CALLS and not loads_arrays:
            yield called
        if told.get("shell", "False") != "False":
            yield f"{called} with a shell"
        if told.get("trust_remote_code", "False") != "False":
            yield f"{called} with others' code"


def test_what_the_scan_finds() -> None:
    bad = """
import pickle
from joblib import load
torch.load(path, weights_only=True)
np.load(path)
np.load(path, allow_pickle=False)
subprocess.run("ls", shell=True)
model.eval()
eval(text)
"""
    assert sorted(findings(bad)) == [
        "eval", "joblib", "np.load", "pickle", "subprocess.run with a shell", "torch.load",
    ]  # fmt: skip


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {what}"
        for room in ("engine", "console")
        for path in (ROOT / room).rglob("*.py")
        for what in findings(path.read_text())
    }
    assert found == JUSTIFIED


# --- text that would command a terminal -----------------------------------------------------------

HOSTILE = "a\x1b]52;c;ZXZpbA==\x07b\x1b[2Jc\x9b31md\u202eexe.e\r\x00z"


def hostile(value: Any) -> Any:
    """The same, with every text that is no name of something changed for the worse."""
    if isinstance(value, dict):
        return {k: v if k in KEPT else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) else value


KEPT = {"key", "keys", "cost_keys", "inputs", "after", "id", "stage", "kind", "config", "outcome"}
KEPT |= {"device", "role", "audit", "event_kind"}


@pytest.fixture
def evil(tmp_path: Path) -> Run:
    """A run whose files were written by somebody who means harm."""
    homes.WrittenRun(tmp_path, "toy")
    run = Run(Home(tmp_path), "toy")
    for name in ("run.json", "plan.json"):
        path = run.folder / name
        path.write_text(json.dumps(hostile(json.loads(path.read_text()))))
    key = next(iter(run.plan.stages))
    (run.folder / "session.json").write_text(
        json.dumps({"v": 1, "outcome": "failed", "reason": f"because {HOSTILE}"})
    )
    attempt = run.folder / "attempts" / f"{key[:16]}.1"
    attempt.mkdir(parents=True)
    end = {"outcome": "failed", "reason": HOSTILE, "title": HOSTILE, "slot": HOSTILE, "key": key}
    (attempt / "exit.json").write_text(json.dumps({"v": 1, "stage": key, "attempt": 1, **end}))
    (attempt / "output.log").write_text(HOSTILE + "\n")
    lines = []
    for kind, data in [
        ("start", {"run": HOSTILE, "stages": 3, "todo": HOSTILE, "cached": HOSTILE, "slots": 1}),
        ("warning", {"text": HOSTILE}),
        ("start", {"title": HOSTILE, "slot": HOSTILE, "key": key, "attempt": 1, "kind": HOSTILE}),
        ("end", end),
        ("end", {"outcome": HOSTILE}),
    ]:
        envelope = {"v": 1, "seq": 0, "t": 1.0, "stage": "", "attempt": 0, "kind": kind}
        lines.append(json.dumps(envelope | {"data": data}))
    run.events.write_text("\n".join(lines) + "\n")
    own = {"v": 1, "seq": 0, "t": 1.0, "stage": key, "attempt": 1, "kind": "warning"}
    (attempt / "events.jsonl").write_text(json.dumps(own | {"data": {"text": HOSTILE}}) + "\n")
    return run


def plain(text: str) -> bool:
    return text == strip_control(text)


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "list"], ["runs", "list", "--json"], ["runs", "show", "toy"],
        ["runs", "show", "toy", "--json"], ["watch", "toy", "--plain"], ["compare", "toy"],
        ["compare", "toy", "--json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_print_no_commands(evil: Run, words: list[str]) -> None:
    done = chelate(*words, "--home", evil.home.root)
    assert "Traceback" not in done.stderr
    assert done.stdout + done.stderr
    for text in (done.stdout, done.stderr):
        assert plain(text), [line for line in text.splitlines() if not plain(line)][:3]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from texts(getattr(value, field.name))
    elif isinstance(value, dict):
        yield from texts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def test_the_console_shows_no_commands(evil: Run) -> None:
    index = Index(evil.home)
    index.scan()
    while index.busy:
        index.scan()
    feed = Feed(evil)
    while feed.poll():
        pass
    [row] = index.rows
    told = [*texts(row), *texts(feed.told(row))]
    assert len(told) > 20
    assert not [text for text in told if not plain(text)]


def test_json_keeps_what_it_must_not_print(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"text": HOSTILE})
    printed = capsys.readouterr().out
    assert plain(printed)
    assert json.loads(printed) == {"text": HOSTILE}
