"""What Live draws, from a snapshot: series, texts, rows. No widgets."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from rich.cells import cell_len

from console.charts import NEUTRAL, Series, gaussian_histogram
from console.screens.runs import short_duration
from console.themes import TONES, progress_bar, sign
from console.viewmodel import ENDED, Curve, Floats, Look, Machine, OpenRun, Track
from console.watching.feed import SCORE
from console.widgets import Cell, Column, Row

COLUMNS = (
    Column("track", "model", 22, 10, priority=9, grow=1),
    Column("seed", "s", 2, 2, "right", priority=8),
    Column("share", "", 4, 4, priority=4),
    Column("budget", "at", 5, 4, "right", priority=3),
    Column("value", "loss", 8, 8, "right", priority=7),
    Column("z", "z", 5, 5, "right", priority=6),
)
NULL_WIDTH = 1.96  # standard errors either side: 95 % of N(0, 1)
UNMOVING = ("waiting", *ENDED)  # a bar says nothing of these
INKS = 7  # pinned curves beside the one of the cursor


def track_row(track: Track, metric: str, ascii_: bool, pinned: bool) -> Row:
    value = track.metrics.get(metric)
    budget = track.budgets[track.segment] if track.budgets else None
    tone = TONES.get(track.state, "")
    mark = ("*" if ascii_ else "◆") if pinned else " "
    name = track.label.removesuffix(f" s{track.seed}")
    return Row(
        track.id,
        {
            "track": Cell(f"{sign(track.state, ascii_)}{mark}{name}", tone),
            "seed": Cell(str(track.seed) if track.seed >= 0 else "", "muted"),
            "share": Cell(
                "" if track.state in UNMOVING else progress_bar(track.share, 4, ascii_),
                "" if track.state == "running" else "muted",
            ),
            "budget": Cell("" if budget is None else f"{budget:g}", "muted"),
            "value": "" if value is None else number(value),
            "z": Cell("" if track.z is None else f"{track.z:+.1f}",
                      "warn" if track.z is not None and abs(track.z) > NULL_WIDTH else ""),
        },
    )  # fmt: skip


def number(value: float) -> str:
    """At most eight columns."""
    if not math.isfinite(value):
        return "nan"
    text = f"{value:.4g}"
    return text if len(text) <= 8 else f"{value:.1e}"


# --- curves ---


def curve_series(
    told: OpenRun, chosen: Track, pinned: Sequence[Track], metric: str, band: bool
) -> list[Series]:
    """The cursor's curve, the pinned ones, and behind them what retraining has to say."""
    series: list[Series] = []
    first = told.curves.get((chosen.id, metric))
    if band:
        series += reference(told, chosen, first, metric)
    for ink, track in enumerate([chosen, *pinned][: INKS + 1]):
        curve = told.curves.get((track.id, metric))
        if curve is not None:
            series.append(Series(track.label, curve.x, curve.y, ink))
    return series


def reference(told: OpenRun, chosen: Track, curve: Curve | None, metric: str) -> list[Series]:
    """A band: of a training, retraining's own curves; of an unlearning, where retraining ended;
    of the score, where 95 % of the means of a clean model lie."""
    if metric == SCORE:
        looks = told.looks.get(chosen.id, ())
        if curve is None or not looks or not looks[-1].count:
            return []
        half = NULL_WIDTH / math.sqrt(looks[-1].count)
        ends = [float(curve.x[0]), float(curve.x[-1])]
        return [Series("no poison, 95 %", ends, ink=NEUTRAL, kind="band",
                       lo=[-half] * 2, hi=[half] * 2)]  # fmt: skip
    retrained = [track for track in told.tracks if track.role == "retrain"]
    others = [track for track in retrained if track.id != chosen.id]
    curves = [c for t in others if (c := told.curves.get((t.id, metric))) is not None]
    curves = [c for c in curves if len(c.x)]
    if not curves:
        return []
    name = f"retrain n={len(curves)}"
    if chosen.role in ("unlearn", "other"):
        if curve is None or not len(curve.x):
            return []
        last = np.array([c.y[-1] for c in curves])
        lo, hi = _spread(last[:, None])
        ends = [float(curve.x[0]), float(curve.x[-1])]
        return [Series(f"{name}, its end", ends, ink=NEUTRAL, kind="band",
                       lo=np.repeat(lo, 2), hi=np.repeat(hi, 2))]  # fmt: skip
    x = np.unique(np.concatenate([c.x for c in curves]))
    if len(x) > 400:
        x = np.linspace(x[0], x[-1], 400)
    values = np.array([_on(c, x) for c in curves])
    lo, hi = _spread(values)
    return [Series(name, x, ink=NEUTRAL, kind="band", lo=lo, hi=hi)]


def why_no_curve(track: Track) -> str:
    if track.state == "waiting":
        return "waits for its turn"
    if track.state == "done":
        return "from the store; its curve is gone"
    return ""


def _on(curve: Curve, x: Floats) -> Floats:
    order = np.argsort(curve.x, kind="stable")
    finite = order[np.isfinite(curve.y[order])]
    if not len(finite):
        return np.full(len(x), np.nan)
    on: Floats = np.interp(x, curve.x[finite], curve.y[finite], left=np.nan, right=np.nan)
    return on


def _spread(values: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest over seeds: with five of them, that is what there is to say."""
    return np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)


# --- the histogram ---


def look_series(look: Look) -> list[Series]:
    edges, counts = np.array(look.edges), np.array(look.counts)
    kept = np.flatnonzero(counts)
    first = min(int(kept[0]) if len(kept) else 0, int(np.searchsorted(edges, -4.0, "left")))
    last = max(int(kept[-1]) + 1 if len(kept) else 0, int(np.searchsorted(edges, 4.0, "left")))
    last = min(last, len(counts))
    first = min(first, max(0, last - 1))
    interval = interval_of(look)
    mean = look.mean if math.isfinite(look.mean) else None
    return gaussian_histogram(edges[first : last + 1], counts[first:last], mean, interval)


def interval_of(look: Look) -> tuple[float, float] | None:
    """The 95 % interval of the mean, from the scores' own std."""
    if look.count < 2 or not (math.isfinite(look.mean) and math.isfinite(look.std)):
        return None
    half = NULL_WIDTH * look.std / math.sqrt(look.count)
    return look.mean - half, look.mean + half


def look_text(look: Look, place: int, count: int) -> str:
    words = [f"n {look.count}"]
    if math.isfinite(look.mean):
        words.append(f"mean {look.mean:+.3f}")
    interval = interval_of(look)
    if interval is not None:
        words.append(f"[{interval[0]:+.2f}, {interval[1]:+.2f}]")
    if math.isfinite(look.std):
        words.append(f"sd {look.std:.2f}")
    if look.count and math.isfinite(look.mean):
        words.append(f"z {look.mean * math.sqrt(look.count):+.1f}")
    if look.ks_p is not None:
        words.append(f"KS p {look.ks_p:.1g}")
    return "  ".join([*words, look.what, f"step {look.step:g}", f"{place + 1}/{count}"])


# --- texts ---


def headline(told: OpenRun, ascii_: bool) -> str:
    row = told.row
    idle = f": {row.idle}" if row.idle and row.state == "running" else ""
    words = [f"{sign(row.state, ascii_)} {row.id}", row.state + idle]
    ended = sum(s.state in (*ENDED, "failed") for s in told.stages)
    if told.stages:
        words.append(f"{progress_bar(row.share, 10, ascii_)} {row.share:.0%}  "
                     f"{ended}/{len(told.stages)} stages")  # fmt: skip
    for state in ("failed", "diverged"):
        if count := sum(s.state == state for s in told.stages):
            words.append(f"{count} {state}")
    if row.seconds_left is not None and row.state == "running":
        words.append(f"{short_duration(row.seconds_left)} left")
    problem = told.problem or row.problem
    if problem:
        words.append(problem)
    return "  ".join(words)


def data_line(told: OpenRun, width: int) -> str:
    """What the data are, in as many words as there is room for; "" where nothing is known."""
    if not told.data:
        return ""
    full, brief = told.data[0]
    more = f"; {len(told.data) - 1} more: D" if len(told.data) > 1 else ""
    return next((t for t in (full + more, brief + more) if cell_len(t) <= width), brief)


def facts(told: OpenRun, machine: Machine, chosen: Track | None, width: int, ascii_: bool) -> str:
    """Devices, what runs on them, and the model of the cursor."""
    bar = max(4, width - 18)
    lines = []
    if machine.cpu is not None:
        lines.append(f"cpu  {progress_bar(machine.cpu / 100, bar, ascii_)} {machine.cpu:3.0f}%")
    if machine.total:
        used = machine.used / machine.total
        lines.append(f"mem  {progress_bar(used, bar, ascii_)} {_gib(machine.used, machine.total)}")
    if machine.load is not None:
        lines.append(f"load {machine.load:.1f} on {machine.cores} cores")
    for gpu in machine.gpus:
        busy = gpu.busy or 0.0
        heat = f" {gpu.celsius}C" if gpu.celsius is not None else ""
        lines.append(f"gpu{gpu.index} {progress_bar(busy / 100, bar, ascii_)} {busy:3.0f}%{heat}")
        used = gpu.used / gpu.total if gpu.total else 0.0
        lines.append(f"     {progress_bar(used, bar, ascii_)} {_gib(gpu.used, gpu.total)}")
    running = [stage for stage in told.stages if stage.state == "running"]
    idle = [slot for slot in told.row.slots if not slot.key]
    if running or idle:
        lines.append("")
    for stage in sorted(running, key=lambda s: s.slot):
        went = short_duration(time.time() - stage.since)
        lines.append(f"{stage.slot} {went} {stage.share:4.0%}")
        lines.append(f"  {stage.title}")
    lines += [f"{slot.name} {slot.text}".strip() for slot in idle]
    if chosen is not None:
        lines += ["", *(chosen.title.split(", ") or [chosen.label]), f"  {chosen.state}"]
        by_key = {stage.key: stage for stage in told.stages}
        here = by_key.get(chosen.stages[chosen.segment]) if chosen.stages else None
        if here is not None:
            if here.total:
                lines.append(f"  step {here.done}/{here.total}")
            if here.seconds:
                lines.append(f"  {here.seconds:.1f} s, attempt {here.attempt}")
            lines.append(f"  {here.tee:g} TEE planned")
            if here.reason:
                lines.append(f"  {here.reason}")
        lines += [f"  {name} {number(value)}" for name, value in chosen.metrics.items()]
    return "\n".join(lines)


def _gib(used: int, total: int) -> str:
    return f"{used / 2**30:.0f}/{total / 2**30:.0f}G"
