"""What people install: a wheel, in an environment that has never seen this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "data.limit_train=300", "data.limit_test=100", "model.width=16", "train.epochs=2", "seeds=[0]",
    "budgets=[0.5]", "methods=[{name='none'}, {name='retrain'}, {name='gd'}]", "compute.workers=1",
]  # fmt: skip


def ended(*words: str | Path, cwd: Path, path: str | Path = "") -> subprocess.CompletedProcess[str]:
    ours = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CHELATE_HOME")}
    if path:
        ours["PYTHONPATH"] = str(path)
    command = [str(word) for word in words]
    return subprocess.run(command, cwd=cwd, env=ours, capture_output=True, text=True)


def call(*words: str | Path, cwd: Path, path: str | Path = "") -> str:
    done = ended(*words, cwd=cwd, path=path)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    words = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    call(sys.executable, *words, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_packages_the_presets_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "presets").glob("*.toml"):
        assert f"engine/presets/{path.name}" in names
    assert {"engine/spec/plan.py", "engine/lab/methods/gd.py", "console/cli/__init__.py"} <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "chelate",
        "engine",
        "console",
    }
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_runs_a_shipped_preset_in_a_clean_environment(
    wheel: Path, tmp_path: Path
) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(place), "platbase": str(place)})
    # The big dependencies are borrowed from this environment, behind the wheel's own folder. A
    # line of a .pth file is only a folder to search: no .pth file in there, so also not the one
    # of an editable install, is looked at.
    borrowed = {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    Path(paths["purelib"], "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    call(*pip, "--no-deps", "--no-index", "--no-compile", "--ignore-installed", wheel, cwd=tmp_path)

    chelate = place / "bin" / "chelate"
    told = "import console, engine; print(engine.__file__); print(console.__file__)"
    for line in call(python, "-c", told, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(place)
    listed = json.loads(call(chelate, "presets", "list", "--json", cwd=tmp_path))
    assert {preset["name"] for preset in listed} == {p.stem for p in (ROOT / "presets").glob("*")}
    assert all(Path(preset["path"]).is_relative_to(place) for preset in listed)

    # Where one works there are files of our packages' names: nobody imports them.
    work = tmp_path / "work"
    work.mkdir()
    for name in ("engine", "console"):
        (work / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    home = tmp_path / "home"
    words = [word for override in TINY for word in ("--set", override)]
    asked = ("run", "quickstart", "--home", home, "--json", *words)
    text = call(chelate, *asked, cwd=work, path=work)
    document = json.loads(text)
    assert document["status"] == "done"
    assert {row["method"] for row in document["rows"]} == {"none", "retrain", "gd"}
    assert str(ROOT) not in (home / "runs" / document["run"] / "run.json").read_text()

    # Another distribution's files over ours, as pip would lay them: told, and still harmless.
    site = Path(paths["purelib"])
    (site / "console" / "__init__.py").write_text("raise SystemExit('not ours')\n")
    (site / "console" / "core.py").touch()
    said = site / "console-2.0.dist-info"
    said.mkdir()
    (said / "METADATA").write_text("Metadata-Version: 2.1\nName: console\nVersion: 2.0\n")
    (said / "RECORD").write_text("console/__init__.py,,\nconsole/core.py,,\n")
    done = ended(python, "-m", "chelate", "compare", document["run"], "--home", home, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "console 2.0 ships a package console, too, and has overwritten" in done.stderr
