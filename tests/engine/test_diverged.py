"""A stage whose numbers stop being finite: an outcome, kept with its step; the rest goes on."""

from __future__ import annotations

import re
from pathlib import Path

from detached import detached, supervisor
from harness import (
    TINY,
    Computed,
    called,
    new_kinds,
    objects,
    run_json,
    strict_json,
    unhealthy,
    until,
)
from nursery import Nursery

from engine.jobs.control import failures
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.survey import RunReader, survey

FIVE = TINY.replace("[0, 1]", "[0, 1, 2, 3, 4]")
EXPLODES = '[[methods]]\nname = "gd"\nlabel = "wild"\nlr = 0.0123\nbatch_size = 8\n'
SCRIPT = """
import torch

from engine.lab import stages
from engine.lab.methods.gd import GD

seed, step, run = [], GD.step, stages.RUN[{kind!r}]

def noted(config, ctx):
    seed[:] = [config["seed"]]
    return run(config, ctx)

def explodes(self, task):
    step(self, task)
    if self.lr == 0.0123 and seed[0] in {seeds} and task.steps + 1 == {step}:
        with torch.no_grad():
            for parameter in task.model.parameters():
                parameter.fill_(torch.inf)

stages.RUN[{kind!r}], GD.step = noted, explodes
"""


def script(folder: Path, seeds: tuple[int, ...], step: int) -> str:
    """A gd that explodes in its `step`-th step, of these seeds."""
    path = folder / "explodes.py"
    path.write_text(SCRIPT.format(kind="unlearn", seeds=seeds, step=step))
    return str(path)


def test_some_seeds_diverge(shared: Computed, tmp_path: Path, forked: Nursery) -> None:
    home, preset = shared.copy(tmp_path), tmp_path / "wild.toml"
    preset.write_text(FIVE + EXPLODES)
    with forked.starts_all(script=script(tmp_path, (3,), 2)):
        document = run_json(preset, home, command=called)
    wild = [r for r in document["rows"] if r["variant"] == "wild" and r["primary"]]
    assert {row["budget"] for row in wild} == {0.25, 0.5}
    for row in wild:
        assert row["reason"].startswith("1 of 5 seeds diverged (seed 3, step 3); "), row["reason"]
        assert row["diverged"] == [None, None, None, "step 3", None]
        assert row["values"][3] is None and row["n"] == 4
        assert row["verdict"] in ("residue", "inconclusive", "wrecked")
    assert all("diverged" not in row for row in document["rows"] if row["variant"] != "wild")
    run = Run(Home(home), document["run"])
    assert run.state() == "done" and failures(run) == []
    assert survey(run.plan, run.store).complete
    told = [record for record in objects(home).values() if record["diverged"] is not None]
    assert [(r["title"], r["diverged"]) for r in told] == [
        ("unlearn gaussian/gd[wild] 0.25 s3", 3)
    ], "the segments after it would take the same steps"
    # Nothing is computed again, and everybody tells it.
    before = objects(home)
    assert run_json(preset, home, command=called)["rows"] == document["rows"]
    assert not new_kinds(home, before)
    text = called("compare", run.id, "--home", home).stdout
    assert "1 of 5 seeds diverged (seed 3, step 3)" in " ".join(text.split())
    lines = called("compare", run.id, "--home", home, "--csv").stdout
    assert '"[null, null, null, ""step 3"", null]"' in lines and "nan" not in lines.lower()
    assert not unhealthy(home)
    forked.until_gone()


def test_all_seeds_diverge(shared: Computed, tmp_path: Path, forked: Nursery) -> None:
    """For real: a rate that nothing survives."""
    home, preset = shared.copy(tmp_path), tmp_path / "wild.toml"
    preset.write_text(TINY + EXPLODES.replace("0.0123", "1e300"))
    document = run_json(preset, home, command=called)
    rows = [r for r in document["rows"] if r["variant"] == "wild" and r["primary"]]
    for row in rows:
        assert row["verdict"] == "not-applicable"
        assert re.fullmatch(r"diverged \(seed 0, step \d; seed 1, step \d\)", row["reason"])
    where = (document["run"], "--home", home)
    assert "n/a: diverged" in called("compare", *where, "--md").stdout
    assert "n/a: diverged" in called("compare", *where).stdout
    assert strict_json(called("compare", *where, "--json").stdout)["rows"] == document["rows"]
    done = called("report", *where, "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page" / "report.html").read_text()
    assert "n/a: diverged" in page and "seed 1, step" in page
    archive = tmp_path / "run.tar.gz"
    done = called("export", *where, archive)
    assert done.returncode == 0, done.stderr
    done = called("import", archive, "--home", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    other = strict_json(called("compare", where[0], "--home", tmp_path / "other", "--json").stdout)
    assert [r["reason"] for r in other["rows"]] == [r["reason"] for r in document["rows"]]
    forked.until_gone()


def test_a_training_that_diverges_takes_its_seed_along(tmp_path: Path, forked: Nursery) -> None:
    """Here of seed 1, poisoned: retraining is there and says what it lacks."""
    preset, home = tmp_path / "tiny.toml", tmp_path / "home"
    preset.write_text(TINY)
    path = tmp_path / "explodes.py"
    path.write_text(
        """
from engine.lab import stages
from engine.lab.context import Diverged

train = stages.RUN["train"]

def run(config, ctx):
    if config["seed"] == 1 and ctx.key("exclude") is None and config["role"] == "paired":
        raise Diverged(4, "the loss is nan")
    return train(config, ctx)

stages.RUN["train"] = run
"""
    )
    with forked.starts_all(script=str(path)):
        document = run_json(preset, home, command=called)
    told = {
        (r["method"], r["budget"]): r["reason"]
        for r in document["rows"]
        if r["primary"] and r["audit"] == "gaussian"
    }
    assert told["none", None].startswith("1 of 2 seeds diverged (seed 1, step 4); ")
    other = "1 of 2 seeds diverged (seed 1, step 4 of train gaussian s1); "
    assert told["gd", 0.5].startswith(other), told
    for method in ("retrain", "retrain-fresh"):
        lacks = "no unlearning diverged (seed 1, step 4): no recovery there"
        assert lacks in told[method, None]
    forked.until_gone()


def test_killed_and_resumed_it_diverges_at_the_same_step(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """A checkpoint is due when it has exploded and nobody knows yet: it must not hide the step."""
    step, exploded = 12, tmp_path / "exploded"
    home, preset = shared.copy(tmp_path), tmp_path / "wild.toml"
    text = TINY.replace("[0, 1]", "[0]").replace("[0.25, 0.5]", "[0.5]")
    preset.write_text(text + EXPLODES + "[compute]\ncheckpoint_seconds = 0.0001\n")
    path = Path(script(tmp_path, (0,), step))
    path.write_text(
        path.read_text()
        + f"""
import time
from pathlib import Path

inner = GD.step

def slow(self, task):
    if self.lr == 0.0123:
        time.sleep(0.05)
        if task.steps == {step} and not Path({str(exploded)!r}).exists():
            Path({str(exploded)!r}).touch()
            time.sleep(60)
    inner(self, task)

GD.step = slow
"""
    )
    with forked.starts_all(script=str(path), checkpoints=True):
        run = detached(preset, home, "--set", "compute.workers=1")
        [key] = [
            s.key for s in run.plan.stages.values() if "wild" in s.title and s.kind == "unlearn"
        ]
        until(exploded.exists)
        supervising = supervisor(run)
        for process in (supervising, *supervising.children()):
            process.kill()
        forked.until_gone()
        log = run.folder / "attempts" / f"{key[:16]}.1" / "events.jsonl"
        kept = [e["data"]["step"] for e in EventTail(log).read() if e["kind"] == "checkpoint"]
        assert kept and max(kept) < step
        done = called("resume", run.id, "--home", home)
        assert done.returncode == 0, done.stderr
        forked.until_gone()
    assert run.store.record(key).diverged == step + 1  # type: ignore[union-attr]
    again = run.folder / "attempts" / f"{key[:16]}.2" / "events.jsonl"
    told = [e["data"] for e in EventTail(again).read() if e["kind"] in ("checkpoint", "end")]
    assert told[0]["resumed"] == 1
    assert told[-1]["outcome"] == "diverged"
    assert told[-1]["reason"] == f"diverged at step {step + 1}: the loss is nan"
    audit = next(c.key for c in run.plan.cells if c.variant == "wild")
    assert RunReader(run).outcome(audit)[0] == "diverged"
    forked.until_gone()


DIVERGES_LATE = """
[[methods]]
name = "gd"
label = "late"
lr = 3.0
weight_decay = 1.0
momentum = 0.0
batch_size = 8
"""


def test_what_diverges_late_keeps_its_earlier_budgets(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """Weight decay alone multiplies weights by -2 a step: after 16 they are large, after 33 lost."""
    home = shared.copy(tmp_path)
    preset = tmp_path / "late.toml"
    preset.write_text(TINY + DIVERGES_LATE)
    done = called("run", preset, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    rows = [r for r in strict_json(done.stdout)["rows"] if r["variant"] == "late" and r["primary"]]
    for row in rows:
        if row["budget"] == 0.25:
            assert None not in row["values"]
            assert row["verdict"] not in ("not-applicable", "removed")
        else:
            assert row["values"] == [None, None]
            assert row["verdict"] == "not-applicable"
            assert row["reason"].startswith("diverged (seed 0, step ")
    assert {row["budget"] for row in rows} == {0.25, 0.5}
    assert not unhealthy(home)
    forked.until_gone()
