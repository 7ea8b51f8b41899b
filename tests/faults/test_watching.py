"""What people watch by: event files torn or foreign, watchers that are slow, clocks that lie."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import chelate, until
from trials import Trial

from console.watching.feed import Feed
from engine.jobs.events import EventTail, EventWriter
from engine.jobs.follow import Follower, Progress

Note = Callable[[str, object], None]

GARBAGE = [
    b'{"v":1,"seq":3,"t":1.0,"sta',  # torn, and what follows is glued to it
    b"\x00\xff\x1b]0;owned\x07\n",
    b"[]\n",
    b'{"v":1,"seq":1,"t":1e300,"stage":"","attempt":1,"kind":"end","data":{"outcome":[]}}\n',
    b'{"v":9,"seq":1,"t":1.0,"stage":"","attempt":1,"kind":"telepathy","data":{"key":{"a":1}}}\n',
    b'{"v":9,"seq":1,"t":1.0,"stage":"","attempt":1,"kind":"start","data":{"key":7,"attempt":{}}}\n',
    b'{"v":9,"seq":1,"t":1.0,"stage":"","attempt":1,"kind":"start","data":{"slots":"many"}}\n',
    b'{"v":9,"seq":1,"t":1.0,"stage":"","attempt":1,"kind":"end","data":{"key":"k","seconds":"x"}}\n',
]


@pytest.mark.fault(
    "torn, garbage and future-version event lines", seen="the lines that make sense, and no others"
)
def test_lines_that_make_no_sense(trial: Trial, record_property: Note) -> None:
    trial.start(slow=0.1)
    until(lambda: trial.under_way("craft"))
    # Several writers, which no run has: the worst that can happen to a file.
    for path in [trial.run.events, *trial.run.folder.glob("attempts/*/events.jsonl")]:
        with path.open("ab", buffering=0) as file:
            for line in GARBAGE:
                file.write(line)
    progress, follower, feed = Progress(trial.run.plan.stages), Follower(trial.run), Feed(trial.run)
    watching = chelate("watch", trial.run.id, "--home", trial.home, "--plain")
    assert watching.returncode == 0, watching.stderr
    assert "\x1b" not in watching.stdout + watching.stderr
    assert trial.await_end() == "done"
    for event in follower.poll():
        progress.take(event)
    while feed.poll() and feed.behind:
        pass
    shown = chelate("runs", "show", trial.run.id, "--home", trial.home)
    assert f"{trial.run.id}: done" in shown.stdout
    assert "Traceback" not in watching.stderr + shown.stderr
    tail = EventTail(trial.run.events)
    tail.read()
    assert tail.skipped >= 2
    trial.as_if_undisturbed()
    record_property(
        "happened", f"{tail.skipped} lines of the run's own file skipped, the rest read"
    )


@pytest.mark.fault("a slow or absent watcher at 10,000 events/s", seen="all events, later")
def test_ten_thousand_events_a_second(tmp_path: Path, record_property: Note) -> None:
    path, count = tmp_path / "events.jsonl", 20_000
    child = os.fork()
    if child == 0:  # a watcher that stands still after its first look
        tail = EventTail(path)
        while True:
            tail.read()
            os.kill(os.getpid(), signal.SIGSTOP)
    took = 0.0
    try:
        with EventWriter(path, "", 1, rate=1e9) as writer:
            began = time.process_time()
            for number in range(count):
                writer.emit("phase", number=number)
            took = time.process_time() - began
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert writer.dropped == 0
    assert took / count < 1e-4, "the writer cannot do ten thousand a second"
    late, seen = EventTail(path), []
    while not seen or late.behind:
        seen += [event["data"]["number"] for event in late.read(1 << 16)]
    assert seen == list(range(count))
    record_property("happened", f"{1e6 * took / count:.0f} µs an event for the writer, none lost")


@pytest.mark.fault("the clock is set back an hour while a run is under way", seen="nothing")
def test_a_clock_set_back(trial: Trial, record_property: Note) -> None:
    trial.start(slow=0.05, clock_back=3600.0)
    assert trial.await_end() == "done"
    times = [event["t"] for event in trial.events()]
    assert max(times) - min(times) > 3000  # it did go back
    progress = Progress(trial.run.plan.stages)
    for event in Follower(trial.run).poll():
        progress.take(event)
    assert progress.seconds_left() == 0.0
    ends = [json.loads(p.read_text()) for p in trial.run.folder.glob("attempts/*/exit.json")]
    assert all(0 <= end["seconds"] < 60 for end in ends)  # durations are of another clock
    trial.as_if_undisturbed()
    record_property("happened", "order and durations come from a clock that only goes forward")
