"""`data PRESET|RUN`: what a data set is, in full, and a few of its rows as they were read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.data_page import WIDTH, page, title
from console.output import console, say, say_json, say_written
from console.pictures import (
    ACROSS,
    MOST_SHOWN,
    Sheet,
    check_png,
    picture,
    pictures_in_text,
    save_png,
)
from engine.jobs import runs
from engine.jobs.datasets import DataSet, data_sets_of, stored
from engine.jobs.discretion import discretion_of
from engine.jobs.home import Home, resolve_home
from engine.jobs.runs import Run
from engine.jobs.store import Damaged, Store
from engine.spec.component import Data, DataInfo
from engine.spec.data_line import indexed, sound
from engine.spec.errors import BadInput
from engine.spec.keys import canonical
from engine.spec.outputs import is_stdout
from engine.spec.plan import Planner
from engine.spec.poisons import raw_space
from engine.spec.presets import load, locate, settings, shipped
from engine.spec.registry import find

if TYPE_CHECKING:
    import numpy as np

PIXELS = "pixels.safetensors"  # what a data stage leaves of the rows themselves
SHOWN = 6  # pictures in a terminal
SHEET = 30  # pictures of a file
STORED, FILES, PLANNED = (
    "the data stage, which read every row",
    "reading every row now",
    "planning alone: the data stage is not done, so what needs every row is not known",
)
# count → labels of all training rows, and a few of the rows
Take = Callable[[int], "tuple[list[int], np.ndarray, np.ndarray] | None"]


@dataclass(frozen=True, slots=True)
class Told:
    """A data set, the preset's table that names it, who told, and its first rows if they are here."""

    one: DataSet
    source: dict[str, Any]
    how: str
    take: Take

    def lines(self, width: int = WIDTH, to_share: bool = False) -> list[str]:
        return page(self.one, self.source, self.how, width, to_share)


def show_data(
    word: str,
    overrides: list[str] | None,
    home: Path | None,
    out: Path | None,
    as_json: bool,
    force: bool = False,
) -> None:
    """Raises BadInput for anything wrong; nothing is written but `out`."""
    check_png(out, force)
    only_picture = out is not None and is_stdout(out)
    if only_picture and as_json:
        raise BadInput("--out - and --json: standard output holds one document; leave one away.")
    place = Home(resolve_home(home))
    run = _run_named(word, place)
    if run is not None and overrides:
        raise BadInput(f"--set {overrides[0]}: {run.id} is a run, whose data are what they are.")
    found = of_run(run) if run is not None else of_preset(word, overrides, place)
    drawn = _sheet(found[0], SHEET) if out is not None else None
    if out is not None and drawn is None:
        raise BadInput(f"{out}: there are no pictures: {_why_no_pictures(found[0])}")
    if as_json:
        origin = {"run": run.id} if run is not None else {"preset": str(locate(word))}
        data = [told.one.to_json() | {"source": told.source} for told in found]
        say_json(origin | {"data": data})
    elif not only_picture:
        _print(found)
    if out is not None and drawn is not None:
        save_png(drawn, out, force)
        if not as_json:
            say_written(out)


def _print(found: Sequence[Told]) -> None:
    width = min(console().width, 160) if sys.stdout.isatty() else WIDTH
    for number, told in enumerate(found):
        say(("\n" if number else "") + title(told.one, told.source))
        for line in told.lines(width):
            say(line)
        drawn = _sheet(told, SHOWN)
        if drawn is not None:
            say(f"\n{drawn.title}")
            for part in pictures_in_text(drawn):
                console().print(part)


def full_text(run: Run, width: int = WIDTH, to_share: bool = False) -> str:
    """All data sets of a run, without pictures. Raises BadInput."""
    found = of_run(run)
    if to_share:
        told = discretion_of(run)
        found = [replace(one, source=told.value(one.source)) for one in found]
    pages = [[title(one.one, one.source), *one.lines(width, to_share)] for one in found]
    return "\n\n".join("\n".join(lines) for lines in pages)


# --- what a word means ---------------------------------------------------------------------------


def _run_named(word: str, home: Home) -> Run | None:
    """The run that is meant; None where it is a preset: a shipped name or a file. Raises BadInput."""
    if word in shipped() or not runs.ID.fullmatch(word) or Path(word).is_file():
        locate(word)
        return None
    try:
        return runs.find(home, word)
    except BadInput as no_run:
        told = [str(no_run)]
    for look in (lambda: locate(word), lambda: find("data", word)):
        try:
            look()
        except BadInput as error:
            told.append(str(error))
    raise BadInput(f"{word}: is no run, preset, or data set. {' '.join(told)}")


def of_run(run: Run) -> list[Told]:
    """The data of a run, from its store. Raises BadInput."""
    found = []
    for one in data_sets_of([run]):
        config = run.plan.stages[one.key].config.get("data")
        source = config if isinstance(config, dict) else {}
        found.append(Told(one, source, STORED if one.read else PLANNED, _stored(run.store, one)))
    if not found:
        raise BadInput(f"run {run.id}: its plan names no data.")
    return found


def of_preset(word: str, overrides: list[str] | None, home: Home) -> list[Told]:
    """The data of a preset: from the store if they were read before, else read now. Raises BadInput.

    Only the data are looked at: they can be told where attack and model do not fit them.
    """
    where, store = str(locate(word)), Store(home.store)
    planner = Planner("cpu", False)
    found: dict[str, tuple[Data, DataInfo, list[str]]] = {}
    known: dict[str, str] = {}
    for label, setting in settings(load(word, overrides), where):
        spelled = canonical(setting.data.model_dump(mode="json"))
        try:
            if spelled not in known:
                info = setting.data.inspect()
                known[spelled] = planner.add_data(setting.data, info)
                found.setdefault(known[spelled], (setting.data, info, []))
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        found[known[spelled]][2].extend([label] if label else [])
    return [_told(key, *each, store) for key, each in found.items()]


def _told(key: str, data: Data, info: DataInfo, labels: list[str], store: Store) -> Told:
    source = data.model_dump(mode="json")
    before = stored(store, key, sound(info.known))
    if before is not None:
        one = DataSet(key, tuple(labels), before, True)
        return Told(one, source, STORED, _stored(store, one))
    report, arrays = data.describe()
    one = DataSet(key, tuple(labels), sound(report), True)

    def take(count: int) -> tuple[list[int], np.ndarray, np.ndarray]:
        chosen = first_of_each(arrays["train_y"], count)
        return chosen, arrays["train_x"][chosen], arrays["train_y"][chosen]

    return Told(one, source, FILES, take)


def _stored(store: Store, one: DataSet) -> Take:
    def take(count: int) -> tuple[list[int], np.ndarray, np.ndarray] | None:
        import numpy as np
        from safetensors import SafetensorError, safe_open

        try:
            path = store.verify_file(one.key, PIXELS)
            with safe_open(str(path), framework="np") as file:  # type: ignore[no-untyped-call]
                labels, images = file.get_tensor("train_y"), file.get_slice("train_x")
                chosen = first_of_each(labels, count)
                return chosen, np.stack([images[row] for row in chosen]), labels[chosen]
        except (Damaged, SafetensorError, OSError, ValueError):  # an excerpt has no pixels
            return None

    return take


# --- pictures ------------------------------------------------------------------------------------


def first_of_each(labels: np.ndarray, count: int) -> list[int]:
    """Up to `count` rows: the first of each class in the classes' order, then the first ones."""
    import numpy as np

    firsts = [int(row) for row in np.unique(labels, return_index=True)[1]][:count]
    others = [row for row in range(min(len(labels), 2 * count)) if row not in firsts]
    return firsts + others[: count - len(firsts)]


def _sheet(told: Told, count: int) -> Sheet | None:
    """A few training rows as pictures; None where they are no images, or not here."""
    report = told.one.report
    if report.get("kind") != "image":
        return None
    taken = told.take(min(count, MOST_SHOWN))
    if taken is None or taken[1].ndim != 4 or not len(taken[1]):
        return None
    chosen, images, labels = taken
    names = dict(enumerate(report.get("classes", [])))
    drawn = [picture(image) for image in raw_space(images)]
    words = [
        f"row {row}: {indexed(int(label), names.get(int(label), ''))}"
        for row, label in zip(chosen, labels, strict=True)
    ]
    starts = range(0, len(drawn), ACROSS)
    return Sheet(
        "training rows, the first of each class first",
        [drawn[n : n + ACROSS] for n in starts],
        [", ".join(words[n : n + ACROSS]) for n in starts],
    )


def _why_no_pictures(told: Told) -> str:
    kind = told.one.report.get("kind")
    if kind in ("table", "text"):
        return f"the data are {kind}s; leave --out away."
    return "the pixels are not in the store (yet); leave --out away."
