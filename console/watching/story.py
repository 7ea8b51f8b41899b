"""Events as lines for people."""

from __future__ import annotations

import time
from typing import Any

from console.viewmodel import LogLine
from engine.jobs.events import phase_words, strip_control


def of_supervisor(kind: str, data: dict[str, Any], t: float) -> LogLine:
    """What the supervisor did."""
    title, level = data.get("title"), ""
    if kind == "warning":
        text, level = f"warning: {data.get('text')}", "warning"
    elif kind == "phase":
        text = phase_words(data)
    elif kind == "start" and title is None:
        text = f"session: {data.get('todo')} stages to do, {data.get('cached')} in the store"
    elif kind == "start":
        text = f"start {title} on {data.get('slot')}"
    elif title is None:
        outcome = data.get("outcome") or kind
        text = f"run {outcome}"
        level = {"done": "good", "failed": "error"}.get(str(outcome), "warning")
    else:
        outcome = str(data.get("outcome"))
        text = f"{outcome} {title} in {_seconds(data.get('seconds'))}"
        if data.get("reason"):
            text += f": {data.get('reason')}"
        level = {"failed": "error", "stopped": "warning", "na": "warning", "diverged": "error"}.get(
            outcome, ""
        )
    return LogLine(t, _one_line(text), level)


def of_stage(kind: str, data: dict[str, Any], t: float, title: str) -> LogLine | None:
    """What is worth a line in what a stage says; its start and end are the supervisor's to tell."""
    if kind == "warning":
        return LogLine(t, _one_line(f"{title}: {data.get('text')}"), "warning")
    if kind == "phase":
        return LogLine(t, _one_line(f"{title}: {data.get('name')}"))
    if kind == "checkpoint":
        word = "checkpoint" if data.get("resumed") is None else "goes on from the checkpoint"
        return LogLine(t, _one_line(f"{title}: {word} at step {data.get('step')}"))
    if kind == "metric":
        value = data.get("value")
        number = f"{value:.4g}" if isinstance(value, int | float) else "not finite"
        text = f"{title}: step {data.get('step')} {data.get('name')} {number}"
        return LogLine(t, _one_line(text), "" if value is not None else "warning")
    return None


def event_line(event: dict[str, Any]) -> str:
    """An event as one line, everything in it. Raises KeyError, TypeError, … for what is none."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["t"]))
    data = "  ".join(f"{name}={_short(value)}" for name, value in event["data"].items())
    return _one_line(f"{clock} {event['kind']!s:<9} {data}")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _seconds(value: Any) -> str:
    return f"{value:.2f} s" if isinstance(value, int | float) else "?"


def _one_line(text: str) -> str:
    return " ".join(strip_control(text).split())[:1000]
