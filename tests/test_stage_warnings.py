"""Warnings of stages: once per text, bounded, harmless to print, and never lost on the way to the
record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.jobs.checkpoints import MANIFEST, Checkpoints, Clock, Keeper
from engine.jobs.events import EventTail, EventWriter, kind_of_event
from engine.jobs.records import DONE
from engine.jobs.run_warnings import recorded, stored_warnings
from engine.jobs.stage_warnings import FURTHER, LONGEST, MOST, StageWarnings, Tally
from engine.jobs.store import Store
from engine.spec.keys import digest

KEY, OTHER = "a" * 64, "b" * 64
REPORT = {
    "train": {"rows": 100, "per_class": [50, 50], "duplicates": 0, "conflicting": 0},
    "test": {"rows": 90, "per_class": [45, 45], "duplicates": 0, "conflicting": 0},
    "overlap": 50,
    "overlap_conflicting": 2,
}
LEAK = "data: 50 of 90 test rows are in train (2 under another label)."


class Attempt:
    def __init__(self, folder: Path, number: int, every: float = 0.0) -> None:
        self.path = folder / f"events.{number}.jsonl"
        self.events = EventWriter(self.path, KEY, number)
        self.warnings = StageWarnings(self.events)
        self.keeper = Keeper(
            Checkpoints(folder / "checkpoints", KEY), number, self.events, Clock(), every,
            warnings=self.warnings,
        )  # fmt: skip

    @property
    def told(self) -> list[str]:
        events = EventTail(self.path).read()
        return [e["data"]["text"] for e in events if e["kind"] == "warning"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def commit(store: Store, kind: str = "train", key: str = KEY, **more: object) -> None:
    with store.begin(key, 1) as work:
        for name, content in more.pop("files", {}).items():  # type: ignore[attr-defined]
            (work.path / name).write_text(content)
        assert work.commit(kind=kind, title=kind, seconds=1.0, tee=0.0, **more)  # type: ignore[arg-type]


def rewrite(store: Store, key: str = KEY, **changes: object) -> None:
    path = store.path(key) / DONE
    told = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in told.items() if v != "absent"}))


# --- giving --------------------------------------------------------------------------------------


def test_each_text_is_an_event_once_and_kept_in_order(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, 1)
    for text in ("b", "a", "b", "  a\n", "", "\x1b[31mred\x1b[0m\nline"):
        attempt.warnings.give(text)
    assert attempt.warnings.texts == ("b", "a", "red line")
    assert attempt.told == ["b", "a", "red line"]


def test_a_stage_that_warns_at_every_step_fills_neither_disk_nor_record(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, 1)
    for step in range(2000):
        attempt.warnings.give(f"step {step} " + "x" * 5000)
    assert len(attempt.warnings.texts) == MOST + 1
    assert attempt.warnings.texts[-1] == FURTHER
    assert max(map(len, attempt.warnings.texts)) == LONGEST
    assert len(attempt.told) == MOST + 1


def test_a_stage_killed_after_it_warned_has_not_forgotten_it(tmp_path: Path) -> None:
    """Whoever goes on from a checkpoint does not come by the step again that was warned of."""
    first = Attempt(tmp_path, 1)
    first.warnings.give("at step 3 the loss jumped")
    first.keeper.keep("fit", 5, lambda folder: (folder / "state").touch())
    first.warnings.give("at step 6, which the next attempt does again")
    second = Attempt(tmp_path, 2)
    second.warnings.give("before the loop")
    assert second.keeper.resume("fit", lambda folder: None) == 5
    assert second.warnings.texts == ("before the loop", "at step 3 the loss jumped")
    assert second.told == ["before the loop", "at step 3 the loss jumped"]
    third = Attempt(tmp_path, 3)  # an older one, with no warnings in its manifest
    (path,) = (tmp_path / "checkpoints" / KEY).glob("fit.*/" + MANIFEST)
    told = json.loads(path.read_text())
    del told["sha256"], told["warnings"]
    path.write_text(json.dumps(told | {"sha256": digest(told)}))
    assert third.keeper.resume("fit", lambda folder: None) == 5
    assert third.warnings.texts == ()


def test_what_concerns_one_attempt_only_is_not_kept(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, 1)

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    attempt.keeper.keep("fit", 5, full)
    assert attempt.told == ["no checkpoint at step 5: No space left on device"]
    assert attempt.warnings.texts == ()


# --- records -------------------------------------------------------------------------------------


def test_a_record_says_what_its_stage_warned_of(store: Store) -> None:
    commit(store, warnings=["one", "two"], na="why")
    record = store.record(KEY)
    assert record is not None
    assert record.warnings == ("one", "two")
    assert recorded(store, record) == ("one", "two")


def test_a_record_of_a_version_before_warnings_is_read(store: Store) -> None:
    commit(store, warnings=["one"])
    rewrite(store, warnings="absent")
    record = store.record(KEY)
    assert record is not None
    assert record.warnings is None
    assert recorded(store, record) == ()
    assert store.check(KEY) == "ok"


@pytest.mark.parametrize("value", ["text", {"a": 1}, [1], [None], [["x"]], 7, True])
def test_a_strangers_record_with_other_types_is_none(store: Store, value: object) -> None:
    commit(store)
    rewrite(store, warnings=value)
    assert store.record(KEY) is None
    assert store.check(KEY) == "damaged"


def test_a_strangers_warnings_are_bounded_and_safe_to_print(store: Store) -> None:
    commit(store)
    texts = ["\x1b]0;title\x07clear\x1b[2J", "a\nb", "x" * 5_000_000, "a b"]
    rewrite(store, warnings=texts + [f"number {n}" for n in range(10_000)])
    record = store.record(KEY)
    assert record is not None
    assert record.warnings is not None
    assert record.warnings[:2] == ("clear", "a b")
    assert len(record.warnings) == MOST + 1
    assert max(map(len, record.warnings)) <= LONGEST


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (REPORT, (LEAK,)),
        (REPORT | {"overlap": 0}, ()),
        (REPORT | {"warnings": ["a", "a", 3, "b"]}, ("a", "b")),
        (REPORT | {"warnings": []}, ()),
        (REPORT | {"warnings": 5}, ()),
        ({"overlap": 3}, ()),
        ([], ()),
        (None, ()),
        ("text", ()),
    ],
)
def test_of_an_old_data_stage_the_counts_say_what_it_warned_of(
    store: Store, report: object, told: tuple[str, ...]
) -> None:
    commit(store, "data", files={"data.json": json.dumps({"shape": [4], "report": report})})
    rewrite(store, warnings="absent")
    record = store.record(KEY)
    assert record is not None
    assert recorded(store, record) == told


def test_an_old_data_stage_without_a_report_says_nothing(store: Store) -> None:
    for number, content in enumerate(["{}", "[]", "no json", '{"report": {"warnings": {"x": 1}}}']):
        key = str(number) * 64
        commit(store, "data", key, files={"data.json": content})
        rewrite(store, key, warnings="absent")
        record = store.record(key)
        assert record is not None
        assert recorded(store, record) == ()


# --- counting ------------------------------------------------------------------------------------


def test_a_text_counts_its_stages(store: Store) -> None:
    commit(store, key=KEY, warnings=["b", "a"])
    commit(store, key=OTHER, warnings=["a"])
    found = store.records([KEY, OTHER, "c" * 64])
    assert list(stored_warnings(store, found).counts.items()) == [("b", 1), ("a", 2)]


def test_what_a_stage_says_twice_counts_once_and_its_record_has_the_last_word() -> None:
    tally = Tally()
    assert tally.add("s", ["x", "y", "x"]) == ("x", "y")
    assert tally.add("t", ["x"]) == ()
    assert tally.counts == {"x": 2, "y": 1}
    tally.settle("s", ["x", "z"])
    assert tally.counts == {"x": 2, "z": 1}
    assert tally.heard("s", "z")
    assert not tally.heard("t", "z")


def test_events_of_one_kind_are_found_in_whatever_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(kind_of_event(path, "warning")) == []
    with EventWriter(path, KEY, 1) as events:
        for step in range(50):
            events.emit("metric", name="warning", step=step, value=1.0)
        events.emit("warning", text="found")
    with path.open("ab") as file:
        file.write(b'"warning" torn\n{"kind":"warning"}\n' + b'"warning"' * 300_000 + b"\n")
    assert [e["data"]["text"] for e in kind_of_event(path, "warning")] == ["found"]
    assert list(kind_of_event(path, "warning", most=0)) == []
    assert list(kind_of_event(tmp_path, "warning")) == []
