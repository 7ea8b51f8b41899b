"""A poison as a folder that people pass on: poison.safetensors and poison.json, nothing else read.

poison.safetensors  rows int64 [P] (of the data, or all behind their last: added), inputs float32
                    [P, C, H, W], labels int64 [P], and extras:
                    noise float32 [P, C, H, W]; trigger_keep, trigger_add float32 [C, H, W]
poison.json         v, data (digest, train, test, shape, classes), attack, gives, movable, facts,
                    bounds (epsilon or null, unit_box), made (run, attack, seed, unit)

Of texts both hold something else, see `text_poisons`.

The folder may be a stranger's: both files are looked through before anything uses them, by numpy
alone, and neither can name another file. Inputs are in raw space, [0, 1] with or without noise.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from engine.spec.outputs import new_folder
from engine.spec.text_poisons import GIVES as TEXT_GIVES
from engine.spec.text_poisons import check_texts, check_tokens

if TYPE_CHECKING:
    import numpy as np

TENSORS, MANIFEST = "poison.safetensors", "poison.json"
GIVES = {"noise": ("noise",), "trigger": ("trigger_keep", "trigger_add"), "target": ()}
FACTS = {"noise": ("noise_std",), "trigger": ("target",),
         "target": ("target_row", "true_class", "adversarial")}  # fmt: skip
LARGEST_MANIFEST, LARGEST_TENSORS = 1 << 26, 1 << 33  # bytes
FARTHEST = 16.0  # raw space is [0, 1]; noise may leave it, but 0 … 255 is another space


@dataclass(frozen=True, slots=True)
class PoisonFolder:
    """What a folder holds, looked through. `sha256` is of both files together."""

    path: Path
    manifest: dict[str, Any]
    arrays: dict[str, np.ndarray]
    sha256: str

    @property
    def gives(self) -> frozenset[str]:
        return frozenset(self.manifest["gives"])

    @property
    def added(self) -> bool:
        """Whether its rows are added to the data instead of replacing some."""
        return int(self.arrays["rows"][0]) >= int(self.manifest["data"]["train"])

    @property
    def strings(self) -> list[str] | None:
        """The poisoned texts; None where the inputs are none."""
        return self.manifest["texts"]["strings"] if "texts" in self.manifest else None

    @property
    def rows(self) -> list[int]:
        return [int(row) for row in self.arrays["rows"]]

    def wrong(self, problem: str) -> NoReturn:
        raise BadInput(f"poison {self.path}: {problem}.")


def write_poison(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    manifest: Mapping[str, Any],
    check: Callable[[PoisonFolder], object] = lambda _: None,
) -> PoisonFolder:
    """Write a new folder, once it was read back. Raises BadInput if it exists or makes no sense, or
    `check` says so; it is not there then."""
    from safetensors.numpy import save

    check_poison(PoisonFolder(folder, dict(manifest), dict(arrays), ""))
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with new_folder(folder) as draft:
        (draft / TENSORS).write_bytes(save(dict(arrays)))
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        try:
            check(found := read_poison(draft))
        except BadInput as error:  # it is not there yet, and never will be
            raise BadInput(str(error).replace(str(draft), str(folder))) from None
    return replace(found, path=folder)


def read_poison(folder: Path) -> PoisonFolder:
    """Read and look through a folder. Raises BadInput, naming it and what is wrong."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    told = _content(folder, MANIFEST, LARGEST_MANIFEST)
    content = _content(folder, TENSORS, LARGEST_TENSORS)
    try:
        manifest = json.loads(told)
    except (ValueError, RecursionError):
        raise BadInput(f"poison {folder}: {MANIFEST} is not JSON.") from None
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError):
        raise BadInput(f"poison {folder}: {TENSORS} is not a safetensors file.") from None
    found = PoisonFolder(folder, manifest, arrays, hashlib.sha256(told + content).hexdigest())
    check_poison(found)
    return found


def check_poison(found: PoisonFolder) -> None:
    """Look through what a folder holds, or would. Raises BadInput, naming what is wrong."""
    _check_manifest(found)
    _check_arrays(found)


def _content(folder: Path, name: str, most: int) -> bytes:
    """A plain file of the folder itself: a link may lead anywhere, so none is followed."""
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            what = "is a link" if path.is_symlink() else "is not there"
            raise BadInput(f"poison {folder}: {name} {what}; it must be a plain file.")
        if path.stat().st_size > most:
            raise BadInput(f"poison {folder}: {name} is larger than {most >> 20} MiB.")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"poison {folder}: {name} cannot be read: {error.strerror}.") from None


def _check_manifest(found: PoisonFolder) -> None:
    told = found.manifest
    if not isinstance(told, dict) or told.get("v") != 1:
        found.wrong(f"{MANIFEST} must hold a table with v = 1")
    data, facts, bounds, made = (told.get(key) for key in ("data", "facts", "bounds", "made"))
    if not (
        isinstance(data, dict)
        and isinstance(data.get("digest"), str)
        and all(_whole(data.get(key)) for key in ("train", "test"))
        and isinstance(data.get("classes"), list)
        and isinstance(data.get("shape"), list)
        and all(_whole(size) and size > 0 for size in data["shape"])
    ):
        found.wrong("data must have digest, train, test, classes and shape")
    if not isinstance(facts, dict) or not all(_number(value) for value in facts.values()):
        found.wrong("facts must be a table of finite numbers")
    epsilon = bounds.get("epsilon") if isinstance(bounds, dict) else -1
    if not isinstance(bounds, dict) or not isinstance(bounds.get("unit_box"), bool) or not (
        epsilon is None or (_number(epsilon) and 0 <= epsilon <= 1)
    ):  # fmt: skip
        found.wrong("bounds must have unit_box (true or false) and epsilon (null, or in [0, 1])")
    if not isinstance(told.get("movable"), bool):
        found.wrong("movable must be true or false")
    if not (isinstance(made, dict) and _whole(made.get("seed")) and _whole(made.get("unit"))):
        found.wrong("made must have seed and unit, whole numbers")
    gives = told.get("gives")
    if not isinstance(gives, list) or not all(isinstance(g, str) and g in GIVES for g in gives):
        found.wrong(f"gives must be a list of {', '.join(GIVES)}")
    for give in gives:
        missing = [fact for fact in FACTS[give] if fact not in facts]
        names = TEXT_GIVES.get(give, ()) if "texts" in told else GIVES[give]
        missing += [name for name in names if name not in found.arrays]
        if missing:
            found.wrong(f"gives {give!r}, but has no {', '.join(missing)}")
    classes, test = len(data["classes"]), data["test"]
    limits = {"target": classes, "true_class": classes, "adversarial": classes, "target_row": test}
    for name, limit in limits.items():
        if name in facts and not (_whole(facts[name]) and facts[name] < limit):
            found.wrong(f"facts.{name} = {facts[name]!r} must be a whole number below {limit}")
    if "noise_std" in facts and not facts["noise_std"] > 0:
        found.wrong("facts.noise_std must be above 0")


def _check_arrays(found: PoisonFolder) -> None:
    import numpy as np

    arrays, data = found.arrays, found.manifest["data"]
    gives = TEXT_GIVES if "texts" in found.manifest else GIVES
    known = {"rows", "inputs", "labels", *(name for names in gives.values() for name in names)}
    if strange := sorted(arrays.keys() - known):
        found.wrong(f"{TENSORS} holds unknown tensors: {', '.join(strange)[:200]}")
    for name in ("rows", "inputs", "labels"):
        if name not in arrays:
            found.wrong(f"{TENSORS} has no tensor {name!r}")
    count, shape = len(arrays["rows"]) if arrays["rows"].ndim else 0, tuple(data["shape"])
    if count < 1:
        found.wrong("rows must be a list of at least one")
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        "rows": (np.int64, (count,)),
        "labels": (np.int64, (count,)),
        "inputs": (np.float32, (count, *shape)),
        "noise": (np.float32, (count, *shape)),
        "trigger_keep": (np.float32, shape),
        "trigger_add": (np.float32, shape),
    }
    if "texts" in found.manifest:
        expected |= check_texts(found, count)
    for name, array in arrays.items():
        kind, size = expected[name]
        if array.dtype != kind or array.shape != size:
            found.wrong(
                f"{name} is {array.dtype} {list(array.shape)}; expected {np.dtype(kind)} {list(size)}"
            )
        if not np.isfinite(array).all():
            found.wrong(f"{name} holds values that are not finite")
    rows, labels = arrays["rows"], arrays["labels"]
    train = int(data["train"])
    replaced = rows.min() >= 0 and rows.max() < train and (np.diff(rows) > 0).all()
    if not replaced and not np.array_equal(rows, np.arange(train, train + count)):
        found.wrong(
            f"rows must ascend within 0 … {train - 1}, or be added as {train}, {train + 1}, …"
        )
    if found.added and "noise" in found.gives:
        found.wrong("added rows cannot give 'noise': its audit looks at what a row was before")
    if labels.min() < 0 or labels.max() >= len(data["classes"]):
        found.wrong(f"labels must lie in 0 … {len(data['classes']) - 1}")
    if "texts" in found.manifest:
        check_tokens(found)
    inputs = arrays["inputs"]
    if inputs.ndim == 3:
        inputs = inputs[..., 1:]  # of texts only the noise is in a space with bounds
    if inputs.ndim == 2:
        return
    low, high = float(inputs.min()), float(inputs.max())
    if found.manifest["bounds"]["unit_box"] and not 0 <= low <= high <= 1:
        found.wrong(f"inputs span {low:g} … {high:g}, though bounds.unit_box says [0, 1]")
    if max(-low, high) > FARTHEST:
        found.wrong(f"inputs span {low:g} … {high:g}; raw space is [0, 1]")


def check_fit(found: PoisonFolder, data: DataInfo) -> None:
    """Raise BadInput unless the poison was made for these data."""
    told = found.manifest["data"]
    have: dict[str, Any] = {
        "shape": list(data.shape),
        "classes": list(data.classes),
        "train": data.train,
        "test": data.test,
        "digest": data.digest,
    }
    for key, value in have.items():
        if told[key] != value:
            shown = "others" if key in ("digest", "classes") else f"{told[key]}, not {value}"
            found.wrong(f"was made for other data: its {key} are {shown}")


def largest_change(found: PoisonFolder, base: np.ndarray) -> float:
    """max |x' - x| in raw space; `base` holds the inputs they were, as stored, [P, C, H, W]."""
    import numpy as np

    change = found.arrays["inputs"].astype(np.float64) - raw_space(base).astype(np.float64)
    return float(np.abs(change).max())


def raw_space(stored: np.ndarray) -> np.ndarray:
    """float32, as the learner sees a clean row: a byte over 255, or a table's number as it is."""
    import numpy as np

    if stored.dtype == np.uint8:
        return stored.astype(np.float32) / np.float32(255)
    return stored.astype(np.float32)


def _whole(value: object) -> bool:
    """A whole number from 0 on; JSON may write 5 as 5.0."""
    return _number(value) and float(value).is_integer() and float(value) >= 0  # type: ignore[arg-type]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
