"""Files, folders and distributions that are called as our packages are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, called, environment

from chelate import neighbours
from chelate.pin import NAMES, program
from console import doctor

STARTED = [
    program("engine.jobs.session"), program("engine.jobs.worker"), program("console.cli"),
    program("engine.jobs.backends.slurm_job"),
]  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose engine.py and console.py end whoever imports them."""
    for name in (*NAMES, "chelate"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    return tmp_path


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Started in `folder`, which is first on PYTHONPATH, too."""
    env = environment(PYTHONPATH=str(folder))
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("command", STARTED, ids=lambda command: command[-1])
def test_whatever_is_started_finds_our_packages(hostile: Path, command: list[str]) -> None:
    done = python(hostile, *command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_python_m_chelate_is_the_command(hostile: Path) -> None:
    (hostile / "chelate.py").unlink()  # that one is asked for by its name
    done = python(hostile, sys.executable, "-m", "chelate", "presets", "list")
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
    assert done.stderr == ""
    code = "import chelate; from chelate.pin import pin; pin(); import engine.spec, console.cli;"
    done = python(
        hostile, sys.executable, "-c", code + "print(chelate.__version__, engine.__file__)"
    )
    assert done.stdout.split()[1:] == [str(ROOT / "engine" / "__init__.py")], done.stderr


def test_what_was_imported_under_our_names_before_is_forgotten(hostile: Path) -> None:
    (hostile / "chelate.py").unlink()
    for name in NAMES:
        (hostile / f"{name}.py").write_text("mine = True\n")
    code = "import engine, console; from chelate.pin import pin; pin(); import engine.spec.errors"
    done = python(hostile, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_our_packages_hold_no_code_at_the_top() -> None:
    """chelate.pin.Top runs none."""
    for name in NAMES:
        assert (ROOT / name / "__init__.py").read_text() == ""


def distribution(folder: Path, name: str, *files: str) -> None:
    """As pip leaves it: its files, and what it says of itself."""
    made = folder / f"{name}-2.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    (made / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("raise SystemExit('not ours')\n")


def test_another_distribution_of_our_names_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "game-kit", "engine/__init__.py", "engine/spec.py", "console.py")
    distribution(tmp_path, "harmless", "motor/engine/__init__.py")
    done = python(tmp_path, sys.executable, "-m", "chelate", "presets", "list")
    assert done.returncode == 0
    assert "quickstart" in done.stdout
    assert done.stderr == (
        "chelate: the installed distribution game-kit 2.0 ships a package console and engine, too: "
        "chelate uses its own, and what needs the other may not work here.\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PROBE", "print('[\"2\", null, 0]')")
    done = called("doctor", "--home", tmp_path / "home")
    assert done.returncode == 0
    assert "game-kit 2.0 ships a package console and engine" in done.stdout
    assert f"{tmp_path / 'engine' / '__init__.py'} is on Python's path" in done.stdout
    assert "harmless" not in done.stdout


def test_files_of_ours_that_another_has_overwritten_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our tops can be another's: nobody runs them. Anything deeper ends the command."""
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    distribution(tmp_path, "chelate", "engine/__init__.py", "console/__init__.py", "engine/a.py")
    record = tmp_path / "chelate-2.0.dist-info" / "RECORD"
    record.write_text(
        "".join(f"{file},{empty},0\n" for file in (*neighbours.TOPS, "engine/spec/plan.py"))
    )
    monkeypatch.setattr(neighbours, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "engine" / "a.py").unlink()
    for file in neighbours.TOPS:
        (tmp_path / file).write_text("")
    (tmp_path / "engine" / "spec").mkdir()
    (tmp_path / "engine" / "spec" / "plan.py").write_text("")
    assert not neighbours.crowded()
    distribution(tmp_path, "console", "console/__init__.py", "console/core.py")
    assert neighbours.crowded()
    [found] = neighbours.neighbours()
    assert (found.distribution, found.names) == ("console 2.0", ("console",))
    assert found.overwritten == ("console/__init__.py",)
    assert not found.harms
    assert "has overwritten console/__init__.py of chelate" in str(found)
    distribution(tmp_path, "plans", "engine/spec/plan.py")
    [_, found] = neighbours.neighbours()
    assert found.overwritten == ("engine/spec/plan.py",)
    assert found.harms
