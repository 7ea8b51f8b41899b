"""What is too large is refused before it is expanded, with the figure, the limit and what raises it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.spec import bounds, presets, toml
from engine.spec.component import Attack
from engine.spec.errors import BadInput, unknown
from engine.spec.places import expanded
from engine.spec.plan import make_plan

ROOT = Path(__file__).parents[2]
LR = [n / 1000 for n in range(1, 201)]


def refused(*overrides: str, planned: bool = False) -> str:
    with pytest.raises(BadInput) as caught:
        experiment = presets.load("quickstart", list(overrides))
        if planned:
            make_plan(experiment, "cpu")
    assert len(str(caught.value)) < 10_000
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "figure", "variable"),
    [
        ("title=" + "[" * 500 + "]" * 500, "500", "CHELATE_MAX_NESTING"),
        ("title=" + "[" * 100_000, "100,000", "CHELATE_MAX_NESTING"),
        ("title=" + "{a=" * 500, "500", "CHELATE_MAX_NESTING"),
        ("a" + ".a" * 1000 + "=1", "1,000", "CHELATE_MAX_NESTING"),
        ("'a'" + " . \"a\"" * 1000 + "=1", "1,000", "CHELATE_MAX_NESTING"),
        ("train.epochs=" + "9" * 400, "20 digits", "CHELATE_MAX_DIGITS"),
        ("train.epochs=" + "9" * 5000, "5,000 digits", "CHELATE_MAX_DIGITS"),
        ("title='" + "x" * (1 << 20) + "'", "1,048,5", "CHELATE_MAX_PRESET_BYTES"),
        ("seeds=[" + "1," * 100_001 + "]", "100,001", "CHELATE_MAX_VALUES"),
        ("compute.workers=10000000", "10000000", "CHELATE_MAX_WORKERS"),
        ("compute.threads=1025", "1025", "CHELATE_MAX_WORKERS"),
        ("model.depth=9223372036854775807", "10,000", "CHELATE_MAX_LAYERS"),
        (f"methods.gd.grid.lr={[n / 1e4 for n in range(1, 2000)]}", "2,00", "CHELATE_MAX_GRID_POINTS"),
    ],
)  # fmt: skip
def test_too_much_is_refused(override: str, figure: str, variable: str) -> None:
    message = refused(override)
    assert figure in message
    assert variable in message


def test_a_grid_is_counted_before_it_is_made() -> None:
    keys = ("lr", "weight_decay", "momentum", "warmup")
    message = refused(*(f"grid.'train.{key}'={LR}" for key in keys))
    assert "1,600,000,000 grid points; the limit is 1,000" in message
    gd = [f"methods.gd.grid.{key}={LR}" for key in ("lr", "momentum", "weight_decay", "batch_size")]
    assert "CHELATE_MAX_GRID_POINTS" in refused(*gd)
    tuned = [f"tune.grids.gd.{key}={LR}" for key in ("lr", "momentum", "weight_decay")]
    assert "tune.grids.gd has 8,000,000 grid points" in refused(*tuned)


def test_stages_are_counted_before_they_are_made() -> None:
    message = refused(f"seeds={list(range(20_000))}", planned=True)
    assert "620,000 stages; the limit is 100,000 (CHELATE_MAX_STAGES raises it)" in message


def test_what_was_not_foreseen_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHELATE_MAX_STAGES", "200")
    told = refused(planned=True)
    assert "needs at least 201 stages; the limit is 200" in told


def test_what_was_promised_is_let_through() -> None:
    assert len(presets.load("quickstart", [f"seeds={list(range(10_000))}"]).seeds) == 10_000
    values = [n / 1000 for n in range(1, 1001)]
    assert presets.load("quickstart", [f"grid.'train.lr'={values}"]).grid
    assert bounds.STAGES.limit >= 100_000
    assert bounds.GRID.limit >= 1_000


def test_a_variable_raises_a_limit_and_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHELATE_MAX_WORKERS", "20000000")
    assert presets.load("quickstart", ["compute.workers=10000000"]).compute.workers == 10_000_000
    for wrong in ("0", "-1", "many", "1e6", "9" * 30):
        monkeypatch.setenv("CHELATE_MAX_GRID_POINTS", wrong)
        assert "must be a whole number above 0" in refused()


@pytest.mark.parametrize("bound", bounds.ALL, ids=lambda bound: bound.variable)
def test_every_bound_is_in_the_docs(bound: bounds.Bound) -> None:
    text = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
    assert f"| `{bound.variable}` | {bound.default:,} | {bound.summary} |" in text


def test_deep_nesting_that_a_person_allowed_is_still_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHELATE_MAX_NESTING", "1000000")
    for text in ("[" * 5000 + "]" * 5000, "[" * 100_000):
        assert isinstance(toml.inline(text), str)
        refused(f"seeds={text}")


@pytest.mark.parametrize(
    "text",
    [
        'a = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["',
        "a = '" + "." * 99 + "'",
        'a = """' + "\n[" * 99 + '"""',
        "a = '''" + "\n[" * 99 + "'''",
        "# " + "[" * 99,
        'a = "\\"' + "[" * 99 + '"',
        "\n".join(f"a{n} = 1.5" for n in range(99)),
        "a = [" + "1.5, " * 99 + "]",
        'a = """x""""' + "\nb = '" + "[" * 99 + "'",
    ],
)
def test_brackets_in_texts_and_comments_are_no_nesting(text: str) -> None:
    toml.loads(text, "test")


@pytest.mark.parametrize("text", ['"\\"' * 300_000, '"""' * 300_001, "'" * 900_001, '"' * 900_000])
def test_texts_that_never_end_are_walked_through_once(text: str) -> None:
    with pytest.raises(ValueError):
        toml.loads(f"a = {text}", "test")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("#=1", "is no dotted key"),
        ("# =1", "is no dotted key"),
        ("[a]\nb=1", "is no dotted key"),
        ("a=0\nb=1", ""),
        ("title.x=" + "y" * 100_000, "is a value"),
        ("train.epochs=" + "y" * 100_000, "(99,8"),
        ("methods." + "9" * 5000 + ".lr=1", "unknown entry"),
        ("compute.device='cuda:" + "9" * 5000 + "'", "must be auto"),
        ("train.lr=[" + "1," * 90_000 + "]", "train.lr"),
    ],
)
def test_odd_overrides_end_in_one_short_line(override: str, told: str) -> None:
    message = refused(override)
    assert told in message
    assert len(message.splitlines()) == 1


def test_an_override_adds_no_second_key() -> None:
    assert presets.load("quickstart", ["title=1\nx=2"]).title == "1\nx=2"


def test_thousands_of_unknown_keys_are_told_shortly() -> None:
    message = refused(*(f"zz{n}=1" for n in range(3_000)))
    assert len(message.splitlines()) == 41
    assert message.endswith("… and 2960 more.")


def test_what_is_like_nothing_is_not_compared() -> None:
    assert len(unknown("key", "x" * 10**6, ["x" * 10**6, "y"])) < 1_000


def test_a_message_never_repeats_megabytes() -> None:
    told = str(BadInput("begin " + "x" * 10**7 + " end\n" * 5_000))
    assert len(told) < 10_000
    assert told.startswith("begin")
    assert "more lines" in told


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("~nosuchuser/x", "nobody's home"),
        ("a\0b", "NUL"),
        ("a/" * 3000, "6,000 bytes; the limit is 4,096 (CHELATE_MAX_PATH_BYTES"),
        ("ä" * 2049, "4,098 bytes"),
        ("a" * 256, "256 bytes"),
        ("\ud800" * 90, "270 bytes"),
    ],
)
def test_paths_that_no_file_has(path: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        expanded(path, "data.path")
    assert told in str(caught.value)
    assert str(caught.value).startswith("data.path = ")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("key", ["train.from", "data.path"])
@pytest.mark.parametrize("path", ["~nosuchuser/x", "a\\u0000b", "a/" * 3000, "a" * 300])
def test_the_same_in_every_key_that_is_a_path(key: str, path: str) -> None:
    table = ["data={name='csv-table',path='x'}"] if key == "data.path" else []
    told = refused(*table, f'{key}="{path}"', planned=True)
    assert key in told


def test_numbers_too_large_to_plan_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(*_: Any) -> Any:
        return float(10**400)

    monkeypatch.setattr(Attack, "units", overflow)
    assert "numbers too large to plan with" in refused(planned=True)
