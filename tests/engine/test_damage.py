"""A store that a disk, or somebody, has damaged: what no longer fits is computed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness import (
    Computed,
    artifact,
    called,
    exits,
    flip_byte,
    hashes,
    objects,
    strict_json,
    unhealthy,
    untimed,
)
from nursery import Nursery


def key_of(home: Path, title: str) -> str:
    [key] = [key for key, record in objects(home).items() if record["title"] == title]
    return key


def repaired(shared: Computed, home: Path, forked: Nursery) -> str:
    """Run again; everything must be as it was. Returns what the run said on stderr."""
    done = called("run", shared.preset, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    assert untimed(strict_json(done.stdout)["rows"]) == untimed(shared.document["rows"])
    assert hashes(home) == hashes(shared.home)
    assert not unhealthy(home)
    forked.until_gone()
    return done.stderr


def test_what_no_longer_fits_its_hash_is_computed_again_and_the_run_says_so(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """A model, a measurement (its time unchanged), a torn DONE.json, a file gone: all at once."""
    home = shared.copy(tmp_path)
    titles = {
        "train gaussian s0": lambda key: flip_byte(artifact(home, key, "model.safetensors")),
        "audit gaussian of gaussian/none s1": lambda key: flip_byte(
            artifact(home, key, "measurements.json"), quietly=True
        ),
        "audit accuracy of gaussian/gd 0.5 s0": lambda key: artifact(
            home, key, "DONE.json"
        ).write_text('{"v": 1, "key'),
        "select rows s1": lambda key: artifact(home, key, "rows.safetensors").unlink(),
    }
    keys = {title: key_of(home, title) for title in titles}
    for title, damage in titles.items():
        damage(keys[title])
    before = {key: path.stat().st_mtime_ns for key, path in done_files(home).items()}

    told = repaired(shared, home, forked)
    for title in titles:
        assert f"{title}: damaged in the store, computing it again" in told
    after = {key: path.stat().st_mtime_ns for key, path in done_files(home).items()}
    assert {key for key in after if after[key] != before.get(key)} == set(keys.values())
    log = (home / "store" / "quarantine" / "discarded.jsonl").read_text().splitlines()
    assert {json.loads(line)["key"] for line in log} == set(keys.values())


def done_files(home: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in (home / "store").glob("objects/*/*/DONE.json")}


def test_inputs_found_damaged_by_the_workers_that_read_them(
    shared: Computed, tmp_path: Path, forked: Nursery
) -> None:
    """Sizes and times are as before, so only who reads them sees it; several do, at once.

    The last is no input but a state to go on from, which is gone back to likewise.
    """
    home = shared.copy(tmp_path)
    damaged = {
        "split s0": "rows.safetensors",
        "train gaussian s0": "model.safetensors",
        "train gaussian s1": "model.safetensors",
        "unlearn gaussian/gd 0.25 s1": "model.safetensors",
    }
    for title, name in damaged.items():
        flip_byte(artifact(home, key_of(home, title), name), quietly=True)
    # These read them: for each seed two audits and a segment.
    for record in objects(home).values():
        title = record["title"]
        if "gaussian/none" in title or title in (
            "unlearn gaussian/gd 0.25 s0", "unlearn gaussian/gd 0.5 s0", "unlearn gaussian/gd 0.5 s1",
        ):  # fmt: skip
            shutil.rmtree(artifact(home, record["key"], "DONE.json").parent)
    told = repaired(shared, home, forked)
    for title in damaged:
        assert told.count(f"{title}: damaged in the store, computing it again") == 1
    outcomes = {end["outcome"] for end in exits(home)}
    assert "damaged" in outcomes
    assert "failed" not in outcomes


def test_a_run_that_is_looked_at_while_damaged_says_what_is_missing(
    shared: Computed, tmp_path: Path
) -> None:
    home = shared.copy(tmp_path)
    key = key_of(home, "audit gaussian of gaussian/gd 0.5 s0")
    flip_byte(artifact(home, key, "measurements.json"), quietly=True)
    done = called("compare", shared.run, "--home", home, "--json")
    assert done.returncode == 0, done.stderr
    [row] = [
        row for row in strict_json(done.stdout)["rows"]
        if (row["budget"], row["metric"]) == (0.5, "mean_score")
    ]  # fmt: skip
    assert row["values"][0] is None
    assert "damaged in the store" in row["reason"]
    done = called("runs", "show", shared.run, "--home", home)
    assert "1 missing" in done.stdout


def test_tables_need_nothing_but_measurements(shared: Computed, tmp_path: Path) -> None:
    """Big artifacts may be thrown away by hand; only costs go with them."""
    home = shared.copy(tmp_path)
    gone = {r["key"] for r in objects(home).values() if r["kind"] != "audit"}
    for key in gone:
        shutil.rmtree(artifact(home, key, "DONE.json").parent)
    done = called("compare", shared.run, "--home", home, "--json")
    rows = [{**row, "tee": 0} for row in strict_json(done.stdout)["rows"]]
    assert untimed(rows) == untimed({**row, "tee": 0} for row in shared.document["rows"])
