"""Runs and presets as lists."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from console.output import console, say, say_json
from console.warnings_view import counted, warnings_document
from engine.jobs import runs
from engine.jobs.events import strip_control
from engine.jobs.home import Home, resolve_home
from engine.jobs.run_warnings import warnings_of
from engine.jobs.runs import NOT_SHOWN, Run, why_not_shown
from engine.jobs.survey import survey

TITLE = 500  # characters


def list_runs(home: Path | None, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    place = Home(resolve_home(home))
    told = [_facts(run) for run in runs.every(place)]
    if as_json:
        say_json({"home": str(place.root), "runs": told})
        return
    if not told:
        say(f"No runs in {place.root} yet: `chelate run quickstart` makes one.")
        return
    table = Table(pad_edge=False)
    headings = ["run", "state", "created", "title"]
    if any(facts["reason"] for facts in told):
        headings.append("why")
    for heading in headings:
        table.add_column(heading)
    for facts in told:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(facts["created"])))
        when = when if facts["state"] != "unreadable" else "-"
        title = strip_control(str(facts["title"]))
        if facts["imported"] is not None:
            title = f"[{from_where(facts['imported'])}] {title}"
        cells = facts["run"], facts["state"], when, title, facts["reason"]
        table.add_row(*(Text(cell) for cell in cells[: len(headings)]))
    console().print(table)


def from_where(host: str) -> str:
    return f"imported from {host}"


def _facts(run: Run) -> dict[str, Any]:
    """A line of the list. One that cannot be shown is a line, too: it hides no other."""
    try:
        facts = run.facts
        return {
            "run": run.id,
            "state": run.state(),
            "reason": run.reason(),
            "imported": imported_from(run),
            "created": float(facts.get("created", 0.0)),
            "title": str(facts.get("title") or "")[:TITLE],
        }
    except NOT_SHOWN as error:
        found: dict[str, Any] = {"run": run.id, "state": "unreadable", "created": 0.0, "title": ""}
        return found | {"reason": why_not_shown(error), "imported": None}


def imported_from(run: Run) -> str | None:
    """The machine a run was computed on that was not computed here."""
    return strip_control(str(run.imported["host"])) if run.imported is not None else None


def show_run(run_id: str, home: Path | None, as_json: bool) -> None:
    from engine.jobs.backends import dispatch

    run = runs.find(Home(resolve_home(home)), run_id)
    waits = dispatch.look_again(run)
    found = survey(run.plan, run.store)
    kinds = Counter(stage.kind for stage in run.plan.stages.values())
    left = Counter(stage.kind for stage in found.missing)
    exits = run.exits(stage.key for stage in found.missing)
    failed = [
        {"stage": stage.title, "key": stage.key, "reason": str(exits[stage.key].get("reason", ""))}
        for stage in found.missing
        if exits.get(stage.key, {}).get("outcome") == "failed"
    ]
    reason = waits or run.reason()
    if as_json:
        stages = {kind: {"all": kinds[kind], "missing": left[kind]} for kind in kinds}
        told = {**_facts(run), "reason": reason, "folder": str(run.folder), "failed": failed}
        warned = warnings_document([run])
        say_json(told | {"stages": stages, "warnings": warned, "facts": run.facts})
        return
    say(f"{run.id}: {run.state()}{f' ({reason})' if reason else ''}")
    if (host := imported_from(run)) is not None:
        say(f"  {from_where(host)}, not computed here")
    say(f"  folder   {run.folder}")
    say(f"  preset   {strip_control(str(run.facts.get('origin')))}")
    for kind, count in kinds.items():
        missing = f", {left[kind]} missing" if left[kind] else ""
        say(f"  {kind:8} {count}{missing}")
    for text, count in warnings_of([run]).counts.items():
        say(f"  warning  {counted(text, count)}")
    for told in failed:
        say(f"  failed   {strip_control(told['stage'])}: {strip_control(told['reason'])}")


def list_presets(as_json: bool) -> None:
    from engine.spec.presets import read_toml, shipped

    told = []
    for name, path in shipped().items():
        raw = read_toml(path)
        told.append({"name": name, "title": str(raw.get("title", "")), "path": str(path)})
    if as_json:
        say_json(told)
        return
    width = max((len(preset["name"]) for preset in told), default=0)
    for preset in told:
        say(f"{preset['name']:{width}}  {preset['title']}")


def show_preset(preset: str) -> None:
    from engine.spec.presets import locate, preset_text, read_toml

    path = locate(preset)
    read_toml(path)
    say(preset_text(path).rstrip("\n"))


def show_schema() -> None:
    from engine.spec.experiment import Experiment

    schema = Experiment.model_json_schema()
    say_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema)
