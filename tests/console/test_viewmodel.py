"""What the reader makes of files, without any screen."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from homes import WrittenRun, running_run
from rich.console import Console

from console.progress_view import render
from console.screens.live_view import headline
from console.viewmodel import OpenRun, Snapshot, fuzzy
from console.watching.feed import SCORE, Feed
from console.watching.histograms import kolmogorov, look_of_probe, look_of_scores
from console.watching.index import Index
from console.watching.reader import Reader
from console.watching.series import Lines, Points
from console.watching.textlog import TextTail
from engine.jobs.follow import Follower, progress_of
from engine.jobs.home import Home
from engine.jobs.runs import Run


def complete(index: Index) -> Index:
    for _ in range(200):
        index.scan()
        if index.complete and not index.busy:
            return index
    raise AssertionError("the index never got through")


def states(index: Index) -> dict[str, str]:
    return {row.id: row.state for row in index.rows}


# --- the list ---


def test_an_empty_home_and_one_that_is_not_there(tmp_path: Path) -> None:
    assert complete(Index(Home(tmp_path / "nowhere"))).rows == ()


def test_states_counts_and_reasons(tmp_path: Path) -> None:
    done = WrittenRun(tmp_path, "done", created=3)
    done.session()
    done.ended("done")
    failed = WrittenRun(tmp_path, "failed", created=2)
    failed.session(cached=4)
    failed.begin("none")
    failed.end("none", outcome="failed", reason="out of memory")
    failed.ended("failed")
    lost = WrittenRun(tmp_path, "lost", created=1)
    lost.session()
    WrittenRun(tmp_path, "queued", created=0)
    index = complete(Index(Home(tmp_path)))
    assert [row.id for row in index.rows] == ["done", "failed", "lost", "queued"]
    assert states(index) == {"done": "done", "failed": "failed", "lost": "lost", "queued": "queued"}
    rows = {row.id: row for row in index.rows}
    assert (rows["done"].done, rows["done"].total) == (13, 13)
    assert (rows["failed"].done, rows["failed"].failed) == (4, 1)
    assert "out of memory" in rows["failed"].problem
    assert "supervisor" in rows["lost"].problem


def test_a_run_is_followed_from_its_start_to_its_end(tmp_path: Path) -> None:
    index = complete(Index(Home(tmp_path)))
    run = running_run(tmp_path, "toy")
    complete(index)
    row = index.rows[0]
    assert (row.state, row.done, row.total, row.stage) == ("running", 2, 13, "unlearn toy/gd s0")
    assert row.seconds_left is not None and row.seconds_left > 0
    run.end("gd")
    run.ended("done")
    run.release()
    index.scan()
    complete(index)
    assert states(index) == {"toy": "done"}
    assert [row.id for row in index.ended] == ["toy"]


def test_a_deleted_run_leaves_the_list(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path, "toy")
    index = complete(Index(Home(tmp_path)))
    run.folder.rename(tmp_path / "away")
    complete(index)
    assert index.rows == ()


def test_a_newer_version_a_damaged_file_and_escapes_are_shown_plainly(tmp_path: Path) -> None:
    WrittenRun(tmp_path, "newer", facts={"v": 99, "chelate": "9.0"})
    damaged = WrittenRun(tmp_path, "damaged")
    (damaged.folder / "run.json").write_text("{")
    WrittenRun(tmp_path, "rude", title="\x1b]0;owned\x07[bold]\x1b[2Jhello\u202e")
    rows = {row.id: row for row in complete(Index(Home(tmp_path))).rows}
    assert "newer chelate (9.0)" in rows["newer"].problem
    assert rows["damaged"].state == "unreadable"
    assert "\x1b" not in rows["rude"].title
    assert "[bold]" in rows["rude"].title  # markup is text


def test_thousands_of_runs_are_listed_in_slices(tmp_path: Path) -> None:
    for number in range(300):
        WrittenRun(tmp_path, f"r{number:04}", created=number, planned=False).ended("done")
    index = Index(Home(tmp_path))
    index.scan(budget=0.0)
    assert not index.complete
    complete(index)
    assert len(index.rows) == 300
    assert not index.scan()  # nothing new: nothing to publish


# --- an open run ---


def opened(feed: Feed, *tracks: str, metric: str = "loss") -> OpenRun:
    feed.want(tracks, metric)
    for _ in range(100):
        feed.poll()
        if not feed.behind:
            break
    feed.poll()
    return feed.told(None)


def test_tracks_curves_and_looks(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    feed = Feed(Run(Home(tmp_path), run.id))
    told = opened(feed)
    labels = {track.label: track for track in told.tracks}
    assert set(labels) == {"train s0", "train s1", "retrain s0", "retrain s1", "gd s0", "gd s1"}
    gd = labels["gd s0"]
    assert (gd.state, gd.share, gd.budgets) == ("running", 0.5, (0.05,))
    told = opened(feed, gd.id, labels["retrain s0"].id)
    curve = told.curves[gd.id, "loss"]
    assert list(curve.x) == list(range(1, 51))
    assert curve.y[0] == 2.0
    assert len(told.curves[labels["retrain s0"].id, "loss"].x) == 40
    assert [look.mean for look in told.looks[gd.id]] == [0.8, 0.5, 0.3]
    assert told.metrics == ("loss", SCORE)
    run.release()


def test_what_is_new_arrives_and_arrays_already_told_never_change(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    feed = Feed(Run(Home(tmp_path), run.id))
    gd = next(t.id for t in opened(feed).tracks if t.label == "gd s0")
    before = opened(feed, gd).curves[gd, "loss"]
    run.attempt(run.key("gd"), "metric", name="loss", step=51, value=None)
    after = opened(feed, gd).curves[gd, "loss"]
    assert (len(before.x), len(after.x)) == (50, 51)
    assert math.isnan(after.y[-1])
    assert not feed.poll()
    run.release()


def test_the_queue_is_in_the_supervisors_order(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    told = opened(Feed(Run(Home(tmp_path), run.id)))
    titles = {stage.key: stage.title for stage in told.stages}
    order = [titles[key] for key in told.queue]
    assert order.index("audit gaussian of none s0") < order.index("audit gaussian of gd s0")
    assert "unlearn toy/gd s0" not in order  # it runs
    run.release()


def test_a_run_deleted_while_open_and_a_plan_nobody_understands(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path, "toy")
    feed = Feed(Run(Home(tmp_path), "toy"))
    run.folder.rename(tmp_path / "away")
    feed.poll()
    assert feed.told(None).problem == "this run was deleted"
    strange = WrittenRun(tmp_path, "strange")
    (strange.folder / "plan.json").write_text(json.dumps({"v": 2, "stages": [{"new": 1}]}))
    assert "plan" in Feed(Run(Home(tmp_path), "strange")).told(None).problem


def test_events_of_another_version_are_passed_over(tmp_path: Path) -> None:
    run = running_run(tmp_path)
    key = run.key("gd")
    for data in ({}, {"name": 3, "step": "x", "value": {}}, {"done": "?", "total": None}):
        for kind in ("metric", "progress", "probe", "hologram"):
            run.attempt(key, kind, **data)
    run.attempt(key, "probe", name="gaussian", edges=[0, 0, 0], counts=[1], count=1, step=1)
    run.event("start", key=key, attempt="seven", title=None, kind=None, slot=None)
    feed = Feed(Run(Home(tmp_path), run.id))
    assert len(opened(feed).tracks) == 6
    run.release()


# --- rings ---


def test_a_full_curve_keeps_its_spikes_and_stays_bounded() -> None:
    points = Points(limit=1000)
    for step in range(50_000):
        points.add(step, 100.0 if step == 20_000 else math.sin(step))
    x, y = points.arrays()
    assert len(x) <= 1000
    assert y.max() == 100.0
    assert (np.diff(x) > 0).all()
    assert points.arrays()[0] is x


def test_a_log_keeps_its_end_and_its_numbering() -> None:
    from console.viewmodel import LogLine

    lines = Lines(limit=10)
    for number in range(25):
        lines.add(LogLine(0.0, str(number)))
    assert [line.text for line in lines.told()] == [str(n) for n in range(15, 25)]
    assert lines.start == 15


# --- histograms ---


def test_kolmogorov_against_scipy() -> None:
    from scipy.stats import kstwobign

    for gap, n in ((0.1, 200), (0.05, 1000), (0.3, 50)):
        x = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * gap
        assert kolmogorov(gap, n) == pytest.approx(kstwobign.sf(x), abs=1e-9)


def test_scores_from_the_null_and_shifted_ones() -> None:
    draws = np.random.default_rng(0).normal(size=900)
    null, shifted = look_of_scores(draws, 1, ""), look_of_scores(draws + 0.5, 1, "")
    assert null is not None and shifted is not None
    assert null.ks_p is not None and null.ks_p > 0.05
    assert shifted.ks_p is not None and shifted.ks_p < 1e-6
    assert look_of_scores([math.nan, math.inf], 1, "") is None


@pytest.mark.parametrize(
    "data",
    [{}, {"edges": [1, 1, 1], "counts": [1], "count": 1}, {"edges": [0, 1, 0.5], "counts": [-1]},
     {"edges": "abc", "counts": [1], "count": 1}, {"edges": [0, 1, 0.1], "counts": [], "count": 0}],
)  # fmt: skip
def test_a_probe_that_makes_no_sense_is_no_look(data: dict[str, object]) -> None:
    assert look_of_probe(data) is None


# --- text files ---


def test_a_log_file_grows_shrinks_and_is_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    tail = TextTail(path)
    tail.poll()
    assert "No such file" in tail.log.problem
    path.write_bytes(b"one\n\x1b[31mtwo\x1b[0m\n10%\r 50%\r100%\nhalf")
    tail.poll()
    assert tail.log.lines == ("one", "two", "100%", "half")
    with path.open("ab") as file:
        file.write(b" done\n")
    tail.poll()
    assert tail.log.lines[-1] == "half done"
    path.write_bytes(b"new\n")
    tail.poll()
    assert tail.log.lines == ("new",)


# --- the thread ---


def wait(reader: Reader, true: Callable[[Snapshot], object]) -> Snapshot:
    end = time.monotonic() + 10
    while not true(reader.snapshot):
        assert time.monotonic() < end, reader.snapshot
        time.sleep(0.02)
    return reader.snapshot


def test_the_reader_publishes_and_survives_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.watching.reader.PROBLEM_STAYS", 0.5)
    run = running_run(tmp_path)
    reader = Reader(Home(tmp_path), interval=0.02)
    reader.start()
    try:
        wait(reader, lambda s: s.runs and not s.loading)
        reader.open(run.id)
        wait(reader, lambda s: s.open is not None and s.open.tracks)
        first = reader.snapshot
        reader.do(lambda: 1 / 0)
        wait(reader, lambda s: "ZeroDivisionError" in s.problem)
        wait(reader, lambda s: not s.problem)
        run.attempt(run.key("gd"), "metric", name="accuracy", step=1, value=0.5)
        wait(reader, lambda s: s.open is not None and "accuracy" in s.open.metrics)
        assert first.open is not None and "accuracy" not in first.open.metrics
    finally:
        reader.stop()
        run.release()


def test_fuzzy_wants_the_letters_in_order_and_prefers_words() -> None:
    assert fuzzy("qs", "quickstart") > 0
    assert fuzzy("sq", "quick") == 0
    assert fuzzy("ngd", "ngd s1") > fuzzy("ngd", "nothing good done")
    assert fuzzy("gd s1", "gd s0") == 0
    assert fuzzy("", "anything") > 0


def test_a_run_resumed_says_what_its_slots_do_before_any_stage_begins(tmp_path: Path) -> None:
    run = running_run(tmp_path, "toy")
    index = complete(Index(Home(tmp_path)))
    run.event("stopped", outcome="stopped")
    run.ended("stopped")
    run.release()
    index.scan()
    row = complete(index).rows[0]
    assert (row.state, row.slots) == ("stopped", ())
    before = row.share
    (run.folder / "session.json").unlink()
    run.supervise()
    index.scan()
    assert complete(index).rows[0].idle == "starting workers"  # its supervisor starts
    run.session(cached=2)
    run.event("phase", name="starting a worker", slot="cpu:0")
    index.scan()
    (slot,) = index.rows[0].slots
    assert (slot.name, slot.text, slot.key) == ("cpu:0", "starting a worker", "")
    assert index.rows[0].share == pytest.approx(before)
    key = run.begin("gd", attempt=2)
    run.attempt(key, "progress", 2, done=1, total=4)
    index.scan()
    index.scan()
    (slot,) = index.rows[0].slots
    assert (slot.text, slot.key, slot.share) == ("unlearn toy/gd s0", key, 0.25)
    assert index.rows[0].idle == "" and index.rows[0].share > before
    run.release()


def test_every_list_shows_the_same_share_by_planned_compute(tmp_path: Path) -> None:
    """Two trainings of 20 TEE and half an unlearning of 1, of 82 TEE and six audits."""
    run = running_run(tmp_path, "toy")
    index = complete(Index(Home(tmp_path)))
    index.scan()
    row = index.rows[0]
    assert row.share == pytest.approx(40.5 / 82, abs=0.04)
    assert row.done == 2 and row.total == 13  # 15 % of the stages
    feed = Feed(Run(Home(tmp_path), run.id))
    feed.poll()
    assert f"{row.share:.0%}  2/13 stages" in headline(feed.told(row), False)
    progress, target = progress_of(feed.run), Console(width=100, file=io.StringIO())
    target.print(render(feed.run, progress))
    for event in Follower(feed.run).poll():
        progress.take(event)
    target.print(render(feed.run, progress))
    before, now = target.file.getvalue().split("run ")[1:]  # type: ignore[attr-defined]
    assert "0%" in before and "starting workers" in before
    assert f"{row.share:.0%}  2/13 stages" in now and "starting" not in now
    run.release()
