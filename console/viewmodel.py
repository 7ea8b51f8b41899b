"""What the console knows, as plain data: one immutable Snapshot a tick. No Textual, no torch.

A reader thread (`console.watching.reader`) makes them from files; screens only ever look at the
latest. All text in here is already free of escape sequences; markup is the screens' to escape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACTIVE = ("running",)
ENDED = ("done", "stored", "n/a", "diverged")  # of a stage: its outcome is in the store
RESUMABLE = ("paused", "stopped", "failed", "lost", "queued")


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot of a run does now: a stage (`key`), or why it has none. `name` is "" where it is not
    known which slot it is; `share` is the stage's own, `since` epoch seconds."""

    name: str
    text: str
    key: str = ""
    share: float = 0.0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class RunRow:
    """One line of the list of runs. `state` is a RunState, "unreadable", or "reading" while nobody
    knows; times are epoch seconds.

    `total` is 0 as long as nobody has counted the stages; `share` is that of the
    planned compute which is done or given up, 0 to 1. `problem` is one line for people.
    """

    id: str
    name: str = ""
    title: str = ""
    state: str = "queued"
    created: float = 0.0
    device: str = ""
    total: int = 0
    done: int = 0
    failed: int = 0
    share: float = 0.0
    seconds_left: float | None = None
    slots: tuple[Slot, ...] = ()  # of a run under way
    problem: str = ""
    origin: str = ""  # the machine that computed it, if it was imported

    @property
    def stage(self) -> str:
        """What is under way, or what is waited for, in one line."""
        return ", ".join(dict.fromkeys(slot.text for slot in self.slots))

    @property
    def idle(self) -> str:
        """Why nothing is under way, if nothing is."""
        return "" if any(slot.key for slot in self.slots) else self.stage


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU's meter. Memory in bytes; None where NVML does not say."""

    index: int
    name: str
    busy: float | None
    used: int
    total: int
    celsius: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine's meters; `cpu` and `busy` are percents, memory is in bytes."""

    host: str = ""
    cpu: float | None = None
    cores: int = 1
    used: int = 0
    total: int = 0
    load: float | None = None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage of the open run. `state`: waiting, running, done, stored (by another run), failed,
    n/a, diverged, stopped."""

    key: str
    kind: str
    title: str
    state: str
    slot: str = ""
    attempt: int = 0
    done: int = 0
    total: int = 0
    since: float = 0.0
    seconds: float = 0.0
    tee: float = 0.0
    reason: str = ""

    @property
    def share(self) -> float:
        if self.state == "running":
            return min(1.0, self.done / self.total) if self.total else 0.0
        return 0.0 if self.state in ("waiting", "stopped") else 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """A probe, or the scores of an audit: a histogram with its mean and std. NaN is not known."""

    step: float
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    count: int
    mean: float
    std: float
    ks_p: float | None = None  # against N(0, 1)
    what: str = "probe"


@dataclass(frozen=True, slots=True)
class Track:
    """One model on its way: a training, a retraining, or an unlearning over all its budgets.

    `stages` are the keys of its segments in order; `states` theirs; `metrics` the latest values.
    """

    id: str
    label: str  # short
    title: str  # in full
    role: str  # "train" | "retrain" | "retrain-fresh" | "unlearn"
    method: str
    seed: int
    stages: tuple[str, ...]
    budgets: tuple[float | None, ...]
    state: str
    share: float
    segment: int = 0  # index into stages of the one under way, or the last that ended
    metrics: dict[str, float] = field(default_factory=dict)
    z: float | None = None  # mean of the latest look, in units of its standard error


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A metric over the steps of a track."""

    track: str
    name: str
    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True)
class LogLine:
    """`level`: "", "good", "warning" or "error"."""

    t: float
    text: str
    level: str = ""


@dataclass(frozen=True, slots=True)
class TextLog:
    """The end of a text file somebody looks at. `start` lines came before lines[0]."""

    path: Path
    lines: tuple[str, ...] = ()
    start: int = 0
    cut: bool = False  # the file is longer than what was read of it
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Everything of the run that is open. `curves` and `looks` are those asked for."""

    row: RunRow
    stages: tuple[StageRow, ...] = ()
    queue: tuple[str, ...] = ()  # keys of what waits, next first
    tracks: tuple[Track, ...] = ()
    curves: dict[tuple[str, str], Curve] = field(default_factory=dict)  # (track, metric)
    looks: dict[str, tuple[Look, ...]] = field(default_factory=dict)  # track → in order of steps
    metrics: tuple[str, ...] = ()
    log: tuple[LogLine, ...] = ()
    log_start: int = 0  # how many lines came before log[0]
    ready: bool = False  # its plan has been read
    problem: str = ""
    warnings: tuple[tuple[str, int], ...] = ()  # of its stages: text, how many; the newest last
    data: tuple[tuple[str, str], ...] = ()  # a line for each data set: in full, and in short
    margins: tuple[str, ...] = ()  # a line for each margin that is not the shipped one


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of everything at `t`. `serial` grows with every change."""

    serial: int = 0
    t: float = 0.0
    home: Path = Path()
    runs: tuple[RunRow, ...] = ()
    loading: bool = True  # the list of runs is not complete yet
    machine: Machine = Machine()
    open: OpenRun | None = None
    ended: tuple[RunRow, ...] = ()  # runs seen to end since the console started, latest last
    text: TextLog | None = None
    problem: str = ""  # of the reading itself

    def run(self, run_id: str) -> RunRow | None:
        return next((row for row in self.runs if row.id == run_id), None)

    def count(self, *states: str) -> int:
        return sum(row.state in states for row in self.runs)


def fuzzy(query: str, text: str) -> float:
    """How well the letters of `query` come in this order in `text`; 0 when they do not.

    Words of the query are looked for separately; letters that adjoin or begin words weigh more.
    """
    score = 1.0
    folded = text.lower()
    for word in query.lower().split():
        found = folded.find(word)
        if found >= 0:
            score += 4 * len(word) + (4 if found == 0 or not folded[found - 1].isalnum() else 0)
            continue
        place, last = -1, -1
        for letter in word:
            place = folded.find(letter, place + 1)
            if place < 0:
                return 0.0
            score += 2 if place == last + 1 else 1
            last = place
    return score


def elided(text: str, width: int) -> str:
    """`text` in `width` columns at most: what tells variants apart stands at the end."""
    if len(text) <= width or width < 5:
        return text[:width]
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"
