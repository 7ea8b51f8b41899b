"""Presets: TOML in, TOML out, dotted overrides, and errors a person can act on."""

from __future__ import annotations

import copy
import re
import tomllib
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from engine.spec import toml
from engine.spec.bounds import PRESET
from engine.spec.component import Listed, strictly
from engine.spec.encoding import marked_encoding
from engine.spec.errors import BadInput, cut, unknown
from engine.spec.experiment import COMPONENT_FIELDS, Experiment
from engine.spec.extent import check_data, check_grids
from engine.spec.files import content_of
from engine.spec.path_keys import Place, in_words
from engine.spec.places import expanded
from engine.spec.plugins import blamed
from engine.spec.registry import find, registered

HEADER = "# Written by chelate; comments of an earlier file are not kept.\n"
TOML_WORDS = {"model_type": "a table", "dict_type": "a table", "tuple_type": "a list",
              "list_type": "a list"}  # fmt: skip
MOST_FAULTS = 40  # of a preset, told at once
LONGEST_NAME = 255  # bytes of a file's name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def shipped_folder() -> Path:
    """Where the presets that come with chelate lie: in the wheel, or beside a source checkout."""
    engine = Path(str(files("engine")))
    inside = engine / "presets"
    return inside if inside.is_dir() else engine.parent / "presets"


def shipped() -> dict[str, Path]:
    """Name → file of the shipped presets."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.toml"))}


def locate(preset: str) -> Path:
    """The file meant by `preset`: a shipped name, or a path. Raises BadInput if there is none."""
    if NAME.fullmatch(preset):
        known = shipped()
        if preset in known:
            return known[preset]
        if len(preset) > LONGEST_NAME or not Path(preset).is_file():
            raise BadInput(unknown("preset", preset, known))
    path = expanded(preset, "preset")
    if not path.is_file():
        what = "does not exist"
        if path.exists():
            what = "is a folder" if path.is_dir() else "is no plain file"
        raise BadInput(
            f"preset file {preset}: {what}. `chelate presets list` names the shipped ones."
        )
    return path


def load(
    preset: str, overrides: list[str] | None = None, seeds: list[int] | None = None
) -> Experiment:
    """Read and validate a preset (a name or a path), after `key=value` overrides.

    Raises BadInput for anything wrong, naming file, key, value and what would be right.
    """
    path = locate(preset)
    raw = read_toml(path)
    for assignment in overrides or []:
        set_dotted(raw, assignment)
    if seeds is not None:
        raw["seeds"] = seeds
    return validate(raw, where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return toml.loads(preset_text(path), str(path))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: not valid TOML: {error}") from None


def preset_text(path: Path) -> str:
    """A preset's text; UTF-8, or what its byte order mark says. Raises BadInput."""
    content = content_of(path, str(path), PRESET)
    try:
        return content.decode(marked_encoding(content) or "utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not {error.encoding.upper()} text (byte {error.start}).") from None
    except UnicodeError as error:
        raise BadInput(f"{path}: not text: {error}.") from None


def validate(raw: dict[str, Any], where: str) -> Experiment:
    """An Experiment from plain data. Raises BadInput; `where` names the origin in its message."""
    check_data(raw, where)
    check_grids(raw, where)
    _check_text(raw, where)
    try:
        _check_component_names(raw, where)
        _check_tuned_grids(raw, where)
        return strictly(Experiment, raw)
    except ValidationError as error:
        raise BadInput("\n".join(_explain(raw, error, where))) from None
    except BadInput:
        raise
    except Exception as error:
        if whose := blamed(error):  # a check of a stranger's that fails itself
            raise BadInput(f"{where}: {whose}.") from None
        raise


def settings(experiment: Experiment, where: str) -> list[tuple[str, Experiment]]:
    """One (label, experiment) for each combination of the top-level grid; usually just one."""
    if not experiment.grid:
        return [("", experiment)]
    found = []
    for values in product(*experiment.grid.values()):
        raw = to_data(experiment)
        del raw["grid"]
        chosen = dict(zip(experiment.grid, values, strict=True))
        for key, value in chosen.items():
            _assign(raw, key.split("."), value, f"{where}: grid")
        label = ",".join(f"{key}={value}" for key, value in chosen.items())
        found.append((label, validate(raw, where)))
    return found


def to_data(experiment: Experiment, *, full: bool = False) -> dict[str, Any]:
    """Plain data that validates to the same experiment; `full` writes every default out."""
    data = experiment.model_dump(mode="json", exclude_unset=not full, exclude_none=True)
    if full and not experiment.verdicts:  # no default to write out: margins are the audits' own
        del data["verdicts"]
    return data


def to_toml(experiment: Experiment, *, full: bool = False) -> str:
    """TOML text that loads to the same experiment."""
    return HEADER + toml.dumps(to_data(experiment, full=full))


# --- overrides -----------------------------------------------------------------------------------


def set_dotted(raw: dict[str, Any], assignment: str) -> None:
    """Apply `train.epochs=5` or `methods.ngd.lr=0.1` to a preset's data, in place.

    An element of a list is named by its number or by its `name`. The value is read as TOML; what
    is no TOML value is taken as a string. Raises BadInput.
    """
    key, sign, text = assignment.partition("=")
    where = f"--set {cut(assignment)}".replace("\n", " ")
    if not sign or not key.strip():
        raise BadInput(f"{where}: must be KEY=VALUE, as in train.epochs=5.")
    try:
        found = toml.loads(f"value = {text.strip()}", where)
    except tomllib.TOMLDecodeError:
        found = {}
    value = found["value"] if len(found) == 1 else text.strip()  # a line break adds no key
    _assign(raw, _parts(key, where), value, where)


def _parts(key: str, where: str) -> list[str]:
    """The words of a dotted key; one that holds a dot itself is quoted: grid."train.lr"."""
    parts: list[str] = []
    try:
        place: Any = toml.loads(f"{key.strip()} = 0", where)
        while isinstance(place, dict) and key.strip()[0] not in "#[":  # a comment, a table's head
            [(part, place)] = place.items()
            parts.append(part)
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        parts = []
    if not parts or place != 0:
        told = cut(key.strip()).replace("\n", " ")
        raise BadInput(f"{where}: {told} is no dotted key, as in train.epochs.")
    return parts


def _assign(raw: dict[str, Any], key: list[str], value: Any, where: str) -> None:
    *parents, last = key
    place: Any = raw
    for depth, part in enumerate(parents):
        if isinstance(place, dict):
            place = place.setdefault(part, {})
        elif isinstance(place, list):
            place = place[_element(place, part, where)]
        if not isinstance(place, dict | list):
            told = cut(".".join(parents[: depth + 1]))
            raise BadInput(f"{where}: {told} is a value, not a table.")
    if isinstance(place, list):
        place[_element(place, last, where)] = copy.deepcopy(value)
    else:
        place[last] = copy.deepcopy(value)


def _element(entries: list[Any], part: str, where: str) -> int:
    """The index of the entry meant by `part`, a number or a `name`."""
    if part.isdecimal() and len(part) < 10 and int(part) < len(entries):
        return int(part)
    named = [
        number
        for number, entry in enumerate(entries)
        if isinstance(entry, dict) and entry.get("name") == part
    ]
    if len(named) == 1:
        return named[0]
    if named:
        raise BadInput(
            f"{where}: {part!r} is listed {len(named)} times: give its number (0, 1, …)."
        )
    names = [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]
    raise BadInput(f"{where}: {unknown('entry', part, names)}")


# --- messages ------------------------------------------------------------------------------------


def _check_text(raw: Any, where: str, place: Place = ()) -> None:
    """A name of a file may be any bytes; a preset is text."""
    if isinstance(raw, dict | list):
        for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
            _check_text(value, where, (*place, key))
    elif isinstance(raw, str):
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise BadInput(
                f"{where}: {in_words(place)} = {cut(repr(raw))}: is not UTF-8; rename it, or give a "
                "link of another name."
            ) from None


def _check_component_names(raw: dict[str, Any], where: str) -> None:
    """Unknown names first: they deserve the list of known ones, not a union's complaint."""
    for field, (kind, many) in COMPONENT_FIELDS.items():
        value = raw.get(field)
        if value is None:
            continue
        if isinstance(value, list) != many:
            shape = f"a list of tables ([[{field}]])" if many else f"one table ([{field}])"
            raise BadInput(f"{where}: {field}: must be {shape}.")
        for number, entry in enumerate(value if many else [value]):
            place = f"{field}[{number}]" if many else field
            if not isinstance(entry, dict):
                raise BadInput(f"{where}: {place}: must be a table, not {cut(repr(entry))}.")
            if "name" not in entry:
                names = ", ".join(registered(kind))
                raise BadInput(f"{where}: {place}.name is missing: one of {names}.")
            try:
                cls = find(kind, str(entry["name"]))
            except BadInput as error:
                raise BadInput(f"{where}: {place}.name: {error}") from None
            if issubclass(cls, Listed):
                _check_grid(cls, entry, f"{where}: {place}")


def _check_grid(cls: type[Listed], entry: dict[str, Any], place: str) -> None:
    plain = {k: v for k, v in entry.items() if k not in ("grid", "label")}
    _check_values(cls, plain, entry.get("grid", {}), f"{place}.grid")


def _check_values(cls: type[Listed], plain: dict[str, Any], grid: Any, place: str) -> None:
    """Each value of a grid must suit the component `plain` describes."""
    if not isinstance(grid, dict):
        raise BadInput(f"{place}: must be a table of lists, as in grid.lr = [0.01, 0.1].")
    for key, values in grid.items():
        known = [name for name in cls.model_fields if name not in ("name", "label", "grid")]
        if key not in known:
            raise BadInput(f"{place}: {unknown('key', key, known)}")
        if not isinstance(values, list) or not values:
            raise BadInput(f"{place}.{key}: must be a list of values, not {cut(repr(values))}.")
        for value in values:
            try:
                strictly(cls, plain | {key: value})
            except ValidationError as error:
                wrong = [e for e in error.errors() if e["loc"][:1] == (key,)]
                if wrong:
                    raise BadInput(
                        f"{place}.{key} = {cut(repr(value))}: {_told(wrong[0])}."
                    ) from None


def _check_tuned_grids(raw: dict[str, Any], where: str) -> None:
    """Methods, keys and values of [tune.grids], each against the method as it is listed."""
    tune = raw.get("tune")
    grids = tune.get("grids", {}) if isinstance(tune, dict) else {}
    for name, grid in grids.items() if isinstance(grids, dict) else ():
        place = f"{where}: tune.grids.{name}"
        try:
            cls = find("method", name)
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from None
        listed = [entry for entry in raw.get("methods", []) if entry.get("name") == name]
        for entry in listed or [{"name": name}]:
            plain = {k: v for k, v in entry.items() if k not in ("grid", "label")}
            assert issubclass(cls, Listed)
            _check_values(cls, plain, grid, place)


def _explain(raw: dict[str, Any], error: ValidationError, where: str) -> list[str]:
    told: dict[str, list[str]] = {}  # place → what is wrong there; a union has several complaints
    problems = error.errors()
    outer = {problem["loc"][:size] for problem in problems for size in range(len(problem["loc"]))}
    for problem in problems:
        if len(told) >= MOST_FAULTS:
            break
        loc = problem["loc"]
        if problem["type"] == "too_short" and loc in outer:
            continue  # pydantic counts the good elements only
        path, known = _walk(raw, loc)
        if problem["type"] == "extra_forbidden":
            told[f"{path}: "] = [unknown("key", str(loc[-1]), known).rstrip(".")]
        elif problem["type"] == "missing":
            told[f"{path} "] = ["is missing"]
        else:
            value = problem["input"]
            shown = "" if isinstance(value, dict | list | tuple) else f" = {cut(repr(value))}"
            told.setdefault(f"{path}{shown}: " if path else "", []).append(_told(problem))
    more = len(problems) - len(told)
    lines = [f"{where}: {place}{', or '.join(faults)}." for place, faults in told.items()]
    return lines if len(told) < MOST_FAULTS else [*lines, f"{where}: … and {more} more."]


def _told(problem: Any) -> str:
    """pydantic's message without its prefix, in our tone."""
    if problem["type"] == "too_short":
        least = problem["ctx"]["min_length"]
        return f"must hold at least {least} value{'s' if least > 1 else ''}"
    if problem["type"] in TOML_WORDS:
        return f"must be {TOML_WORDS[problem['type']]}"
    text = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return text.rstrip(".")


def _walk(raw: Any, loc: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Dotted path of an error (without the union's tags) and the keys known at its table."""
    model: Any = Experiment
    path = ""
    place: Any = raw
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
            place = place[part] if isinstance(place, list) and part < len(place) else None
            continue
        if path and isinstance(place, dict) and place.get("name") == part and part not in place:
            continue  # the discriminator's tag, not a key
        if isinstance(place, str | bool | int | float | list):
            break  # a member of a union that did not fit, or what a check of our own is called
        path += f".{part}" if path else str(part)
        if isinstance(place, dict):
            place = place.get(part)
    field = str(loc[0]) if loc else ""
    if len(loc) > 1 and field in COMPONENT_FIELDS:
        table = raw[field][loc[1]] if COMPONENT_FIELDS[field][1] else raw[field]
        model = find(COMPONENT_FIELDS[field][0], str(table["name"]))
    elif len(loc) > 1 and field in Experiment.model_fields:
        annotation = Experiment.model_fields[field].annotation
        tables = [
            one for one in (annotation, *get_args(annotation)) if hasattr(one, "model_fields")
        ]
        model = tables[0] if tables else Experiment
    known = [field.alias or name for name, field in model.model_fields.items()]
    return path, [name for name in known if name != "grid" or model is Experiment]
