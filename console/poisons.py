"""`poison export` and `poison show`: what an attack made, as a folder to pass on and as pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.output import console, say, say_json, say_written
from console.pictures import (
    MOST_SHOWN,
    SHOWN,
    Sheet,
    check_png,
    picture,
    pictures_in_text,
    save_png,
)
from engine.jobs import bounded_json, runs, schema
from engine.jobs.events import strip_control
from engine.jobs.home import Home, resolve_home
from engine.jobs.runs import Run
from engine.jobs.store import Damaged
from engine.spec.component import Attack
from engine.spec.errors import BadInput
from engine.spec.outputs import check_folder, is_stdout
from engine.spec.planned import Stage
from engine.spec.poisons import (
    GIVES,
    PoisonFolder,
    check_poison,
    largest_change,
    raw_space,
    write_poison,
)
from engine.spec.registry import find

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Made:
    """One poison of a run: the stage that made it, and whose it is."""

    run: Run
    key: str
    attack: str
    seed: int
    unit: int

    @property
    def title(self) -> str:
        unit = f" target {self.unit}" if self.unit else ""
        return strip_control(f"{self.attack}{unit} seed {self.seed}")

    @property
    def folder_name(self) -> str:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", self.attack).strip("-")[:60] or "attack"
        return f"{slug}-s{self.seed}-t{self.unit}"

    def tensors(self) -> dict[str, NDArray[Any]]:
        return self._arrays("poison.safetensors", ("rows", "inputs", "labels"))

    def facts(self) -> dict[str, Any]:
        return self._json("poison.json")

    def _arrays(self, name: str, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        content = self._read(name)
        try:
            found = dict(load(content))
        except (SafetensorError, ValueError, TypeError, KeyError, OverflowError):
            raise self.wrong(f"{name} is not a safetensors file") from None
        if missing := [word for word in needed if word not in found]:
            raise self.wrong(f"{name} has no {', '.join(missing)}")
        return found

    def _json(self, name: str) -> dict[str, Any]:
        content = self._read(name)
        try:
            found = bounded_json.parse(content)
            schema.ARTIFACTS[name](found)
        except ValueError as error:
            raise self.wrong(f"{name}: {error}") from None
        return dict(found)

    def wrong(self, what: str) -> BadInput:
        return BadInput(f"run {self.run.id}: the poison of {self.title} cannot be shown: {what}.")

    @property
    def data(self) -> Stage:
        """The stage of the data that it poisons. Raises BadInput."""
        found = self.run.plan.stages.get(self.run.plan.stages[self.key].inputs.get("data", ""))
        if found is None:
            raise self.wrong("its plan does not name its data")
        return found

    def texts(self) -> dict[str, Any] | None:
        """base and strings (P texts each; base None where nobody knows) and the digest of the
        tokenizer; None where the data are no texts."""
        if not (self.run.store.path(self.data.key) / "tokens.json").exists():
            return None
        found = self._json("texts.json")
        if found.get("base") is not None and len(found["base"]) != len(found["strings"]):
            raise self.wrong("texts.json has not as many texts before as behind")
        return {"base": None} | found

    def _read(self, name: str) -> bytes:
        try:
            return self.run.store.open_verified(self.key, name)
        except Damaged:
            raise BadInput(
                f"run {self.run.id}: the poison of {self.title} is not in the store (yet); run it."
            ) from None

    def starts(self) -> list[int] | None:
        """The training row that each poisoned row was before: itself, or for added rows the one the
        attack selected to start from. None where nobody knows (added rows that were imported)."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        rows = [int(row) for row in self.tensors()["rows"]]
        if max(rows) < _counts(self)[0]:
            return rows
        select = self.run.plan.stages[self.key].inputs.get("select", self.key)
        try:
            selected = load(self.run.store.open_verified(select, "rows.safetensors"))["poisoned"]
        except (SafetensorError, ValueError, TypeError, KeyError, OverflowError):
            raise self.wrong("its selection is not one") from None
        except Damaged:
            raise BadInput(
                f"run {self.run.id}: its selection is not in the store; run it."
            ) from None
        return [int(row) for row in selected] if len(selected) == len(rows) else None

    def clean(self, part: str, rows: Sequence[int]) -> NDArray[Any]:
        """[P, C, H, W]: rows of "train" or "test", as the data set has them (see `raw_space`)."""
        from safetensors import SafetensorError, safe_open

        try:
            path = self.run.store.verify_file(self.data.key, "pixels.safetensors")
        except Damaged:
            raise BadInput(f"run {self.run.id}: its data are not in the store; run it.") from None
        import numpy as np

        try:
            with safe_open(str(path), framework="np") as file:  # type: ignore[no-untyped-call]
                pixels = file.get_slice(f"{part}_x")
                return np.stack([pixels[int(row)] for row in rows])
        except (SafetensorError, ValueError, IndexError, OverflowError):
            raise self.wrong("its data do not have the rows that it poisons") from None


def poisons_of(run: Run, attack: str | None, seed: int | None, unit: int | None) -> list[Made]:
    """The poisons of a run that fit, in the plan's order. Raises BadInput if none does."""
    found: dict[str, Made] = {}
    for cell in run.plan.cells:
        key = run.plan.stages[cell.key].inputs.get("craft")
        if key is not None:
            found.setdefault(key, Made(run, key, cell.attack, cell.seed, cell.unit))
    fit = [
        made
        for made in found.values()
        if attack in (None, made.attack) and seed in (None, made.seed) and unit in (None, made.unit)
    ]
    if not fit:
        have = ", ".join(dict.fromkeys(made.title for made in found.values())) or "none"
        raise BadInput(f"run {run.id} has no such poison; it has: {have}.")
    return fit


# --- export --------------------------------------------------------------------------------------


def export_poisons(
    run_id: str,
    out: Path,
    home: Path | None,
    attack: str | None,
    seed: int | None,
    unit: int | None,
    as_json: bool,
) -> None:
    """Write OUT/<attack>-s<seed>-t<unit>/ for each poison, read it back and check its bounds."""
    run = runs.find(Home(resolve_home(home)), run_id)
    told = []
    wanted = poisons_of(run, attack, seed, unit)
    for made in wanted:
        check_folder(out / made.folder_name)  # all of them are written, or none
    for made in wanted:
        written, change = export(made, out / made.folder_name)
        epsilon = written.manifest["bounds"]["epsilon"]
        boxed = written.manifest["bounds"]["unit_box"]
        told.append(
            {
                "folder": str(written.path),
                "rows": len(written.rows),
                "added": written.added,
                "largest_change": change,
                "epsilon": epsilon,
                "unit_box": boxed,
                "sha256": written.sha256,
            }
        )
        if not as_json:
            bound = "" if epsilon is None else f" of {epsilon:.4f}"
            box = "within [0, 1]" if boxed else "not within [0, 1]"
            box = "as texts" if written.strings is not None else box
            rows = f"{len(written.rows)} {'added ' * written.added}rows"
            changed = "" if change is None else f", changed by {change:.4f}{bound}"
            say(f"{written.path}: {rows}{changed}, {box}")
    if as_json:
        say_json({"run": run.id, "poisons": told})


def export(made: Made, folder: Path) -> tuple[PoisonFolder, float | None]:
    """One poison as a folder; returns it as read back, and its largest change of a pixel, where it
    is known what the rows were."""
    tensors, facts = made.tensors(), made.facts()
    config = made.run.plan.stages[made.key].config.get("attack") or {}
    attack = find("attack", str(config.get("name"))).model_validate(config)
    assert isinstance(attack, Attack)
    # What lies in the folder: decoys, for one, need the attack itself.
    manifest = _manifest(made, tensors, facts) | {"gives": sorted(attack.offers() & GIVES.keys())}
    epsilon = manifest["bounds"]["epsilon"]
    if "texts" in manifest:
        return write_poison(folder, tensors, manifest), None
    starts = made.starts()
    change: float | None = None

    def check(read: PoisonFolder) -> None:
        nonlocal change
        change = None if starts is None else largest_change(read, made.clean("train", starts))
        if epsilon is not None and change is not None and change > epsilon:
            read.wrong(f"changes a pixel by {change:g}, more than its bound {epsilon:g}")

    return write_poison(folder, tensors, manifest, check), change


def _manifest(
    made: Made, tensors: dict[str, NDArray[Any]], facts: dict[str, Any]
) -> dict[str, Any]:
    """What a folder's poison.json says, but for what the attack gives."""
    train, test = _counts(made)
    data, inputs = made.data.config, tensors["inputs"]
    config = made.run.plan.stages[made.key].config.get("attack") or {}
    box = bool(inputs.ndim == 4 and inputs.size and inputs.min() >= 0 and inputs.max() <= 1)
    manifest: dict[str, Any] = {
        "v": 1,
        "data": {
            "digest": data.get("digest"),
            "train": train,
            "test": test,
            "classes": list(data.get("classes") or ()),
            "shape": list(inputs.shape[1:]),
        },
        "attack": {key: value for key, value in config.items() if key not in ("path", "image")},
        "gives": [],
        "movable": facts["movable"],
        "facts": facts["facts"],
        "bounds": {"epsilon": facts["facts"].get("epsilon"), "unit_box": box},
        "made": {
            "run": made.run.id,
            "attack": made.attack,
            "seed": made.seed,
            "unit": made.unit,
        },
    }
    if (texts := made.texts()) is not None:
        manifest["data"] |= {"shape": [*inputs.shape[1:2], 1, 1]}
        manifest["texts"] = {key: texts[key] for key in ("strings", "tokenizer")}
    return manifest


def _check_imported(made: Made) -> None:
    """A stranger's poison is looked through as one in a folder is. Raises BadInput."""
    if made.run.imported is None:
        return
    tensors = made.tensors()
    manifest = _manifest(made, tensors, made.facts())
    check_poison(PoisonFolder(Path(f"of {made.title}, run {made.run.id}"), manifest, tensors, ""))
    shape = tensors["inputs"].shape[1:]
    if len(shape) == 3 and (train := made.clean("train", [0])).shape[1:] != shape:
        raise made.wrong(f"its data are {list(train.shape[1:])}")


def _counts(made: Made) -> tuple[int, int]:
    """Training and test rows of the data."""
    from safetensors import SafetensorError, safe_open

    path = made.run.store.path(made.data.key) / "pixels.safetensors"
    try:
        with safe_open(str(path), framework="np") as file:  # type: ignore[no-untyped-call]
            train, test = (file.get_slice(f"{part}_y").get_shape()[0] for part in ("train", "test"))
    except (OSError, SafetensorError, ValueError, IndexError):
        raise BadInput(f"run {made.run.id}: its data are not in the store; run it.") from None
    return train, test


# --- pictures ------------------------------------------------------------------------------------


def show_poison(
    run_id: str,
    home: Path | None,
    attack: str | None,
    seed: int | None,
    unit: int | None,
    count: int | None,
    out: Path | None,
    force: bool = False,
) -> None:
    """The first poison that fits: in the terminal, and as a PNG contact sheet where `out` is given."""
    check_png(out, force)
    run = runs.find(Home(resolve_home(home)), run_id)
    made = poisons_of(run, attack, seed, unit)[0]
    _check_imported(made)
    if (texts := made.texts()) is not None:
        if out is not None:
            raise BadInput(f"{out}: texts have no pictures; leave --out away.")
        _show_texts(made, texts, min(MOST_SHOWN, count or SHOWN))
        return
    drawn = sheet(made, min(MOST_SHOWN, count or (16 if out else SHOWN)))
    if out is not None and is_stdout(out):
        save_png(drawn, out)
        return
    say(drawn.title)
    if out is not None:
        save_png(drawn, out, force)
        say_written(out)
        drawn.rows[SHOWN:] = []
    for part in pictures_in_text(drawn):
        console().print(part)


def _show_texts(made: Made, texts: dict[str, Any], count: int) -> None:
    from console.poison_texts import side_by_side

    tensors = made.tensors()
    say(f"{made.title}: {len(tensors['rows'])} texts")
    console().print(side_by_side(tensors, texts, made.data.config.get("classes") or [], count))


def sheet(made: Made, count: int) -> Sheet:
    """The first `count` rows of a poison beside what they were."""
    import numpy as np

    tensors, facts = made.tensors(), made.facts()["facts"]
    classes = [strip_control(str(name)) for name in made.data.config.get("classes") or ()]
    rows = [int(row) for row in tensors["rows"][:count]]
    poison = tensors["inputs"][:count].astype(np.float64)
    starts = made.starts()
    base = poison if starts is None else raw_space(made.clean("train", starts[:count]))
    change = poison - base
    scale = float(np.abs(change).max()) or 1.0
    labels = [int(label) for label in tensors["labels"][:count]]
    told = [f"row {row}, as {classes[label]}" for row, label in zip(rows, labels, strict=True)]
    target, aim = None, ""
    if "target_row" in facts:
        row = int(facts["target_row"])
        target = picture(raw_space(made.clean("test", [row]))[0])
        true, wanted = (classes[int(facts[key])] for key in ("true_class", "adversarial"))
        aim = f"; target: test row {row}, {true}, to be taken for {wanted}"
    columns = f"base, poison, difference (grey: none, full: {scale:.3f})"
    shown = [
        [picture(b), picture(p), picture(0.5 + c / (2 * scale))]
        for b, p, c in zip(base, poison, change, strict=True)
    ]
    if starts is None:
        columns = "poison (what the added rows were is not known)"
        shown = [[poison] for _, poison, _ in shown]
    title = f"{made.title}: {len(tensors['rows'])} rows; {columns}{aim}"
    return Sheet(title, shown, told, scale, target)
