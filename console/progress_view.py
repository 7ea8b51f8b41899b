"""A run under way, as a few lines that rich repaints in place."""

from __future__ import annotations

import time

from rich.console import Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from engine.jobs.events import strip_control
from engine.jobs.follow import Active, Progress
from engine.jobs.runs import Run


def render(run: Run, progress: Progress) -> Group:
    """The run's bar with the time left, by planned compute; then what each slot does."""
    settled = len(progress.done) + len(progress.failed)
    head = Table.grid(padding=(0, 1))
    left = progress.seconds_left()
    share = progress.share
    told = f"{share:4.0%}  {settled}/{progress.total} stages"
    if progress.failed:
        told += f", {len(progress.failed)} failed"
    told += f", {duration(left)} left" if left is not None else ""
    head.add_row("run ", ProgressBar(1.0, share, width=40), told)
    for active in sorted(progress.active.values(), key=lambda a: a.slot):
        head.add_row(
            active.slot,
            ProgressBar(1.0, active.share, width=40),
            escape(strip_control(f"{active.title}  {facts(active)}")),
        )
    for slot, words in progress.idle():
        head.add_row(escape(strip_control(slot)), "", escape(strip_control(words)))
    return Group(head)


def facts(active: Active) -> str:
    """What is known of a stage: its metrics, its probe, how long it has been going."""
    parts = [f"{name} {value:.4g}" for name, value in active.metrics.items()]
    probe = active.probe
    mean, count = probe.get("mean"), probe.get("count")
    if isinstance(mean, int | float) and isinstance(count, int | float) and count > 0:
        parts.append(f"z {mean * count**0.5:+.1f}")
    parts.append(duration(time.time() - active.since))
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """3 s, 2 min 5 s, 1 h 2 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
