"""Detaching, pausing, stopping, trying again: real runs, and afterwards the bytes of an undisturbed
one."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from detached import BREAKS, BROKEN, commanded, detached, is_training, same_as, supervisor
from harness import (
    TINY,
    Computed,
    called,
    chelate,
    exits,
    flip_byte,
    hashes,
    processes,
    strict_json,
    unhealthy,
    until,
    until_gone,
)
from nursery import Nursery

from engine.jobs import control
from engine.jobs.events import EventTail
from engine.jobs.home import Home
from engine.jobs.orders import Order
from engine.jobs.runs import Run, every
from engine.spec.errors import BadInput

ALONE = ("--set", "compute.workers=1")


@pytest.fixture
def training(forked: Nursery, tmp_path: Path, undisturbed: Computed) -> Run:
    """A detached run that has just begun to train."""
    run = detached(undisturbed.preset, tmp_path / "home")
    until(lambda: is_training(run))
    return run


def ended(run: Run, forked: Nursery) -> None:
    """Wait until nobody works on a run, and nobody is left of those who did."""
    until(lambda: not run.supervised())
    forked.until_gone()


def test_a_detached_run_ends_by_itself_and_keeps_no_secret(
    shared: Computed, tmp_path: Path
) -> None:
    """Whatever the environment holds: none of it in events, logs, provenance, or an archive.

    The real command, supervisor and worker; all others here are forked.
    """
    token = "hf_secret0123456789"
    home = tmp_path / "home"
    secrets = {"HF_TOKEN": token, "AWS_SECRET_ACCESS_KEY": token, "MY_VAR": token}
    run = detached(shared.preset, home, *ALONE, command=chelate, **secrets)
    until(lambda: not run.supervised())
    until_gone(home)
    same_as(run, shared)
    done = called("export", run.id, tmp_path / "run.tar.gz", "--home", home, **secrets)
    assert done.returncode == 0, done.stderr
    called("import", tmp_path / "run.tar.gz", "--home", tmp_path / "other", **secrets)
    files = [p for p in [*home.rglob("*"), *(tmp_path / "other").rglob("*")] if p.is_file()]
    assert len(files) > 300
    assert [path for path in files if token.encode() in path.read_bytes()] == []
    # Once more: nothing to do, nobody is started, and the run is as done as before.
    assert detached(shared.preset, home).state() == "done"
    assert not processes(home)


def test_everything_in_the_store_is_done_without_a_session(
    shared: Computed, tmp_path: Path
) -> None:
    home = shared.copy(tmp_path)
    run = detached(shared.preset, home, "--seeds", "0")
    assert run.id != shared.run
    assert run.state() == "done"
    assert not run.events.exists()


def test_a_paused_run_goes_on_where_it_was(
    training: Run, undisturbed: Computed, forked: Nursery
) -> None:
    """What is under way ends; nothing begins; nobody is left, so that the devices are free."""
    assert "pausing" in commanded("pause", training)
    assert training.state() == "running"
    assert training.reason() == "pausing: what is under way ends first"
    ended(training, forked)
    assert training.state() == "paused"
    assert training.reason() == "asked to pause"
    kinds = [record["title"].split()[0] for record in exits(training.home.root)]
    assert "train" in kinds
    assert "audit" not in kinds
    listed = strict_json(called("runs", "list", "--home", training.home.root, "--json").stdout)
    assert listed["runs"][0]["state"] == "paused"
    assert "goes on" in commanded("resume", training)
    ended(training, forked)
    same_as(training, undisturbed)


def test_resuming_before_the_pause_has_come_keeps_the_session(
    training: Run, undisturbed: Computed, forked: Nursery
) -> None:
    before = (training.folder / "supervisor.json").read_bytes()
    commanded("pause", training)
    commanded("resume", training)
    assert (training.folder / "supervisor.json").read_bytes() == before
    told = commanded("watch", training, "--plain")
    assert f"run {training.id}: done" in told
    assert "done     train gaussian s0" in told
    ended(training, forked)
    same_as(training, undisturbed)


def test_running_it_again_ends_a_pause(
    training: Run, undisturbed: Computed, forked: Nursery
) -> None:
    commanded("pause", training)
    ended(training, forked)
    done = called("run", undisturbed.preset, "--home", training.home.root, "--json")
    assert done.returncode == 0, done.stderr
    ended(training, forked)
    same_as(training, undisturbed)


def test_a_stopped_run_goes_on_later(training: Run, undisturbed: Computed, forked: Nursery) -> None:
    told = commanded("stop", training)
    assert "stopped" in told
    assert not forked.processes()
    assert training.state() == "stopped"
    assert training.reason() == "asked to stop"
    commanded("resume", training)
    ended(training, forked)
    same_as(training, undisturbed)


def test_what_does_not_stop_in_time_is_killed_with_its_workers(
    training: Run, undisturbed: Computed, forked: Nursery
) -> None:
    """The supervisor is stopped (SIGSTOP), so it passes nothing on."""
    supervisor(training).send_signal(signal.SIGSTOP)
    told = commanded("stop", training, "--grace", "0.2")
    assert "killed: it did not stop within 0.2 s" in told
    assert not forked.processes()
    assert training.state() == "stopped"
    assert training.reason() == "killed by request"
    commanded("resume", training)
    ended(training, forked)
    same_as(training, undisturbed)


def test_a_worker_whose_supervisor_is_gone_can_be_stopped(
    training: Run, undisturbed: Computed, forked: Nursery
) -> None:
    killed = supervisor(training)
    killed.send_signal(signal.SIGKILL)
    until(lambda: not training.supervised())
    assert training.state() == "lost"
    assert f"(pid {killed.pid}) was killed or crashed" in training.reason()
    assert len(control.workers_of(training)) == 1
    refused = called("rm", training.id, "--yes", "--home", training.home.root)
    assert refused.returncode == 2
    assert "still at it" in refused.stderr
    assert "stopped" in commanded("stop", training)
    forked.until_gone()  # a worker without a stage ends by itself
    assert training.state() == "stopped"
    with pytest.raises(BadInput, match="not running"):
        control.stop(training)
    commanded("resume", training)
    ended(training, forked)
    same_as(training, undisturbed)


def test_a_console_whose_supervisor_is_killed_says_so(
    undisturbed: Computed, tmp_path: Path, forked: Nursery
) -> None:
    home = tmp_path / "home"

    def kill() -> None:
        run = until(lambda: next(every(Home(home)), None))
        until(lambda: is_training(run))
        supervisor(run).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    done = called("run", undisturbed.preset, "--home", home)
    killer.join()
    assert done.returncode == 3
    assert "the supervisor is gone" in done.stderr
    [run] = every(Home(home))
    assert run.state() == "lost"
    again = called("run", undisturbed.preset, "--home", home)  # its worker may still train
    assert again.returncode == 0, again.stderr
    ended(run, forked)
    same_as(run, undisturbed)
    assert {told["attempt"] for told in exits(home)} == {1}


def test_an_order_from_another_machine_is_obeyed(training: Run, forked: Nursery) -> None:
    Order.STOP.give(training.folder)
    ended(training, forked)
    assert training.state() == "stopped"
    assert not Order.STOP.given(training.folder)


def test_a_signal_before_the_supervisor_is_ready_is_no_less_obeyed(
    undisturbed: Computed, tmp_path: Path
) -> None:
    """A real supervisor, which is seen to live before it has loaded what it needs."""
    run = detached(undisturbed.preset, tmp_path / "home", *ALONE)
    control.ask_to_stop(run)
    until(lambda: not run.supervised())
    until_gone(run.home.root)
    assert run.state() == "stopped"


# --- trying again --------------------------------------------------------------------------------


@pytest.fixture
def broken(shared: Computed, tmp_path: Path, forked: Nursery) -> Run:
    """A run that failed for a reason that is gone now: a file lay where its work should."""
    home = shared.copy(tmp_path)
    blocked = home / "store" / "work"
    preset = tmp_path / "more.toml"
    preset.write_text(TINY + '[[methods]]\nname = "ngd"\n')
    blocked.rmdir()
    blocked.write_text("a file in the way")
    few = ("--seeds", "0", "--set", "budgets=[0.5]")
    done = called("run", preset, "--home", home, "--json", *few)
    assert done.returncode == 3, done.stderr
    blocked.unlink()
    return Run(Home(home), strict_json(done.stdout)["run"])


def test_retry_computes_what_failed_and_forgets_that_it_did(broken: Run, forked: Nursery) -> None:
    assert broken.state() == "failed"
    failed = control.failures(broken)
    assert failed
    assert any(str(told["title"]) in broken.reason() for told in failed)
    told = commanded("retry", broken)
    assert f"{len(failed)} failed stage" in told
    ended(broken, forked)
    assert broken.state() == "done"
    assert broken.reason() == ""
    assert control.failures(broken) == []
    rows = strict_json(called("compare", broken.id, "--home", broken.home.root, "--json").stdout)
    assert all(None not in row["values"] for row in rows["rows"])
    with pytest.raises(BadInput, match="no stage of it has failed"):
        control.retry(broken)


def test_retry_while_the_rest_goes_on(shared: Computed, tmp_path: Path, forked: Nursery) -> None:
    """One method fails at once, each time; the rest is slow."""
    home, preset = tmp_path / "home", tmp_path / "wild.toml"
    text = TINY.replace("[0, 1]", "[0]").replace("[0.25, 0.5]", "[0.5]") + BROKEN
    preset.write_text(text)
    script = tmp_path / "breaks.py"
    script.write_text(BREAKS)
    with forked.starts_all(slow=0.1, script=str(script)):
        run = detached(preset, home, *ALONE)
    until(lambda: control.failures(run))
    commanded("retry", run)
    ended(run, forked)
    assert sum("run" in told["data"] for told in EventTail(run.events).read()) == 1  # one session
    assert run.state() == "failed"
    wild = [told for told in exits(home) if "wild" in told["title"]]
    before = list(run.folder.glob("attempts/*/exit.before.json"))
    assert len(wild) == len(before) == 1
    assert "a fault of the method" in run.reason()
    assert not unhealthy(home)


# --- what is damaged -----------------------------------------------------------------------------


def test_verify_names_what_is_damaged_and_a_repaired_run_is_whole_again(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    home = shared.copy(tmp_path)
    run = Run(Home(home), shared.run)
    done = called("verify", "--home", home)
    assert done.returncode == 0, done.stderr
    assert (
        f"{len(hashes(home))} results checked: {len(hashes(home))} whole, 0 damaged" in done.stdout
    )
    stage = next(s for s in run.plan.stages.values() if s.kind == "train")
    flip_byte(run.store.path(stage.key) / "model.safetensors", quietly=True)
    for words in ((), (run.id,)):
        done = called("verify", *words, "--home", home)
        assert done.returncode == 1
        assert f"damaged: {stage.title}" in done.stdout
    done = called("verify", run.id, "--repair", "--json", "--home", home)
    assert done.returncode == 0, done.stdout
    told = strict_json(done.stdout)
    assert told["damaged"] == [{"key": stage.key, "title": stage.title, "repaired": True}]
    assert not run.store.has(stage.key)
    commanded("resume", run)
    ended(run, forked)
    same_as(run, shared)


def test_a_lost_run_says_what_became_of_its_supervisor(shared: Computed, tmp_path: Path) -> None:
    run = Run(Home(shared.copy(tmp_path)), shared.run)
    (run.folder / "session.json").unlink()
    told = (run.folder / "supervisor.json").read_text()
    assert "was killed or crashed" in run.reason()
    here = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (run.folder / "supervisor.json").write_text(told.replace(here, "before"))
    assert run.reason() == "the machine was restarted under its supervisor"
    host = os.uname().nodename
    (run.folder / "supervisor.json").write_text(told.replace(f'"{host}"', '"elsewhere"'))
    assert "its supervisor on elsewhere is gone" in run.reason()
    (run.folder / "supervisor.json").write_text("{")
    assert "its supervisor is gone" in run.reason()
    assert run.state() == "lost"
