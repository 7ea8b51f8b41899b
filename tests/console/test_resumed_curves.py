"""The curve of a stage that was killed and went on from a checkpoint: no gap, and no step twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from homes import WrittenRun, running_run

from console.viewmodel import OpenRun
from console.watching.feed import Feed
from engine.jobs.home import Home
from engine.jobs.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[WrittenRun]:
    """gd s0 runs in its first attempt and has said 50 losses and looks at steps 10, 30 and 50."""
    made = running_run(tmp_path)
    yield made
    made.release()


def feed_of(run: WrittenRun, home: Path) -> Feed:
    return Feed(Run(Home(home), run.id))


def opened(feed: Feed) -> tuple[OpenRun, str]:
    track = next(t.id for t in feed.told(None).tracks if t.label == "gd s0")
    feed.want((track,), "loss")
    for _ in range(50):
        feed.poll()
        if not feed.behind:
            break
    feed.poll()
    return feed.told(None), track


def curve(feed: Feed) -> list[int]:
    told, track = opened(feed)
    return [int(x) for x in told.curves[track, "loss"].x]


def looks(feed: Feed) -> list[int]:
    told, track = opened(feed)
    return [int(look.step) for look in told.looks[track]]


def go_on(run: WrittenRun, attempt: int, of: int | None, first: int, last: int) -> None:
    """Another attempt at gd s0 says losses from step `first` on; `of`: from whose checkpoint."""
    key = run.begin("gd", attempt=attempt)
    run.attempt(key, "start", attempt=attempt)
    if of is not None:
        run.attempt(key, "checkpoint", attempt=attempt, loop="unlearn", step=first - 1, resumed=of)
    for step in range(first, last + 1):
        run.attempt(key, "metric", attempt=attempt, name="loss", step=step, value=1.0)


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "opened afterwards"])
def test_an_attempt_that_goes_on(run: WrittenRun, tmp_path: Path, watched: bool) -> None:
    feed = feed_of(run, tmp_path)
    if watched:
        assert curve(feed) == list(range(1, 51))
    before = looks(feed_of(run, tmp_path))
    go_on(run, 2, of=1, first=41, last=60)
    assert curve(feed) == list(range(1, 61))
    assert looks(feed) == [step for step in before if step <= 40]
    go_on(run, 3, of=2, first=56, last=70)  # and again
    assert curve(feed) == list(range(1, 71))
    assert curve(feed_of(run, tmp_path)) == list(range(1, 71))


def test_going_on_from_the_first_attempt_twice(run: WrittenRun, tmp_path: Path) -> None:
    """The second one died before its first checkpoint: nothing of it counts."""
    go_on(run, 2, of=1, first=41, last=44)
    go_on(run, 3, of=1, first=41, last=52)
    assert curve(feed_of(run, tmp_path)) == list(range(1, 53))


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "opened afterwards"])
def test_an_attempt_that_begins_anew(run: WrittenRun, tmp_path: Path, watched: bool) -> None:
    feed = feed_of(run, tmp_path)
    if watched:
        curve(feed)
    go_on(run, 2, of=None, first=1, last=5)
    assert curve(feed) == [1, 2, 3, 4, 5]


def test_the_log_says_where_it_goes_on_and_repeats_nothing(run: WrittenRun, tmp_path: Path) -> None:
    feed = feed_of(run, tmp_path)
    opened(feed)
    before = feed.lines.count
    go_on(run, 2, of=1, first=41, last=41)
    opened(feed)
    new = [line.text for line in feed.lines.told()][before:]
    told = [text.partition(": ")[2] for text in new if "step" in text]
    assert told[0] == "goes on from the checkpoint at step 40"
    assert told[1:] in ([], ["step 41 loss 1"])  # of metrics one a second


def test_the_earlier_attempt_may_be_another_runs(run: WrittenRun, tmp_path: Path) -> None:
    key = run.key("gd")
    other = tmp_path / "runs" / "other" / "attempts"
    other.mkdir(parents=True)
    (run.folder / "attempts" / f"{key[:16]}.1").rename(other / f"{key[:16]}.1")
    go_on(run, 2, of=1, first=41, last=60)
    assert curve(feed_of(run, tmp_path)) == list(range(1, 61))


@pytest.mark.parametrize("of", [2, 3, 0, -1, "1", True, None, 1e9])
def test_nonsense_in_a_strangers_file_is_passed_over(
    run: WrittenRun, tmp_path: Path, of: object
) -> None:
    key = run.begin("gd", attempt=2)
    run.attempt(key, "checkpoint", attempt=2, step=40, resumed=of)
    run.attempt(key, "checkpoint", attempt=2, step="x", resumed=1)
    run.attempt(key, "metric", attempt=2, name="loss", step=41, value=1.0)
    found = curve(feed_of(run, tmp_path))
    assert found[-1] == 41 and len(found) in (1, 41)
