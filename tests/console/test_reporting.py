"""`report`: one page that needs nothing else, and into which nothing can be smuggled."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from staged import Staged, staged

from console.comparing import rows_of
from console.reporting import _fact, _measurements, _poisons, report, write_report
from engine.jobs import runs
from engine.jobs.home import Home
from engine.results.tables import summary
from engine.spec.errors import BadInput

VOID = {"meta", "br", "img", "link", "hr", "input"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return staged(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(there: Staged) -> str:
    return report(there.run)


def test_the_attacks_are_told_with_what_they_must_know(page: str) -> None:
    words = read(page).words
    assert "The attacks" in words
    after = words[words.index("The attacks") :]
    assert "inputs of random rows; not their labels" in after, "the Gaussian attack's"
    assert "seconds each" in after


class Reader(HTMLParser):
    """Collects tags, attributes and words; complains of tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_it_stands_alone(page: str) -> None:
    reader = read(page)
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(reader.tags)
    for tag, name, value in reader.attributes:
        assert not name.startswith("on"), f"<{tag} {name}>"
        if name in ("src", "href", "xlink:href", "action"):
            assert value.startswith("#"), f"<{tag} {name}={value!r}>"
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_it_tells_everything(page: str, there: Staged) -> None:
    words = " ".join(read(page).words)
    for line in summary(rows_of([there.run])):
        assert line.verdict in words
        assert line.reason in words
    assert 'name = "mlp"' in words
    assert "weight_decay" in words, "defaults are written out"
    assert "2.9.9" in words, "the torch that computed it"
    assert there.run.id in words
    assert page.count("<svg") >= 3


def test_the_same_run_gives_the_same_page(page: str, there: Staged) -> None:
    assert report(there.run) == page


def test_figures_do_not_share_ids(page: str) -> None:
    found = re.findall(r'\bid="([^"]+)"', page)
    shapes = [name for name in found if re.match(r"[mp][0-9a-f]{8,}", name)]
    assert len(set(shapes)) == len(shapes)


def test_what_files_say_is_text(there: Staged, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=y>\x1b[31m"
    home = staged(tmp_path).home
    run = runs.find(home, "staged")
    facts = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(facts | {"title": evil, "device": evil}))
    told = report(runs.Run(home, run.id))
    reader = read(told)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert "\x1b" not in told
    assert "<script>alert(1)</script>" in " ".join(reader.words)


def test_warnings_have_a_section_and_are_text(page: str, tmp_path: Path) -> None:
    assert "Warnings" not in page
    there = staged(tmp_path)
    evil = "<script>alert(1)</script> the loss jumped\x1b[31m"
    count = 0
    for path in there.home.store.glob("objects/*/*/DONE.json"):
        record = json.loads(path.read_text())
        if record["kind"] == "train":
            path.write_text(json.dumps(record | {"warnings": [evil]}))
            count += 1
    told = report(there.run)
    assert "<h2>Warnings</h2>" in told
    assert "script" not in read(told).tags
    assert told.count(f"the loss jumped (×{count} stages)") == 1
    assert "\x1b" not in told


def test_a_run_without_results_has_a_page_too(tmp_path: Path) -> None:
    there = staged(tmp_path)
    for folder in there.home.store.glob("objects/*"):
        folder.rename(folder.with_name(f"gone-{folder.name}"))
    words = " ".join(read(report(runs.Run(there.home, there.run.id))).words)
    assert "n/a" in words


def test_it_is_written_once(
    there: Staged,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("console.reporting.report", lambda run: f"<p>{run.id}</p>")
    out = tmp_path / "deep" / "er"
    write_report("staged", there.home.root, out)
    assert str(out / "report.html") in capsys.readouterr().out
    with pytest.raises(BadInput, match="--force"):
        write_report("staged", there.home.root, out)
    write_report("staged", there.home.root, out, force=True)
    with pytest.raises(BadInput, match="no runs in"):
        write_report("staged", Home(tmp_path / "empty").root, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_report("staged", there.home.root, tmp_path / "file")


class OnlyPoison:
    """A store that holds one craft stage."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def record(self, key: str) -> SimpleNamespace:
        return SimpleNamespace(na=None, seconds=41.0, tee=1.5)

    def open_verified(self, key: str, name: str) -> bytes:
        return self.content


def poisons(content: bytes) -> str:
    stage = SimpleNamespace(kind="craft", key="k", title="craft gradient-canceling s1")
    run = SimpleNamespace(plan=SimpleNamespace(stages={"k": stage}), store=OnlyPoison(content))
    return _poisons(cast(runs.Run, run))


def test_what_an_attack_says_of_its_poison_is_on_the_page() -> None:
    told = poisons(
        b'{"movable": true, "facts": {"residual": 0.0192, "exact_flipped_accuracy": 0.661, "<b>": 1}}'
    )
    assert "gradient-canceling s1" in told and "residual 0.0192" in told
    assert "exact flipped accuracy 0.661" in told and "41.0" in told and "<b>" not in told
    assert poisons(b'{"movable": true, "facts": {}}') == poisons(b"{") == ""


def test_classes_have_their_names_in_measurements_and_poisons(there: Staged) -> None:
    rows = rows_of([there.run])
    told = rows[0] | {"metric": "class_accuracy.3", "class": "<cat>"}
    assert "class_accuracy.3 (&lt;cat&gt;)" in _measurements([*rows, told])
    names = ["cat", "<dog>"]
    assert _fact("target", 1, names) == "target 1 (&lt;dog&gt;)"
    assert _fact("true_class", 0.0, names).startswith("true class") and "(cat)" in _fact(
        "true_class", 0.0, names
    )
    for name, value in (("epsilon", 1), ("target", 2), ("target", 0.5), ("target", -1)):
        assert "(" not in _fact(name, value, names)
    assert "(" not in _fact("target", 1, ())
