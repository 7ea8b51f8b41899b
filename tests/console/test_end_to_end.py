"""A person's whole way through the console on a real terminal, by keyboard alone at 80x24:
compose, save, launch, watch, compare, export. Then the saved preset without the console."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from terminal import Terminal, console

ERASE, ENTER, ESCAPE, TAB = "\x15", "\r", "\x1b", "\t"
THREAD = {"OMP_NUM_THREADS": "1"}
PATIENCE = 240.0  # seconds for a run of ten


def part(terminal: Terminal, words: str) -> None:
    """From the keys back to the parts, and down to one."""
    here = terminal.settled_cursor()
    terminal.send(ESCAPE)
    terminal.settled_cursor(here, PATIENCE)
    terminal.down_to(words)


def set_key(terminal: Terminal, key: str, value: str) -> None:
    """In the keys of a part: down to one, and type its value."""
    terminal.down_to(key)
    terminal.send(ENTER)
    terminal.until(f"{key}: enter accepts")
    terminal.send(ERASE + value + ENTER)
    shown = rf"│ {key} +{re.escape(value)} "
    terminal.until_true(lambda: re.search(shown, terminal.text), f"{key} {value}")


def answer(terminal: Terminal, question: str, text: str) -> None:
    """Type a line into a dialog."""
    terminal.until(question)
    terminal.send(ERASE + text + ENTER)


def look(terminal: Terminal) -> tuple[int, int, float]:
    """The look at the poison that is shown: its number, how many there are, the mean score."""
    text = " ".join(terminal.text.split())
    found = re.search(r"n \d+ mean ([-+][.\d]+) .*? (\d+)/(\d+) 1-6", text)
    return (int(found[2]), int(found[3]), float(found[1])) if found else (0, 0, 0.0)


def values(document: dict[str, Any]) -> list[str]:
    """What was measured; not how long it took."""
    told = [{k: v for k, v in row.items() if k != "seconds"} for row in document["rows"]]
    return sorted(json.dumps(row, sort_keys=True) for row in told)


def run_headless(preset: Path, home: Path) -> subprocess.Popen[str]:
    """`chelate run PRESET --json` in a new home: nothing can come from a store."""
    assert not home.exists()
    command = [sys.executable, "-m", "chelate", "run", str(preset), "--home", str(home)]
    return subprocess.Popen(
        [*command, "--json"], env=os.environ | THREAD, stdout=subprocess.PIPE, text=True
    )


def test_composed_watched_and_exported_then_the_same_headless(tmp_path: Path) -> None:
    preset, exported = tmp_path / "two.toml", tmp_path / "two.json"
    with Terminal(*console(tmp_path / "home"), env=THREAD) as terminal:
        terminal.until("No runs in")
        terminal.send("4")
        terminal.until("TEE")
        terminal.send(TAB)
        terminal.until("title: text")
        set_key(terminal, "seeds", "0, 1")
        set_key(terminal, "budgets", "0.2, 0.4")
        part(terminal, "data")
        terminal.send(TAB)
        terminal.until("limit_train: whole number")
        set_key(terminal, "limit_train", "1000")
        part(terminal, "train")
        terminal.send(TAB)
        terminal.until("epochs: whole number")
        set_key(terminal, "epochs", "10")
        part(terminal, "method retrain-fresh")
        terminal.send("d")
        terminal.until_true(lambda: "retrain-fresh" not in terminal.text, "drop")
        terminal.down_to("compute")
        terminal.send(TAB)
        terminal.until("device: text")
        set_key(terminal, "workers", "1")
        terminal.until("stages, 0 stored")

        terminal.send("s")
        answer(terminal, "Save as preset", str(preset))
        terminal.until("Saved.")
        terminal.send("L")
        terminal.until("Launch two?")
        terminal.send(ENTER)
        terminal.until("2 Live")
        terminal.send(TAB + TAB)
        seen = set()  # histograms, as painted while models are made

        def over() -> bool:
            lines = terminal.screen.display
            end = next((n for n, line in enumerate(lines) if line.startswith("n ")), None)
            if end is not None:
                seen.add("\n".join(lines[10:end]))
            return "done" in lines[1]

        terminal.until_true(over, "end of the run", PATIENCE)
        assert len(seen) >= 3, "the histogram did not move"
        headless = run_headless(preset, tmp_path / "other")  # computes while the console goes on
        last, means = look(terminal)[1], []
        for number in range(last, 0, -1):
            terminal.until_true(lambda n=number: look(terminal)[0] == n, f"look {number}")
            means.append(look(terminal)[2])
            terminal.send("[")
        assert last >= 4
        assert means[0] < means[-1], "noisy fine-tuning takes poison out as it goes on"

        terminal.send("3")
        terminal.until("✗ residue")
        terminal.send("e")
        terminal.until("every row as JSON")
        terminal.send("j")
        terminal.settled_cursor()
        terminal.send(ENTER)
        answer(terminal, "Export every row as JSON to", str(exported))
        terminal.until("Wrote")
        terminal.send("q")
        assert terminal.ended()
    composed = json.loads(exported.read_text())

    out, _ = headless.communicate(timeout=PATIENCE)
    assert headless.returncode == 0
    assert len(composed["rows"]) > 20
    assert values(composed) == values(json.loads(out))
