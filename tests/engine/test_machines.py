"""Which kind of machine computed what: in records, said of tables, and refused by one_kind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Computed, called, exits, hashes, objects, strict_json, until
from nursery import Nursery

from engine.jobs import machines, session
from engine.jobs.devices import Resources
from engine.jobs.home import Home
from engine.jobs.machines import CLAIM, claim, cpu_kind, kinds_here, machines_of, mixed
from engine.jobs.runs import Run
from engine.jobs.store import Store
from engine.jobs.suitability import Suitability
from engine.spec.experiment import Compute
from engine.spec.planned import HEAVY, Stage

HERE, OTHER = cpu_kind(), "Old Machine 486"
ONE_KIND = ("--set", "compute.one_kind=true")


@pytest.fixture
def run(shared: Computed, tmp_path: Path) -> Run:
    return Run(Home(shared.copy(tmp_path)), shared.run)


def said(run: Run, which: str, kind: str | None) -> None:
    """Records of stages with `which` in their title say this kind."""
    for stage in run.plan.stages.values():
        path = run.store.path(stage.key) / "DONE.json"
        if which in stage.title and path.exists():
            told = json.loads(path.read_bytes())
            told["env"].pop("cpu", None)
            told["env"] |= {"cpu": kind} if kind else {}
            path.write_text(json.dumps(told))


def removed(run: Run, kind: str) -> None:
    for stage in run.plan.stages.values():
        if stage.kind == kind:
            shutil.rmtree(run.store.path(stage.key))


def command(word: str, *words: object, home: Path, code: int = 0) -> Any:
    done = called(word, *map(str, words), "--home", home)
    assert done.returncode == code, done.stderr
    return " ".join(done.stderr.split()) if code else done.stdout


# --- the name -------------------------------------------------------------------------------------

INTEL = (
    "processor\t: 0\nmodel name\t: Intel(R)  Xeon(R)\x1b[2J 8480\nflags\t\t: fpu avx2 avx512f\n\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (INTEL + INTEL.replace("8480", "other"), "Intel(R) Xeon(R) 8480 (AVX-512)"),
        (INTEL.replace(" avx512f", ""), "Intel(R) Xeon(R) 8480 (AVX2)"),
        (ARM, "ARM 0x41 0xd40 (SVE)"),
        ("", "some arch"),
        ("model name: " + "x" * 9999, "x" * 120),
    ],
)
def test_the_model_of_a_cpu(
    text: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machines, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "some arch")
    assert cpu_kind.__wrapped__() == kind


def test_the_model_of_a_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="Apple M2 Max\n")
    )
    assert cpu_kind.__wrapped__() == "Apple M2 Max"

    def fails(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("sysctl", 5)

    monkeypatch.setattr(subprocess, "run", fails)
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert cpu_kind.__wrapped__() == "arm"


def test_every_record_names_its_machine(shared: Computed) -> None:
    assert {record["env"]["cpu"] for record in objects(shared.home).values()} == {HERE}
    told = strict_json(command("compare", shared.run, "--json", home=shared.home))["machines"]
    assert [one["machine"] for one in told] == [HERE]
    assert {row["method"] for row in told[0]["rows"]} >= {"none", "retrain", "gd"}
    assert "kinds of machine" not in command("compare", shared.run, home=shared.home)


# --- tables ---------------------------------------------------------------------------------------


def test_tables_say_when_rows_come_from_several_kinds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(run, "/gd", OTHER)
    home = run.home.root
    sentence = " ".join(command("compare", run.id, home=home).split())
    assert "2 kinds of machine" in sentence
    assert f"| {OTHER}: gd" in sentence
    assert f"{HERE}: none, retrain, retrain-fresh, gd |" in sentence  # gd's poisoned model
    assert "2 kinds of machine" in command("compare", run.id, "--md", home=home)
    told = strict_json(command("compare", run.id, "--json", home=home))["machines"]
    methods = {m["machine"]: {r["method"] for r in m["rows"]} for m in told}
    assert methods[OTHER] == {"gd"}
    monkeypatch.setattr("console.reporting.FIGURES", ())  # they take seconds
    command("report", run.id, "--out", tmp_path / "page", home=home)
    assert "2 kinds of machine" in (tmp_path / "page" / "report.html").read_text()


def test_what_is_the_same_everywhere_makes_no_kind(run: Run) -> None:
    for stage in run.plan.stages.values():
        if stage.kind not in HEAVY:
            said(run, stage.title, OTHER)
    assert mixed(machines_of([run])) == ""


def test_records_of_before_are_unknown_and_told_only_where_mixed(run: Run) -> None:
    said(run, "", None)
    [only] = machines_of([run])
    assert only.kind is None
    assert mixed([only]) == ""
    said(run, "train", HERE)
    told = mixed(machines_of([run]))
    assert machines.UNKNOWN in told
    assert "may have been computed on different kinds" in told  # nobody knows


def test_rows_of_two_runs_say_which(run: Run, shared: Computed) -> None:
    said(run, "", OTHER)
    run.folder.rename(run.home.runs / "mine")
    told = mixed(machines_of([Run(run.home, "mine"), Run(Home(shared.home), shared.run)]))
    assert f"{OTHER}: mine none, retrain" in told
    assert f"{HERE}: {shared.run} none, retrain" in told


# --- one_kind -------------------------------------------------------------------------------------


def test_one_kind_refuses_a_mixed_store_before_anything(
    run: Run, shared: Computed, tmp_path: Path
) -> None:
    said(run, "unlearn", OTHER)
    before = hashes(run.home.root)
    for word in ("plan", "run"):
        told = command(word, shared.preset, *ONE_KIND, home=run.home.root, code=2)
        assert "compute.one_kind = true: the store has results of 2 kinds of machine" in told
        assert f"{OTHER}: unlearn gaussian/gd 0.25 s0" in told
        assert f"{HERE}: craft gaussian s0" in told
    assert hashes(run.home.root) == before
    assert not run.one_kind
    command("run", shared.preset, home=run.home.root)  # without it as ever


def test_one_kind_goes_on_only_where_it_was_computed(run: Run, shared: Computed) -> None:
    command("run", shared.preset, *ONE_KIND, home=run.home.root)  # nothing to do
    said(run, "", OTHER)
    command("run", shared.preset, *ONE_KIND, home=run.home.root)
    removed(run, "audit")
    again = Run(run.home, run.id)
    assert again.one_kind
    for words in (("run", shared.preset, *ONE_KIND), ("resume", run.id)):
        told = command(*words, home=run.home.root, code=2)
        assert f"this machine is {HERE}, and the store has results of {OTHER}" in told
    said(run, "", None)  # nobody can tell that those are of one kind with what would come
    told = command("resume", run.id, home=run.home.root, code=2)
    assert "the store has results of unknown" in told
    assert not (run.folder / CLAIM).exists()


def test_devices_of_several_kinds_are_not_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    removed(run, "audit")
    monkeypatch.setattr(machines, "kinds_here", lambda _: {"cuda:0": "A100", "cuda:1": "H100"})
    compute = Compute(one_kind=True, device="cuda")
    with pytest.raises(Exception, match=r"cuda:0 A100, cuda:1 H100.*--device cuda:0"):
        machines.check_one_kind(
            run.plan, Store(run.home.store / "none"), compute, Resources("cuda")
        )


def test_the_places_here_are_of_this_kind() -> None:
    assert set(kinds_here(Resources("cpu", workers=2)).values()) == {HERE}


def test_workers_of_another_kind_refuse(run: Run, forked: Nursery) -> None:
    """As on a cluster, where nobody knows the nodes before a job is there."""
    removed(run, "audit")
    path = run.folder / "experiment.toml"
    path.write_text(path.read_text().replace("one_kind = false", "one_kind = true"))
    assert claim(run.folder, OTHER) == claim(run.folder, HERE) == OTHER
    process = session.start(run, Resources("cpu", workers=1))
    until(lambda: process.poll() is not None)
    reasons = {e["reason"] for e in exits(run.home.root) if e["outcome"] == "failed"}
    assert reasons == {f"compute.one_kind = true: this machine is {HERE}, the run's is {OTHER}"}
    command("resume", run.id, home=run.home.root)  # begins with what the store says
    until(lambda: not run.supervised())
    assert Run(run.home, run.id).state() == "done"
    assert json.loads((run.folder / CLAIM).read_bytes())["kind"] == HERE


def test_a_worker_looks_at_what_it_reads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = SimpleNamespace(__version__="2.4", __file__="")
    monkeypatch.setitem(sys.modules, "torch", torch)
    me = Suitability({"device": "cpu", "threads": 1, "cpu": HERE}, run.store)
    [source] = [k for k, s in run.plan.stages.items() if s.title == "train gaussian s0"]
    stage = Stage("k", "unlearn", "u", {}, {"start": source})
    assert me.refusal(stage, run.folder, one_kind=True) == ""
    said(run, "train gaussian s0", OTHER)
    assert OTHER in me.refusal(stage, run.folder, one_kind=True)
    assert me.refusal(stage, run.folder, one_kind=False) == ""
    assert me.refusal(Stage("k", "split", "s", {}, {"x": source}), run.folder, True) == ""


def test_one_kind_is_no_part_of_a_key(run: Run, shared: Computed) -> None:
    said_yes, said_no = (
        strict_json(command("plan", shared.preset, "--json", *words, home=run.home.root))["stages"]
        for words in (ONE_KIND, ())
    )
    assert said_yes == said_no
