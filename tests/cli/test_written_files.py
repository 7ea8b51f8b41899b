"""Files that a person asks for: whole or not there, nothing replaced that they did not give up."""

from __future__ import annotations

import ast
import errno
import gzip
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Computed, called

from engine.spec import outputs
from engine.spec.errors import BadInput
from engine.spec.outputs import new_folder, output, write_output

ROOT = Path(__file__).resolve().parents[2]
WRITERS: dict[str, tuple[tuple[str, ...], str]] = {
    "plot": (("plot", "z", "RUN", "--out", "FILE"), "out.svg"),
    "report": (("report", "RUN", "--out", "FOLDER"), "report.html"),
    "export": (("export", "RUN", "FILE"), "out.tar.gz"),
    "poison": (("poison", "show", "RUN", "--out", "FILE"), "out.png"),
    "data": (("data", "RUN", "--out", "FILE"), "out.png"),
    "preset": (("presets", "save", "RUN", "FILE"), "out.toml"),
}
Asked = Callable[..., "tuple[int, str]"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, and a report that takes no time to draw: how it is written is what
    these tests are about."""
    from console import reporting

    page = (
        f"<!DOCTYPE html>\n<html><head>{reporting.CHARSET}</head><body>{'tiny ' * 50}</body></html>"
    )
    monkeypatch.setattr(reporting, "report", lambda _: page)
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture(params=WRITERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked(shared: Computed, name: str, file: Path, *more: str) -> tuple[int, str]:
    known = {"RUN": shared.run, "FILE": str(file), "FOLDER": str(file.parent)}
    words = [known.get(word, word) for word in WRITERS[name][0]]
    done = called(*words, *more, "--home", shared.home)
    return done.returncode, done.stderr


def test_what_is_there_stays_but_for_force(shared: Computed, name: str, place: Path) -> None:
    file = place / WRITERS[name][1]
    file.write_text("mine\n")
    code, told = asked(shared, name, file)
    assert code == 2 and "exists" in told and "--force" in told, told
    assert file.read_text() == "mine\n"
    code, told = asked(shared, name, file, "--force")
    assert code == 0 and file.stat().st_size > 100, told
    assert names(place) == [file.name]


def test_nothing_but_a_plain_file_is_replaced(shared: Computed, name: str, place: Path) -> None:
    file, mine = place / WRITERS[name][1], place / "mine"
    mine.write_text("mine\n")
    for make, told in (
        (lambda: os.mkfifo(file), "named pipe"),  # opened, it would wait for a reader
        (lambda: file.symlink_to(mine), "a link"),
        (lambda: file.symlink_to(place / "nowhere"), "a link"),
        (lambda: socket.socket(socket.AF_UNIX).bind(str(file)), "a socket"),
        (file.mkdir, "is a folder"),
    ):
        make()
        before = file.lstat()
        for force in ((), ("--force",)):
            code, said = asked(shared, name, file, *force)
            assert code == 2 and told in said, said
        assert (file.lstat().st_mode, file.lstat().st_ino) == (before.st_mode, before.st_ino)
        file.rmdir() if file.is_dir() else file.unlink()
    assert mine.read_text() == "mine\n" and names(place) == ["mine"]


def test_a_disk_that_fills_up_leaves_what_was_there(
    shared: Computed, name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = place / WRITERS[name][1]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs.os, "fsync", full)
    file.write_text("mine\n")
    code, told = asked(shared, name, file, "--force")
    assert code == 2 and told.endswith("cannot be written: No space left on device.\n"), told
    assert file.read_text() == "mine\n" and names(place) == [file.name]
    with pytest.raises(BadInput, match="No space left"):
        write_output(place / "other", b"x")
    assert names(place) == [file.name]


def test_an_existing_file_is_noticed_before_anything_is_computed(
    shared: Computed, place: Path
) -> None:
    """Also without a run: the name is looked at first."""
    (place / "out.svg").touch()
    done = called("plot", "z", "no-such-run", "--out", place / "out.svg", "--home", shared.home)
    assert "exists" in done.stderr


def test_a_hyphen_is_standard_output(
    shared: Computed, name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from console.cli import app

    monkeypatch.chdir(place)
    known = {"RUN": shared.run, "FILE": "-", "FOLDER": "-"}
    words = [known.get(word, word) for word in WRITERS[name][0]]
    done = CliRunner().invoke(app, [*words, "--home", str(shared.home)])
    assert done.exit_code == 0, done.stderr
    begin = {
        "plot": b"<?xml", "report": b"<!DOCTYPE html>", "export": b"\x1f\x8b", "preset": b"# Written",
    }.get(name, b"\x89PNG")  # fmt: skip
    assert done.stdout_bytes.startswith(begin) and not names(place)
    if name == "export":
        assert b"chelate-run.json" in gzip.decompress(done.stdout_bytes)


def test_a_report_renews_what_it_wrote_of_the_same_run(shared: Computed, place: Path) -> None:
    page = place / "report.html"
    assert asked(shared, "report", page)[0] == 0
    first = page.stat().st_ino
    assert asked(shared, "report", page) == (0, "")
    assert page.stat().st_ino != first
    content = page.read_text()
    page.write_text(content.replace("tiny", "tinier"))  # somebody wrote into it
    assert asked(shared, "report", page)[0] == 2
    page.write_text(content.replace(f"report {shared.run} ", "report another-run "))
    assert asked(shared, "report", page)[0] == 2
    page.write_text("<html>")
    assert asked(shared, "report", page)[0] == 2 and page.read_text() == "<html>"


def test_poisons_are_whole_or_not_there(
    shared: Computed, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place / "new" / "poisons"
    words = ("poison", "export", shared.run, out, "--home", shared.home)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)  # poison.json, after the tensors
        done = called(*words)
    assert done.returncode == 2 and "No space left on device" in done.stderr
    assert not names(place)
    (out / "gaussian-s1-t0").mkdir(parents=True)
    done = called(*words)
    assert done.returncode == 2 and "exists already" in done.stderr
    assert names(out) == ["gaussian-s1-t0"], "the first was written all the same"
    assert called("poison", "export", shared.run, "-", "--home", shared.home).returncode == 2


def test_a_file_that_comes_meanwhile_stays(place: Path) -> None:
    file = place / "out"
    with pytest.raises(BadInput, match="exists"), output(file) as mine:
        mine.write(b"mine")
        file.write_text("theirs")
    assert file.read_text() == "theirs" and names(place) == ["out"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_hard_links(
    place: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(outputs.os, "link", link)
    write_output(place / "out", "text")
    assert (place / "out").read_text() == "text" and names(place) == ["out"]


def test_names_that_cannot_be(place: Path) -> None:
    longest = place / ("x" * 255)
    write_output(longest, b"1")
    assert longest.read_bytes() == b"1"
    for path, told in (
        (place / ("x" * 256), "File name too long"),
        (place / "a\0b", "null"),
        (longest / "y", "Not a directory"),
        (place / "no" / "y", "No such file or directory"),
    ):
        with pytest.raises(BadInput, match=told):
            write_output(path, b"")
        if told != "No such file or directory":
            with pytest.raises(BadInput, match=told), new_folder(path):
                raise AssertionError


def test_the_console_looks_at_the_name_that_it_writes(
    shared: Computed, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure's name gets its ending: what is there under the whole name is in the way."""
    from console import exporting
    from console.screens.choose import check_new_file, free_path
    from engine.jobs.home import Home
    from engine.jobs.runs import find

    (place / "fig.png").write_text("mine")
    for form, name in (("z.png", "fig"), ("z.png", "fig.png"), ("csv", "fig.png")):
        with pytest.raises(BadInput, match="exists; choose another name"):
            exporting.check(form, place / name)
        with pytest.raises(BadInput, match="exists; choose another name"):
            exporting.export(form, place / name, [find(Home(shared.home), shared.run)], [])
    exporting.check("z.svg", place / "fig")
    written = exporting.export("csv", place / "rows", [], [])
    assert written == place / "rows" and (place / "fig.png").read_text() == "mine"
    (place / "run.csv").symlink_to(place / "nowhere")
    assert free_path(place, "run", "csv") == place / "run-2.csv"
    for text in ("", " ", "-"):
        with pytest.raises(BadInput, match="a file, please"):
            check_new_file(text, lambda _: None)


@pytest.mark.parametrize("option", ["--home", "--out"])
def test_an_empty_name_is_not_the_current_folder(
    shared: Computed, place: Path, option: str
) -> None:
    words = {"--home": shared.home, "--out": place} | {option: ""}
    done = called(
        "report", shared.run, *(word for pair in words.items() for word in pair), cwd=place
    )
    assert done.returncode == 2 and "is empty" in done.stderr
    assert not names(place)


def test_no_other_place_writes_where_a_person_says() -> None:
    """A writer of files that is not known here is one more to look at."""
    known = {
        "console/actions.py", "console/crash.py", "console/state.py",  # of docs, of the home
        "console/pictures.py",  # into memory
        "engine/jobs/home.py", "engine/jobs/imports.py", "engine/jobs/machines.py",
        "engine/jobs/session.py", "engine/jobs/store.py", "engine/jobs/hired.py",  # into the home
        "engine/lab/stages.py", "engine/lab/unlearning.py", "engine/lab/artifacts.py",
        "engine/lab/data/_published.py", "engine/lab/data/image_folder.py",  # caches of our own
        "engine/spec/poisons.py",  # a draft of outputs
        "engine/results/figures.py",  # into memory
        "engine/spec/outputs.py", "console/streams.py", "engine/jobs/lease.py",
        "engine/jobs/worker.py", "console/app.py", "engine/jobs/checkpoints.py",
    }  # fmt: skip
    found = set()
    for folder in ("console", "engine"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _writes(node):
                    found.add(str(path.relative_to(ROOT)))
    assert found <= known, found - known


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    opens = name in ("open", "fdopen") and any(
        isinstance(mode, str) and len(mode) < 4 and set(mode) & set("wax") for mode in modes
    )
    return opens or name in ("write_text", "write_bytes", "savefig", "save")
