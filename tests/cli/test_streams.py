"""Terminals that are not UTF-8, readers that go away, names that are no text: never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import (
    COMMAND,
    TINY,
    Computed,
    called,
    chelate,
    environment,
    on_folder,
    save_images,
)

NOBODY = "~nosuchuser/x"
ACCURACY = 'audits=[{name="accuracy"}]'
LATIN = os.fsdecode(b"caf\xe9")  # as a folder of an old disk is called


def run_raw(words: list[str], stdout: int, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, *words], env=environment(**env), stdout=stdout, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "C", "LC_ALL": ""},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONUTF8": "0", "LC_ALL": "C"},
    ],
    ids=lambda env: " ".join(f"{name}={value}" for name, value in env.items()),
)
def test_a_terminal_that_is_not_utf_8_gets_ascii(env: dict[str, str], shared: Computed) -> None:
    words = ["compare", shared.run, "--home", str(shared.home)]
    done = run_raw(words, subprocess.PIPE, **env)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.isascii() and b"+-" in done.stdout and b"?" not in done.stdout
    lines = done.stdout.decode().splitlines()
    table = [line for line in lines if line.startswith(("|", "+"))]
    assert len(table) > 5 and len({len(line) for line in table}) == 1  # still in columns


def test_a_terminal_that_is_utf_8_gets_it(shared: Computed) -> None:
    words = ["compare", shared.run, "--home", str(shared.home)]
    done = run_raw(words, subprocess.PIPE, PYTHONIOENCODING="utf-8", LC_ALL="C")
    assert "±" in done.stdout.decode() and "─" in done.stdout.decode()


def test_everything_chelate_says_has_a_form_in_ascii() -> None:
    """Each character that a command may print, of all texts in the sources."""
    from console.characters import in_ascii

    root = Path(__file__).resolve().parents[2]
    files = [path for name in ("console", "engine") for path in (root / name).rglob("*.py")]
    found = set("".join(path.read_text() for path in files))
    lost = {one for one in found if not one.isascii() and in_ascii(one) == "?"}
    assert not lost
    for box in "─│┌┐└┘├┤┬┴┼━┃┏┓┗┛┡┩╇":
        assert in_ascii(box) in "-|+"
    assert in_ascii(f"{LATIN} × – ✓ ± é") == "caf\\xe9 x - + +- e"


@pytest.mark.parametrize("words", [["--help"], ["runs", "list"], ["explain", "verdict", "--bad"]])
def test_a_disk_that_is_full(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with Path("/dev/full").open("wb") as full:
        done = run_raw(words, full.fileno(), CHELATE_HOME=str(tmp_path))
    told = done.stderr.decode()
    assert done.returncode != 0 and "Traceback" not in told
    if words != ["explain", "verdict", "--bad"]:
        assert told == (
            "chelate: standard output cannot be written: No space left on device.\n"
        ) or words == ["runs", "list"]


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = run_raw(["explain", "verdict"], theirs)
    os.close(theirs)
    assert done.returncode == 141 and not done.stderr


def test_streams_that_are_closed(shared: Computed) -> None:
    """Nothing that is opened later becomes standard output: what is read stays what it was."""
    for closed in (">&-", "<&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'"$0" "$@" {closed}', COMMAND, "runs", "show", shared.run],
            env=environment(CHELATE_HOME=str(shared.home)), capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_what_is_lost_of_complaints_ends_nothing() -> None:
    from console.streams import Complaints, Output, OutputLost

    with Path("/dev/full").open("wb", buffering=0) as full:
        complaints = Complaints(io.BufferedWriter(full), "utf-8", write_through=True)
        assert complaints.write("lost") == 4
        complaints.flush()
        output = Output(io.BufferedWriter(full), "utf-8")
        output.write("kept for now")
        with pytest.raises(OutputLost, match="No space left"):
            output.flush()
    for stream in (complaints, output):
        with contextlib.suppress(OSError, ValueError, OutputLost):
            stream.close()


def test_the_home_of_nobody(tmp_path: Path, tiny: Path) -> None:
    for words in (
        ("runs", "list", "--home", NOBODY),
        ("run", f"{NOBODY}.toml"),
        ("presets", "validate", f"{NOBODY}.toml"),
        ("run", tiny, "--set", f"train.from={NOBODY}"),
        ("plan", tiny, "--set", f'data={{name="image-folder",path="{NOBODY}"}}'),
        (
            "plan",
            tiny,
            "--set",
            f'attacks=[{{name="imported",path="{NOBODY}"}}]',
            "--set",
            ACCURACY,
        ),
        (
            "plan",
            tiny,
            "--set",
            f'attacks=[{{name="blended",image="{NOBODY}"}}]',
            "--set",
            ACCURACY,
        ),
        ("plan", tiny, "--set", f'data={{name="cifar10",root="{NOBODY}"}}'),
        ("plan", tiny, "--set", f'data={{name="csv-table",path="{NOBODY}",label="y"}}'),
    ):
        done = called(*words)
        assert done.returncode == 2, words
        assert "~nosuchuser is nobody's home folder" in done.stderr, (words, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    for words in (("report", "RUN", "--out", NOBODY), ("export", "RUN", NOBODY),
                  ("presets", "save", "quickstart", NOBODY)):  # fmt: skip
        done = called(*words)
        assert done.returncode == 2 and "nobody's home" in done.stderr, (words, done.stderr)
    done = called("runs", "list", CHELATE_HOME=NOBODY)
    assert done.returncode == 2 and "~nosuchuser" in done.stderr


def test_folders_whose_names_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    save_images(folder / "images")
    preset = folder / f"{LATIN}.toml"
    preset.write_text(on_folder(TINY, Path("images")))
    planned = called("plan", preset.name, "--home", tmp_path / "home", cwd=folder)
    assert planned.returncode == 0, planned.stderr
    refused = called("plan", preset, "--set", f"data.path={folder}/images")
    assert refused.returncode == 2 and "data.path = " in refused.stderr
    assert "is not UTF-8; rename it" in refused.stderr
    refused = called("run", preset, "--home", folder / "home", cwd=folder)
    assert refused.returncode == 2 and "its name is not UTF-8" in refused.stderr
    shown = chelate("run", folder / "no.toml", PYTHONIOENCODING="utf-8")
    assert shown.returncode == 2 and "/no.toml: does not exist" in shown.stderr


def test_json_of_a_name_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    from console.output import say_json

    say_json({"home": f"/{LATIN} ±"})
    told = capsys.readouterr().out
    assert json.loads(told) == {"home": f"/{LATIN} ±"}
    told.encode("utf-8")


def test_the_console_on_a_terminal_that_is_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    from console import app, confinement, opening

    made: list[bool] = []

    class Stub:
        return_code = 0

        def __init__(self, *_: object, ascii: bool, **__: object) -> None:
            made.append(ascii)

        def run(self) -> None: ...

        def say_farewell(self) -> None: ...

    monkeypatch.setattr(app, "ConsoleApp", Stub)
    monkeypatch.setattr(confinement, "confine", lambda: None)  # for good, this process included
    monkeypatch.setattr(opening, "in_browser", lambda: False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("stdin", "__stderr__"):
        monkeypatch.setattr(sys, name, type("Terminal", (), {"isatty": lambda _: True})())
    for encoding in ("ascii", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        opening.open_console(None, read_only=True)
    assert made == [True, False]


def test_no_other_place_looks_up_homes() -> None:
    root = Path(__file__).resolve().parents[2]
    for name in ("console", "engine"):
        for path in (root / name).rglob("*.py"):
            own = path.name == "places.py"
            assert own or not re.search(r"\.expanduser\(", path.read_text()), path
