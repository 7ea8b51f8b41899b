"""Entry points of other distributions: one that raises or lies is skipped, and told once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import TINY, called, chelate

from console import doctor
from engine.spec import registry
from engine.spec.component import KINDS, Attack
from engine.spec.plan import make_plan
from engine.spec.plugins import _examine, _Lie, add_plugins
from engine.spec.presets import load

MODULE = '''
from typing import Any, ClassVar, Literal
from engine.spec.component import Attack, Audit, Card, Component, Method, Metric

print("hello from a plug-in")
CARD = Card(title="t", summary="s", reference="r")

class Fine(Method):
    card: ClassVar[Card] = CARD
    name: Literal["fine"] = "fine"

class Mine(Fine):
    name: Literal["gd"] = "gd"

class Cardless(Method):
    name: Literal["cardless"] = "cardless"

class Nameless(Method):
    card: ClassVar[Card] = CARD
    name: str = "nameless"

class Odd(Fine):
    role: ClassVar[Any] = "odd"
    name: Literal["odd"] = "odd"

class Judge(Audit):
    card: ClassVar[Card] = CARD
    metrics: ClassVar[dict[str, Metric]] = {"a": Metric("a")}
    primary: ClassVar[str] = "b"
    name: Literal["judge"] = "judge"

class Plain(Attack):
    """Declares what it must and no more: no `share`."""
    card: ClassVar[Card] = CARD
    name: Literal["plain"] = "plain"
    rows: int = 30

    def selection(self) -> dict[str, Any]:
        return {"rows": list(range(self.rows))}

    def baselines(self) -> list[Attack]:
        return [Plain(rows=20)]
'''
BREAKS = '''
from typing import Any, ClassVar, Literal
from pydantic import model_validator
from engine.spec.component import Attack, Card

class Breaks(Attack):
    """Fails where it is asked something."""
    card: ClassVar[Card] = Card(title="t", summary="s", reference="r")
    name: Literal["breaks"] = "breaks"

    def selection(self) -> dict[str, Any]:
        return {}["nothing"]

class Checks(Attack):
    """Fails where it is validated."""
    card: ClassVar[Card] = Card(title="t", summary="s", reference="r")
    name: Literal["checks"] = "checks"

    @model_validator(mode="after")
    def _check(self) -> Any:
        raise RuntimeError("no\\x1b[31m way")
'''
METHODS = {  # entry point -> what is wrong with it
    "fine = theirs:Fine": "",
    "gd = theirs:Mine": "the method 'gd' is chelate's already",
    "cardless = theirs:Cardless": "has no card",
    "nameless = theirs:Nameless": "no `name: Literal[...]`",
    "odd = theirs:Odd": "role cannot be 'odd'",
    "other = theirs:Fine": "is called 'fine'",
    "card = theirs:CARD": "is no subclass of engine.spec.component.Method",
    "plain = theirs:Plain": "is no subclass of engine.spec.component.Method",
    "absent = theirs:Absent": "theirs:Absent does not load (AttributeError",
    "gone = gone_module:X": "gone_module:X does not load (ModuleNotFoundError",
    "raises = raises_module:X": "does not load (RuntimeError: never on a Tuesday)",
    "leaves = leaves_module:X": "does not load (SystemExit: bye)",
    "typo = typo_module:X": "does not load (SyntaxError: ",
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "theirs.py").write_text(MODULE)
    (folder / "raises_module.py").write_text("raise RuntimeError('never on a\\x1b[31m Tuesday')\n")
    (folder / "leaves_module.py").write_text("raise SystemExit('bye')\n")
    (folder / "typo_module.py").write_text("class X(:\n")
    (folder / "breaks_module.py").write_text(BREAKS)
    install(
        folder, "strange-methods", "[chelate.methods]", *METHODS, "[chelate.attacks]",
        "plain = theirs:Plain", "breaks = breaks_module:Breaks", "checks = breaks_module:Checks",
        "[chelate.audits]", "judge = theirs:Judge",
    )  # fmt: skip
    return folder


def install(folder: Path, name: str, *entries: str) -> None:
    made = folder / f"{name}-2.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    (made / "entry_points.txt").write_text("\n".join(entries) + "\n")


def told(reason: str) -> str:
    return reason.replace("on a ", "on a [31m ") if "Tuesday" in reason else reason


def test_what_raises_or_lies_is_skipped_with_one_warning(theirs: Path) -> None:
    done = chelate("methods", "--json", PYTHONPATH=str(theirs))
    assert done.returncode == 0, done.stderr
    assert '"fine"' in done.stdout and '"ngd"' in done.stdout
    assert "hello" not in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("chelate: ")]
    wrong = {entry.split()[0]: reason for entry, reason in METHODS.items() if reason}
    assert len(lines) == len(wrong)
    for name, reason in wrong.items():
        [line] = [line for line in lines if f"chelate.methods:{name} " in line]
        assert "of strange-methods is skipped: " in line
        assert told(reason) in line
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_lists_them(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(theirs)
    monkeypatch.setattr(doctor, "PROBE", "print('[\"2\", null, 0]')")
    for cached in (registry.registered, registry._all):
        monkeypatch.setattr(registry, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(doctor, "registered", registry.registered)
    done = called("doctor", "--home", theirs / "home")
    assert done.returncode == 0
    assert "skipped   plug-in chelate.audits:judge of strange-methods is skipped: " in done.stdout
    assert "chelate.methods:leaves of strange-methods" in done.stdout
    assert ", fine, " in done.stdout
    sys.modules.pop("theirs", None)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("raises", "does not load (RuntimeError: never on a [31m Tuesday)"),
        ("leaves", "does not load (SystemExit: bye)"),
        ("typo", "does not load (SyntaxError: "),
        ("absent", "does not load (AttributeError"),
    ],
)
def test_a_preset_that_needs_what_was_skipped_is_told_why(
    theirs: Path, tmp_path: Path, method: str, told: str
) -> None:
    words = ("plan", "quickstart", "--home", tmp_path, "--set", f"methods.1.name={method}")
    done = chelate(*words, PYTHONPATH=str(theirs))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert f"methods[1].name: unknown method {method!r}: plug-in chelate.methods:{method}" in last
    assert "of strange-methods is skipped" in last and told in last


@pytest.mark.parametrize(
    ("attack", "told"),
    [("breaks", "(KeyError: 'nothing')"), ("checks", "(RuntimeError: no [31m way)")],
)
def test_a_plug_in_that_fails_when_it_is_asked_is_named(
    theirs: Path, tmp_path: Path, attack: str, told: str
) -> None:
    override = f"attacks.0={{name='{attack}'}}"
    words = ("--home", tmp_path, "--set", override, "--set", "audits=[{name='accuracy'}]")
    done = chelate("plan", "quickstart", *words, PYTHONPATH=str(theirs))
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert f"plug-in breaks_module of strange-methods failed {told}" in last
    assert "Traceback" not in done.stderr


def test_an_attack_need_not_have_a_share(theirs: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    words = TINY.replace('{ name = "gaussian" }]\naudits', '{ name = "plain" }]\naudits')
    words = words.replace(', { name = "gaussian" }]', "]")
    assert words.count("gaussian") == 0
    preset.write_text(words)
    home = tmp_path / "home"
    done = chelate("plan", preset, "--home", home, "--json", PYTHONPATH=str(theirs))
    assert done.returncode == 0, done.stderr
    done = chelate(
        "plan", preset, "--home", home, "--set", "attacks.0.rows=0", PYTHONPATH=str(theirs)
    )
    assert done.returncode == 2
    assert "attacks.plain: poisons none of" in done.stderr
    assert "share" not in done.stderr.split("attacks.plain")[1]


def test_one_malformed_file_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(MODULE)
    install(tmp_path, "broken", "[chelate.methods", "no equals sign")
    install(tmp_path, "good", "[chelate.methods]", "fine = theirs:Fine")
    monkeypatch.syspath_prepend(tmp_path)
    found: dict[str, object] = {}
    skipped = add_plugins(found, KINDS["method"])  # type: ignore[arg-type]
    assert list(found) == ["fine"]
    assert [one.distribution for one in skipped] in ([], ["broken"])
    sys.modules.pop("theirs", None)


def test_every_shipped_component_would_pass() -> None:
    for name, kind in KINDS.items():
        for called_, cls in registry.registered(name).items():
            _examine(cls, called_, kind)
    with pytest.raises(_Lie):
        _examine(Attack, "attack", KINDS["attack"])


def test_baselines_keep_their_names() -> None:
    cells = make_plan(load("indiscriminate-linear-mnist"), "cpu").cells
    assert any("appended-label-flip[share=" in cell.attack for cell in cells)
