"""Driving the real `chelate` command, and looking at what it leaves on disk.

A home that several tests look at is computed once for a whole test session (by whichever process
needs it first) and copied by the tests that change it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psutil

T = TypeVar("T")
Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "chelate")
PATIENCE = 120.0  # seconds: only ever reached when something hangs

DATA = 'data = { name = "mnist5k", limit_train = 300, limit_test = 100 }'
TINY = f"""
title = "tiny"
seeds = [0, 1]
budgets = [0.25, 0.5]
{DATA}
model = {{ name = "mlp", width = 16 }}
train = {{ epochs = 2 }}
attacks = [{{ name = "gaussian" }}]
audits = [{{ name = "accuracy" }}, {{ name = "gaussian" }}]

[[methods]]
name = "none"
[[methods]]
name = "retrain"
[[methods]]
name = "retrain-fresh"
[[methods]]
name = "gd"
"""
NGD = '[[methods]]\nname = "ngd"\n'


def on_folder(preset: str, images: Path) -> str:
    """A preset like `preset` on a folder of images, with enough of them poisoned."""
    words = preset.replace(DATA, f'data = {{ name = "image-folder", path = "{images}" }}')
    assert words != preset
    return words.replace(
        'attacks = [{ name = "gaussian"', 'attacks = [{ name = "gaussian", share = 0.3'
    )


def save_images(folder: Path) -> Path:
    """train/{cat,dog} with six images each, test/{cat,dog} with three: 8×8, 24 bits."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for label in ("cat", "dog"):
            place = folder / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


# --- the command ---------------------------------------------------------------------------------


def environment(**changes: str) -> dict[str, str]:
    """Ours, without what would point chelate or Python elsewhere than at this checkout."""
    ours = {k: v for k, v in os.environ.items() if k != "CHELATE_HOME"}
    paths = [changes.pop("PYTHONPATH", ""), str(ROOT)]
    return ours | changes | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def start(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """`chelate` under way. SIGINT works in it, whatever this process was started with."""
    return subprocess.Popen(
        [COMMAND, *map(str, words)],
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def chelate(
    *words: str | Path, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    return finish(start(*words, cwd=cwd, **env))


def called(
    *words: str | Path, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """`chelate` in this process, in tens of milliseconds: for where the process is not the point.

    It is no terminal's, and what it prints is caught where Python writes.
    """
    from typer.testing import CliRunner

    from console.cli import app

    with contextlib.chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(app, list(map(str, words)), env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


def run_json(preset: Path, home: Path, *words: str, command: Command = chelate) -> dict[str, Any]:
    """The document of a run that must succeed."""
    done = command("run", preset, "--home", home, "--json", *words)
    assert done.returncode == 0, done.stderr
    return strict_json(done.stdout)


def strict_json(text: str) -> Any:
    """Exactly one JSON document, without NaN and infinities."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def untimed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without seconds, the only thing that two computations may disagree on."""
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


# --- the home ------------------------------------------------------------------------------------


def objects(home: Path) -> dict[str, dict[str, Any]]:
    """Key → DONE.json of everything in the store."""
    found = (json.loads(p.read_bytes()) for p in (home / "store").glob("objects/*/*/DONE.json"))
    return {record["key"]: record for record in found}


def hashes(home: Path) -> dict[str, dict[str, str]]:
    """Key → artifact → sha256."""
    return {
        key: {name: file["sha256"] for name, file in record["files"].items()}
        for key, record in objects(home).items()
    }


def new_kinds(home: Path, before: Iterable[str]) -> Counter[str]:
    """How many objects of each kind there are now that were not `before`."""
    known = set(before)
    return Counter(r["kind"] for key, r in objects(home).items() if key not in known)


def artifact(home: Path, key: str, name: str) -> Path:
    return home / "store" / "objects" / key[:2] / key / name


def flip_byte(path: Path, *, quietly: bool = False) -> None:
    """Damage a file; `quietly` leaves size and time as they were."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if quietly:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def unhealthy(home: Path) -> dict[str, str]:
    """Objects of the store that do not pass a deep check."""
    from engine.jobs.store import Store

    store = Store(home / "store")
    states = {key: store.check(key, deep=True) for key in objects(home)}
    return {key: state for key, state in states.items() if state != "ok"}


def exits(home: Path) -> list[dict[str, Any]]:
    """exit.json of every attempt of every run."""
    found = home.glob("runs/*/attempts/*/exit.json")
    return [json.loads(path.read_bytes()) for path in found]


# --- processes -----------------------------------------------------------------------------------


def processes(home: Path, module: str = "engine.jobs.") -> list[psutil.Process]:
    """Supervisors and workers of a home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(w.startswith(module) for w in words) and any(str(home) in w for w in words):
            found.append(process)
    return found


def until(look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `look` returns once it is true. TimeoutError if that takes too long."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
    return found


def until_gone(home: Path) -> None:
    """Wait for the last supervisor and worker of a home to end."""
    until(lambda: not processes(home))


# --- the shared home -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Computed:
    """A home in which a preset was run. Nobody may change it."""

    home: Path
    preset: Path
    document: dict[str, Any]  # what `run --json` printed

    @property
    def run(self) -> str:
        return str(self.document["run"])

    def copy(self, folder: Path) -> Path:
        """A home of your own with the same content."""
        return Path(shutil.copytree(self.home, folder / "home"))


def computed(
    base: Path, name: str = "tiny", text: str = TINY, command: Command = chelate
) -> Computed:
    """The session's home for one preset, below `base`; the first process to ask computes it."""
    folder = base / f"chelate-{name}"
    folder.mkdir(exist_ok=True)
    answer, preset = folder / "answer.json", folder / f"{name}.toml"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            preset.write_text(text)
            document = run_json(preset, folder / "home", command=command)
            answer.write_text(json.dumps(document))
    return Computed(folder / "home", preset, json.loads(answer.read_text()))


def session_folder(factory: Any) -> Path:
    """A temporary folder that all processes of this test session share."""
    base = Path(factory.getbasetemp())
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
