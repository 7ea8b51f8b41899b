"""The arrows between rooms: the light ones and the console work where there is no torch at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Imports every module of some packages, and reads every card, with the heavy packages out of reach.
LIGHT = """
import importlib, pkgutil, sys

HEAVY = (
    "torch", "torchvision", "transformers", "tokenizers", "huggingface_hub", "pyarrow", "datasets"
)

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise ImportError(f"{name} is blocked by a test")

sys.meta_path.insert(0, Blocker())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("the blocker does not block")

count = 0
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for info in pkgutil.walk_packages(package.__path__, name + "."):
        if info.name.rsplit(".", 1)[-1].startswith("_"):
            continue  # not a component: what components import when they run
        importlib.import_module(info.name)
        count += 1

from engine.spec.component import KINDS
from engine.spec.registry import registered
from engine.spec.presets import load
from engine.spec.plan import make_plan

for kind in KINDS:
    for cls in registered(kind).values():
        assert cls.card.title and cls.model_json_schema()
assert make_plan(load("quickstart"), "cpu").cells
loaded = [name for name in sys.modules if name.split(".")[0] in HEAVY]
assert not loaded, loaded
print(count)
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("room", ["engine.spec", "engine.jobs", "engine.results", "console"])
def test_a_light_room_imports_without_torch(room: str) -> None:
    done = python("-c", LIGHT, room)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_every_component_file_imports_without_torch() -> None:
    folders = [f"engine.lab.{kind}" for kind in ("data", "models", "attacks", "methods", "audits")]
    done = python("-c", LIGHT, *folders)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > len(folders)


def test_the_help_imports_next_to_nothing() -> None:
    told = "import sys; sys.argv = ['chelate', '--help']; import console.cli as c\n"
    told += "try: c.main()\nexcept SystemExit: pass\n"
    told += "heavy = {'torch', 'numpy', 'scipy', 'pydantic', 'PIL'} & sys.modules.keys()\n"
    told += "sys.exit(f'loaded {heavy}' if heavy else 0)"
    done = python("-c", told)
    assert done.returncode == 0, done.stderr


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    if not lint.is_file():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
