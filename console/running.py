"""`run` and `watch`: start a supervisor, look on, and show what came out."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.machines_view import machines_document
from console.output import FAILED, INTERRUPTED, complain, say, say_json
from console.signals import Requests
from console.steering import make_sure
from console.streams import working_on
from console.warnings_view import NewWarnings, warnings_document
from engine.jobs import control, runs
from engine.jobs.backends import dispatch
from engine.jobs.backends.jobs import submissions
from engine.jobs.datasets import data_sets_of
from engine.jobs.datasets import lines as data_lines
from engine.jobs.events import phase_words, strip_control
from engine.jobs.follow import Event, Follower, Progress, finite, progress_of
from engine.jobs.home import Home, resolve_home
from engine.jobs.run_warnings import stored_warnings
from engine.jobs.runs import Run
from engine.jobs.survey import survey

POLL = 0.1  # seconds
ASK = 15.0  # seconds before asking a cluster again why a run waits
Take = Callable[[list[Event]], None]


@dataclass(frozen=True)
class Looking:
    """Who looks on: what they are asked meanwhile, and the supervisor, if they started it."""

    requests: Requests
    process: subprocess.Popen[bytes] | None = None


Watch = Callable[[Run, Progress, Follower, NewWarnings, Looking], bool]


def run_preset(
    preset: str,
    overrides: list[str] | None,
    seeds: str | None,
    home: Path | None,
    device: str | None,
    as_json: bool,
    plain: bool,
) -> int:
    """Returns the exit code. Raises BadInput before anything is computed or written."""
    from console.comparing import margins_document, rows_of, tuning_of
    from console.launching import created, finish
    from console.planning import prepare
    from engine.results.tables import exported

    planned = prepare(preset, overrides, seeds, device)
    place = Home(resolve_home(home)).create()
    run = created(place, planned, planned.name, str(planned.origin))
    found = survey(run.plan, run.store)
    interrupted = False
    if found.complete:
        finish(run)
        if as_json:
            _complain_of_warnings(NewWarnings(lambda: stored_warnings(run.store, found.ok)))
    else:
        follower = Follower(run, skip=True)
        with Requests() as requests:
            process = dispatch.start(run, planned.experiment.compute, planned.resources)
            if process is None:
                return _say_submitted(run, place, as_json)
            # A reader that goes away ends neither the work nor this command, which Ctrl-C ends both of.
            with working_on(f"Run {run.id} goes on: Ctrl-C stops it, `chelate watch` looks on."):
                if not as_json:
                    _say_data(run)
                view = _quiet if as_json else _view(plain)
                warnings = NewWarnings(lambda: stored_warnings(run.store, found.ok))
                progress = progress_of(run, found.ok)
                interrupted = view(run, progress, follower, warnings, Looking(requests, process))
    state = "done" if found.complete else _outcome(run)
    interrupted = interrupted and state != "done"  # asked too late
    if as_json:
        told: dict[str, Any] = {
            "run": run.id,
            "status": state,
            "home": str(place.root),
            "rows": exported(rows_of([run])),
        }
        told |= {"tuning": exported(tuning_of([run])), "data": _data_json(run)}
        told["machines"] = machines_document([run])
        told["margins"] = margins_document([run])
        say_json(told | {"warnings": warnings_document([run])})
    elif not interrupted:
        _compare(run)
        _say_where(run, state, cached=found.complete)
    if interrupted or state == "stopped":
        complain(f"chelate: stopped; {_resuming(run, home)} goes on from here.")
        return INTERRUPTED
    if state != "done":
        _complain_of_failures(run)
        return FAILED
    return 0


def _resuming(run: Run, home: Path | None) -> str:
    """The command that goes on with this run, whatever it was made from."""
    where = "" if home is None else f" --home {shlex.quote(str(home))}"
    return f"`chelate resume {run.id}{where}`"


def _say_submitted(run: Run, place: Home, as_json: bool) -> int:
    """The cluster does the rest, and whoever looks on may do so from any node."""
    job = submissions(run.folder)[-1].facts().get("job")
    if as_json:
        told = {"run": run.id, "status": run.state(), "home": str(place.root), "job": job}
        say_json(told | {"data": _data_json(run)})
    else:
        say(f"run {run.id}: submitted to Slurm as job {job}; in {place.root}")
        say(f"`chelate watch {run.id}` looks on, from any node.")
        _say_data(run)
    return 0


def detach_preset(
    preset: str,
    overrides: list[str] | None,
    seeds: str | None,
    home: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Start a run, say which it is, and leave it alone. Raises BadInput."""
    from console.launching import begin
    from console.planning import prepare

    planned = prepare(preset, overrides, seeds, device)
    place = Home(resolve_home(home)).create()
    run, process = begin(place, planned, planned.name, str(planned.origin))
    make_sure(run, process)
    if as_json:
        told = {"run": run.id, "status": run.state(), "home": str(place.root)}
        say_json(told | {"data": _data_json(run)})
        return
    say(run.id)
    complain(
        f"chelate: {run.state()}; `chelate watch {run.id}` looks on, `chelate` shows all runs."
    )


def watch_run(run_id: str, home: Path | None, plain: bool) -> int:
    """Follow a run from anywhere; Ctrl-C (SIGTERM, SIGHUP) only ends the watching."""
    run = runs.find(Home(resolve_home(home)), run_id)
    if run.supervised():
        _say_data(run)
        done = [key for key in run.plan.stages if run.store.has(key)]
        warnings = NewWarnings(lambda: stored_warnings(run.store, run.store.records(done)))
        progress = progress_of(run, done)
        with Requests() as requests:
            _view(plain)(run, progress, Follower(run), warnings, Looking(requests))
    state = run.state()
    if state == "running":
        return 0
    _compare(run)
    _say_where(run, state)
    if state in ("failed", "lost"):
        _complain_of_failures(run)
        return FAILED
    return 0


def _outcome(run: Run) -> str:
    """How a run ended that we saw end, whatever other consoles have done to it since."""
    state = run.state()
    if state in ("running", "lost") and survey(run.plan, run.store).complete:
        return "done"
    return state


def _view(plain: bool) -> Watch:
    return _lines if plain or not sys.stdout.isatty() else _live


def _follow(run: Run, follower: Follower, looking: Looking, take: Take) -> bool:
    """Feed events to `take` until the run ends; whether we were asked to end before.

    Where we started the run, the first request asks it to stop, and a second one kills it.
    """
    process, requests = looking.process, looking.requests
    sent: signal.Signals | None = None
    asked, told = -ASK, ""
    while True:
        if requests.asked and process is None:
            return True
        if requests.asked and sent is None:
            complain("chelate: stopping (Ctrl-C again to kill) …")
            sent = signal.SIGTERM
            _signal(run, process, sent)  # type: ignore[arg-type]
        elif requests.impatient and sent is signal.SIGTERM:
            sent = signal.SIGKILL
            _signal(run, process, sent)  # type: ignore[arg-type]
        if process is None and time.monotonic() - asked > ASK:
            asked, before = time.monotonic(), told
            told = dispatch.look_again(run)
            if told and told != before:
                complain(f"chelate: {told}")
        # In this order: events written before the end must not be missed.
        over = process.poll() is not None if process else not run.supervised()
        over = over and not run.supervised()
        take(follower.poll())
        if over:
            return sent is not None
        time.sleep(POLL)


def _signal(run: Run, process: subprocess.Popen[bytes], number: int) -> None:
    """To the supervisor of this run, which may be another than the one we started."""
    pid = process.pid
    if process.poll() is not None:
        told = run._json("supervisor.json")
        pid = int(told["pid"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _complain_of_warnings(warnings: NewWarnings) -> None:
    for text in warnings.at_first():
        complain(f"chelate: {text}")


def _quiet(
    run: Run,
    progress: Progress,
    follower: Follower,
    warnings: NewWarnings,
    looking: Looking,
) -> bool:
    _complain_of_warnings(warnings)

    def take(events: list[Event]) -> None:
        for event in events:
            if text := warnings.of(event):
                complain(f"chelate: {text}")

    return _follow(run, follower, looking, take)


def _lines(
    run: Run,
    progress: Progress,
    follower: Follower,
    warnings: NewWarnings,
    looking: Looking,
) -> bool:
    """One line per event of the supervisor, and for each warning that is new."""

    def write(t: float, text: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(t))
        sys.stdout.write(f"{clock} {strip_control(text)}\n")

    for text in warnings.at_first():
        write(time.time(), f"warning  {text}")

    def take(events: list[Event]) -> None:
        for event in events:
            progress.take(event)
            new = warnings.of(event)
            text = f"warning  {new}" if new else _line(event, progress)
            if text:
                write(event["t"], text)
        sys.stdout.flush()

    return _follow(run, follower, looking, take)


def _line(event: Event, progress: Progress) -> str:
    data, kind = event["data"], event["kind"]
    if event["stage"] or kind == "warning":
        return ""
    if "key" not in data:
        if kind == "start":
            counts = f"{data.get('todo')} stages to do, {data.get('cached')} in the store"
            return f"run      {data.get('run')}: {counts}"
        return f"run      {data.get('outcome') or phase_words(data)}"
    if kind == "start":
        return f"start    {data.get('title')} on {data.get('slot')}"
    reason = f": {data.get('reason')}" if data.get("reason") else ""
    count = f"[{len(progress.done) + len(progress.failed)}/{progress.total}, {progress.share:.0%}]"
    seconds = f"{finite(data.get('seconds')):.2f} s"
    return f"{data.get('outcome')!s:8} {data.get('title')} {seconds} {count}{reason}"


def _live(
    run: Run,
    progress: Progress,
    follower: Follower,
    warnings: NewWarnings,
    looking: Looking,
) -> bool:
    """A bar for the run, and a line for each stage under way; above them what is warned of."""
    from rich.live import Live
    from rich.text import Text

    from console.output import console
    from console.progress_view import render

    with Live(console=console(), refresh_per_second=8, transient=True) as live:
        live.update(render(run, progress), refresh=True)
        for text in warnings.at_first():
            live.console.print(Text(f"warning: {text}"), style="yellow")

        def take(events: list[Event]) -> None:
            for event in events:
                progress.take(event)
                if text := warnings.of(event):
                    live.console.print(Text(f"warning: {text}"), style="yellow")
            live.update(render(run, progress))

        return _follow(run, follower, looking, take)


def _say_data(run: Run) -> None:
    """What is known of its data before anything else is shown; the comparison says it again, then
    with what the data stage counted."""
    for text in data_lines(data_sets_of([run])):
        say(text)


def _data_json(run: Run) -> list[dict[str, Any]]:
    return [one.to_json() for one in data_sets_of([run])]


def _compare(run: Run) -> None:
    from console.comparing import print_comparison  # statistics and presets: not to look on

    print_comparison([run])


def _say_where(run: Run, state: str, cached: bool = False) -> None:
    how = " (all from the store)" if cached else ""
    say(f"run {run.id}: {state}{how}; in {run.home.root}")
    say(
        f"`chelate compare {run.id}` shows this again; `chelate explain verdict` says what it means."
    )


def _complain_of_failures(run: Run) -> None:
    failed = control.failures(run)
    reason = "" if failed else run.reason()
    if run.state() in ("lost", "queued"):
        log = run.folder / "supervisor.log"
        reason = f"the supervisor is gone ({log}); `chelate resume {run.id}` goes on."
    if reason:
        complain(f"chelate: {reason}")
    for told in failed[:10]:
        complain(f"chelate: failed: {strip_control(str(told.get('title')))}: "
                 f"{strip_control(str(told.get('reason')))}")  # fmt: skip
    if len(failed) > 10:
        complain(f"chelate: and {len(failed) - 10} more: `chelate runs show {run.id}`")
