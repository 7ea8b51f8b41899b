"""What verdicts to expect of an experiment, in words: for `plan` and New; and the runs of a home
from which the spreads are taken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from textwrap import fill

from engine.jobs import bounded_json, runs
from engine.jobs.home import Home
from engine.jobs.runs import Run
from engine.jobs.store import Damaged
from engine.results.expectations import Expectation, expectations
from engine.results.like_runs import Measured
from engine.results.power import MOST, Chances
from engine.results.tidy import Audits, registered_audits
from engine.results.utility import UTILITY_AUDIT
from engine.results.verdict import FEWEST_SEEDS
from engine.spec.planned import Plan

NEWEST = 20  # runs of a home that are looked at
LARGEST = 1 << 25  # bytes of a plan that is read for this
SHOWN = 6  # families that `plan` prints
SEEN = 0.005  # chances below are not printed
HALF, NEARLY = 0.5, 0.95
HUGE = 1e300  # no float, and not NaN, beyond that
WIDTH = 80


class LikeRuns:
    """The newest runs of a home as far as they are on some data. What was read is kept: a screen
    asks again with every key."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._past: dict[str, PastRun] = {}
        self._on: dict[tuple[str, str], bool] = {}
        self._measured: dict[str, Mapping[str, float | None]] = {}

    def on(self, plan: Plan) -> Iterator[PastRun]:
        """Those whose plan has a data stage of `plan`, newest first; what cannot be read is passed
        over."""
        data = [stage.key for stage in plan.stages.values() if stage.kind == "data"]
        for run in islice(runs.every(self.home), NEWEST):
            if any(self._has(run, key) for key in data):
                past = self._past.setdefault(run.id, PastRun(run, self._measured))
                if past.readable():
                    yield past

    def _has(self, run: Run, key: str) -> bool:
        """Whether a stage's key is in the text of a run's plan, which need not be parsed for it."""
        if (run.id, key) not in self._on:
            path = run.folder / "plan.json"
            try:
                large = path.stat().st_size > LARGEST
                self._on[run.id, key] = not large and key.encode() in path.read_bytes()
            except OSError:
                self._on[run.id, key] = False
        return self._on[run.id, key]


class PastRun:
    """A run as `engine.results.like_runs` asks for it."""

    def __init__(self, run: Run, measured: dict[str, Mapping[str, float | None]]) -> None:
        self.run = run
        self._measured = measured  # shared by all runs

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def plan(self) -> Plan:
        return self.run.plan

    def readable(self) -> bool:
        try:
            return bool(self.plan.cells)
        except runs.NOT_SHOWN:
            return False

    def measurements(self, key: str) -> Mapping[str, float | None]:
        place = f"{self.run.store.root} {key}"  # an imported run has a store of its own
        found = self._measured.get(place) or self._read(key)
        if found:
            self._measured[place] = found
        return found

    def _read(self, key: str) -> Mapping[str, float | None]:
        try:
            content = self.run.store.open_verified(key, "measurements.json")
            told = bounded_json.parse(content)["metrics"]
        except (Damaged, ValueError, KeyError, TypeError):
            return {}
        if not isinstance(told, dict):
            return {}
        numbers = {name: value for name, value in told.items() if type(value) in (int, float)}
        return {name: float(value) for name, value in numbers.items() if abs(value) < HUGE}


def expected(plan: Plan, like: LikeRuns, audits: Audits | None = None) -> list[Expectation]:
    """What the plan may expect, by what like runs tell. `audits` are the registered ones, unless
    given with other margins."""
    return expectations(plan, audits or registered_audits(), like.on(plan))


# --- in words ------------------------------------------------------------------------------------


def power_lines(found: Sequence[Expectation]) -> list[str]:
    """Of every family that is to be shown three truths, and where the numbers come from."""
    listed = to_show(found)
    if not listed:
        return []
    lines = ["Verdicts to expect, of one row (`chelate explain power`):"]
    for one in listed[:SHOWN]:
        lines += ["", *_family_lines(one)]
    if len(listed) > SHOWN:
        lines += ["", f"{len(listed) - SHOWN} more: --json has all of them."]
    return lines


def to_show(found: Sequence[Expectation]) -> list[Expectation]:
    """Accuracy, which most poison leaves alone, only where runs tell of it or nothing else is
    judged."""

    def shown(one: Expectation) -> bool:
        return one.places[0][2] != UTILITY_AUDIT or "effect" in one.stored or len(others) == 0

    others = [one for one in found if one.places[0][2] != UTILITY_AUDIT]
    return [one for one in found if shown(one)]


def _family_lines(one: Expectation) -> Iterator[str]:
    rows = f"{one.outlook.tests} row{'s' if one.outlook.tests > 1 else ''} tested"
    yield _filled(f"{_called(one)}: {seeds(one.seeds)}, {rows}", 0)
    told = one.chances()
    least = min(found.words["nothing to remove"] for found in told.values())
    if least >= NEARLY:
        share = f"{'' if least == 1 else '≥ '}{math.floor(100 * least)} %"
        yield f"  whatever is left → nothing to remove {share}: the poison hardly shows here"
    else:
        for truth, found in told.items():
            yield _filled(f"{truth:12} → {_shares(found)}; {_enough(found)}", 2)
    if one.seeds < FEWEST_SEEDS:
        yield _filled(f"{seeds(one.seeds)}: {_too_few(one)}", 2)
    if one.caveat:
        yield _filled(one.caveat, 2)
    yield from (_filled(text, 2) for text in sources(one))


def _called(one: Expectation) -> str:
    """ "gaussian by gaussian"; "gaussian, badnets by accuracy, 3 settings" of several alike."""
    settings = list(dict.fromkeys(place[0] for place in one.places))
    attacks = ", ".join(dict.fromkeys(place[1] for place in one.places))
    told = f"{attacks} by {', '.join(dict.fromkeys(place[2] for place in one.places))}"
    if len(settings) > 1:
        return f"{told}, {len(settings)} settings"
    return f"{told}, {settings[0]}" if settings[0] else told


def _shares(found: Chances) -> str:
    seen = {word: share for word, share in found.words.items() if share >= SEEN}
    ordered = sorted(seen, key=lambda word: (word != found.right, -seen[word]))
    return ", ".join(_share(found, word) for word in ordered)


def _share(found: Chances, word: str) -> str:
    """A word with its chance; the chance of a residue that is there is a bound (Hommel)."""
    share = found.words[word]
    least = word == found.right == "residue" and share < 1 - SEEN
    return f"{word} {'≥ ' if least else ''}{percent(share)}"


def _enough(found: Chances) -> str:
    if found.seeds is None:
        return f"not 80 % with {MOST} seeds"
    return f"80 % from {seeds(found.seeds)}"


def _too_few(one: Expectation) -> str:
    if one.outlook.null == "standard-normal":
        return f"residue may be shown, every other verdict needs {FEWEST_SEEDS}"
    return f"every verdict but inconclusive needs {FEWEST_SEEDS}"


def sources(one: Expectation) -> list[str]:
    """Where the numbers come from: a line for what is stored, one for what is assumed."""
    told = []
    if one.stored:
        words = [_told(one, name) for name in one.stored]
        told.append(f"from {_whence(one.stored)}: {', '.join(words)}")
    if one.assumed:
        told.append(f"assumed: {', '.join(_assumed(one))}")
    return told


NAMES = {
    "effect": "effect of none {:.3g}",
    "gap_sd": "gap of a seed ± {:.3g}",
    "none_sd": "none's gap ± {:.3g}",
    "accuracy_sd": "accuracy ± {:.3g}",
}


def _told(one: Expectation, name: str) -> str:
    return NAMES[name].format(one.stored[name].value)


def _assumed(one: Expectation) -> Iterator[str]:
    for name, why in one.assumed.items():
        value = getattr(one.outlook, name)
        yield NAMES[name].format(value) + (f" ({why})" if why else "")
    if one.outlook.null == "standard-normal":
        yield f"a seed's score ± {one.outlook.rows**-0.5:.3g} (exact, {one.outlook.rows} rows)"


def _whence(stored: Mapping[str, Measured]) -> str:
    """ "5 seeds of quickstart-3f2a…", or of several runs."""
    names = list(dict.fromkeys(name for one in stored.values() for name in one.runs))
    counts = sorted({one.seeds for one in stored.values()})
    count = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{count} seeds of {names[0]}{more}"


def summary_line(found: Sequence[Expectation]) -> str:
    """One line for New, of the family that is hardest to show clean; "" where none is judged."""
    each = [(one, one.chances()) for one in to_show(found)]
    if not each:
        return ""
    # Where the poison hardly shows, nobody is judged.
    judged = [pair for pair in each if pair[1]["all left"].words["nothing to remove"] < HALF]
    one, told = min(judged or each, key=lambda pair: pair[1]["nothing left"].words["removed"])
    text = f"{seeds(one.seeds)}: {_too_few(one)}"
    if one.seeds >= FEWEST_SEEDS:
        text = f"{seeds(one.seeds)}: " + ", ".join(
            f"{truth} → {_likeliest(told[truth])}" for truth in ("nothing left", "all left")
        )
    needed = [told[truth].seeds for truth in ("nothing left", "all left")]
    if one.caveat:
        text += f"; {one.caveat}"
    elif None not in needed:
        text += f"; 80 % from {max(filter(None, needed))}"
    elif judged:
        text += f"; not 80 % with {MOST}"
    return f"{text} ({one.places[0][2]})"


def _likeliest(found: Chances) -> str:
    """The right word with its chance; another one where that hardly ever comes."""
    words = found.words
    word = found.right if words[found.right] >= SEEN else max(words, key=words.__getitem__)
    return _share(found, word)


def seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _filled(text: str, indent: int) -> str:
    blank = " " * indent
    return fill(text, WIDTH, initial_indent=blank, subsequent_indent=blank + "  ")
