"""Presets: TOML in and out, overrides, strict types, the schema."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import RAW

from engine.spec import presets
from engine.spec.component import KINDS
from engine.spec.errors import BadInput
from engine.spec.experiment import Experiment
from engine.spec.registry import registered

SHIPPED = sorted(presets.shipped())


def load_text(text: str) -> Experiment:
    return presets.validate(tomllib.loads(text), where="test")


# --- TOML ----------------------------------------------------------------------------------------


def test_the_promised_presets_are_shipped() -> None:
    assert {"quickstart", "cifar10-folder-mlp"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("full", [False, True])
def test_a_shipped_preset_survives_toml_exactly(name: str, full: bool) -> None:
    experiment = presets.load(name)
    again = load_text(presets.to_toml(experiment, full=full))
    assert again == experiment
    assert presets.to_data(again, full=True) == presets.to_data(experiment, full=True)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_written_holds_what_the_file_held_and_nothing_more(name: str) -> None:
    raw = presets.read_toml(presets.locate(name))
    assert presets.to_data(presets.load(name)) == raw


def test_a_written_preset_says_who_wrote_it(raw: dict[str, Any]) -> None:
    assert presets.to_toml(presets.validate(raw, "test")).startswith("# Written by chelate")


positive = st.floats(1e-9, 1e3, allow_nan=False)
rates = st.lists(positive, min_size=1, max_size=3, unique=True)
names = st.text("abcXYZ019 _-.,=+", min_size=1, max_size=12)
gaussians = st.fixed_dictionaries(
    {"name": st.just("gaussian")},
    optional={"share": st.floats(0.01, 0.9), "noise_std": positive},
)
unlearners = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("gd")},
        optional={"lr": positive, "momentum": st.floats(0, 0.99), "grid": st.none() | st.just(0)},
    ),
    st.fixed_dictionaries(
        {"name": st.just("ngd"), "label": names},
        optional={"grad_noise_std": positive, "batch_size": st.integers(1, 999)},
    ),
)


@st.composite
def experiments(draw: st.DrawFn) -> dict[str, Any]:
    """Presets of every shape that the shipped components allow."""
    raw = copy.deepcopy(RAW)
    raw["title"] = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    raw["seeds"] = draw(
        st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5, unique=True),
    )
    raw["budgets"] = sorted(
        draw(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=4, unique=True))
    )
    raw["validation"] = draw(st.floats(0, 0.5))
    raw["model"] = draw(
        st.sampled_from([{"name": "linear"}, {"name": "mlp"}, {"name": "mlp", "width": 7}])
    )
    raw["train"] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(1, 10**6),
                "lr": positive,
                "optimizer": st.sampled_from(["sgd", "adamw"]),
                "schedule": st.sampled_from(["constant", "cosine", "one-cycle"]),
                "warmup": st.floats(0, 0.99),
                "channels_last": st.booleans() | st.just("auto"),
                "from": st.just("some/where.safetensors"),
            },
        )
    )
    raw["attacks"] = [draw(gaussians)]
    if draw(st.booleans()):
        raw["verdicts"] = {"gaussian": {"mean_score": draw(positive)}}
    method = draw(unlearners)
    if method.pop("grid", None) is not None or draw(st.booleans()):
        method["grid"] = {"lr": draw(rates), "batch_size": [32, 64]}
    raw["methods"] = [{"name": "none"}, method]
    if draw(st.booleans()):
        raw["grid"] = {"train.lr": draw(rates), "model.width": [8]}
    return raw


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_any_experiment_survives_toml_exactly(raw: dict[str, Any]) -> None:
    experiment = presets.validate(raw, "test")
    for full in (False, True):
        again = load_text(presets.to_toml(experiment, full=full))
        assert again == experiment
        assert presets.to_data(again, full=True) == presets.to_data(experiment, full=True)
    assert presets.to_data(experiment) == raw


# --- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("train.epochs=5", lambda raw: raw["train"]["epochs"] == 5),
        (" train.epochs = 5 ", lambda raw: raw["train"]["epochs"] == 5),
        ("train.lr=1e-3", lambda raw: raw["train"]["lr"] == 1e-3),
        ("train.channels_last=true", lambda raw: raw["train"]["channels_last"] is True),
        ("train.schedule=constant", lambda raw: raw["train"]["schedule"] == "constant"),
        ("train.schedule='constant'", lambda raw: raw["train"]["schedule"] == "constant"),
        ("title=a = b", lambda raw: raw["title"] == "a = b"),
        ("title=", lambda raw: raw["title"] == ""),
        ("data.path=/some/where else", lambda raw: raw["data"]["path"] == "/some/where else"),
        ("budgets=[0.1, 0.2]", lambda raw: raw["budgets"] == [0.1, 0.2]),
        ("budgets.1=0.75", lambda raw: raw["budgets"] == [0.25, 0.75]),
        ("methods.3.lr=0.5", lambda raw: raw["methods"][3]["lr"] == 0.5),
        ("methods.gd.lr=0.5", lambda raw: raw["methods"][3]["lr"] == 0.5),
        ("methods.gd.grid.lr=[1, 2]", lambda raw: raw["methods"][3]["grid"]["lr"] == [1, 2]),
        ("methods.retrain-fresh.label=x", lambda raw: raw["methods"][2]["label"] == "x"),
        ("compute.threads=2", lambda raw: raw["compute"]["threads"] == 2),  # a table that was not there
        ("grid.'train.lr'=[0.1, 0.2]", lambda raw: raw["grid"]["train.lr"] == [0.1, 0.2]),
        ('grid."train.lr"=[0.1, 0.2]', lambda raw: raw["grid"]["train.lr"] == [0.1, 0.2]),
    ],
)  # fmt: skip
def test_an_override_reaches_its_place(raw: dict[str, Any], assignment: str, read: Any) -> None:
    before = copy.deepcopy(raw)
    presets.set_dotted(raw, assignment)
    assert read(raw)
    assert raw != before


def test_overriding_one_element_leaves_its_equal_neighbours(raw: dict[str, Any]) -> None:
    raw["methods"] = [{"name": "gd"}, {"name": "gd"}]
    presets.set_dotted(raw, "methods.1={name='ngd'}")
    assert raw["methods"] == [{"name": "gd"}, {"name": "ngd"}]
    raw["seeds"] = [7, 7]
    presets.set_dotted(raw, "seeds.1=8")
    assert raw["seeds"] == [7, 8]


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("train.epochs", "KEY=VALUE"),
        ("=5", "KEY=VALUE"),
        ("methods.dg.lr=1", "Known: gd,"),
        ("methods.9.lr=1", "'9'"),
        ("train.epochs.x=1", "train.epochs"),
        ("seeds.0.x=1", "seeds.0"),
        ("seeds.7=1", "'7'"),
        ("a..b=1", "a..b"),
    ],
)
def test_a_misplaced_override_is_refused(raw: dict[str, Any], assignment: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        presets.set_dotted(raw, assignment)
    assert assignment in str(caught.value)
    assert told in str(caught.value)


def test_a_name_listed_twice_must_be_chosen_by_number(raw: dict[str, Any]) -> None:
    raw["methods"] += [{"name": "gd", "label": "b"}]
    with pytest.raises(BadInput, match="2 times"):
        presets.set_dotted(raw, "methods.gd.lr=1")
    presets.set_dotted(raw, "methods.4.lr=1")
    assert raw["methods"][4]["lr"] == 1


# --- types and messages --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", "5"), ("train.epochs", True), ("train.epochs", 5.5), ("train.lr", "0.1"),
        ("train.lr", True), ("train.lr", float("nan")), ("train.lr", float("inf")),
        ("train.channels_last", 1), ("train.channels_last", "yes"), ("title", 5),
        ("seeds", 3), ("seeds", [0.5]), ("seeds", ["0"]), ("seeds", [True]), ("seeds", [2**31]),
        ("budgets", 0.1), ("budgets", ["0.1"]), ("validation", 1.0), ("compute.workers", 0),
        ("data.limit_train", "300"), ("model.width", 16.5), ("methods.gd.lr", "0.1"),
        ("methods.gd.lr", False), ("attacks.gaussian.share", 5), ("audits.0", "gaussian"),
        ("attacks", {"name": "gaussian"}), ("data", [{"name": "mnist5k"}]), ("train", 3),
    ],
)  # fmt: skip
def test_types_are_strict(raw: dict[str, Any], key: str, value: Any) -> None:
    presets._assign(raw, key.split("."), value, "test")
    with pytest.raises(BadInput, match=r"^file\.toml: ") as caught:
        presets.validate(raw, "file.toml")
    assert len(str(caught.value).splitlines()) == 1
    assert key.split(".")[0] in str(caught.value)


def test_every_fault_has_its_line(raw: dict[str, Any]) -> None:
    raw["train"] = {"epoch": 1, "lr": "fast"}
    raw["sed"] = [1]
    with pytest.raises(BadInput) as caught:
        presets.validate(raw, "file.toml")
    lines = sorted(str(caught.value).splitlines())
    assert len(lines) == 3
    assert "sed" in lines[0]
    assert "'seeds'" in lines[0]
    assert "train.epoch" in lines[1]
    assert "'epochs'" in lines[1]
    assert "train.lr = 'fast'" in lines[2]


def test_an_empty_list_is_told_in_our_words(raw: dict[str, Any]) -> None:
    raw["seeds"] = []
    with pytest.raises(BadInput) as caught:
        presets.validate(raw, "file.toml")
    assert str(caught.value) == "file.toml: seeds: must hold at least 1 value."


def test_a_wrong_seed_is_one_fault_not_two(raw: dict[str, Any]) -> None:
    raw["seeds"] = [-1]
    with pytest.raises(BadInput) as caught:
        presets.validate(raw, "file.toml")
    assert str(caught.value).startswith("file.toml: seeds[0] = -1: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"methods": [{"name": "gd"}, {"name": "gd"}]}, "listed twice"),
        ({"audits": [{"name": "accuracy"}, {"name": "accuracy"}]}, "listed twice"),
        ({"seeds": [1, 1]}, "twice"),
        ({"budgets": [0.1, 0.1]}, "twice"),
        ({"budgets": []}, "budgets is empty"),
        ({"methods": []}, "methods"),
        ({"grid": {"seeds": [1, 2]}}, "cannot vary"),
        ({"grid": {"train.lr": []}}, "no values"),
        ({"methods": [{"name": "gd", "grid": {"rate": [1]}}]}, "unknown key 'rate'"),
        ({"methods": [{"name": "gd", "grid": {"lr": []}}]}, "list of values"),
        ({"methods": [{"name": "gd", "grid": {"lr": [1, "2"]}}]}, "'2'"),
        ({"methods": [{"lr": 1}]}, "name is missing"),
    ],
)
def test_impossible_combinations_are_refused(
    raw: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        presets.validate(raw | change, "test")


def test_budgets_are_kept_in_order(raw: dict[str, Any]) -> None:
    raw["budgets"] = [0.5, 0.25]
    assert presets.validate(raw, "test").budgets == (0.25, 0.5)


# --- the top-level grid and the schema -----------------------------------------------------------


def test_the_top_level_grid_makes_settings(raw: dict[str, Any]) -> None:
    raw["grid"] = {"train.lr": [0.1, 0.2], "model.width": [8, 16]}
    found = presets.settings(presets.validate(raw, "test"), "test")
    assert [label for label, _ in found] == [
        "train.lr=0.1,model.width=8", "train.lr=0.1,model.width=16",
        "train.lr=0.2,model.width=8", "train.lr=0.2,model.width=16",
    ]  # fmt: skip
    assert [(e.train.lr, e.model.width) for _, e in found] == [
        (0.1, 8), (0.1, 16), (0.2, 8), (0.2, 16),
    ]  # fmt: skip
    assert all(e.train.epochs == 2 and not e.grid for _, e in found)


@pytest.mark.parametrize("values", [["fast"], [-1], [{"a": 1}]])
def test_a_bad_value_in_the_top_level_grid_is_named(raw: dict[str, Any], values: list[Any]) -> None:
    raw["grid"] = {"train.lr": values}
    with pytest.raises(BadInput, match=r"train\.lr"):
        presets.settings(presets.validate(raw, "test"), "test")


def test_the_schema_is_json_and_names_every_component() -> None:
    schema = json.loads(json.dumps(Experiment.model_json_schema(), allow_nan=False))
    assert schema["type"] == "object"
    text = json.dumps(schema)
    for kind in KINDS:
        for name, cls in registered(kind).items():
            assert json.dumps(name) in text, f"{kind} {name}"
            for key in cls.model_fields:
                assert json.dumps(key) in text, f"{kind} {name}: {key}"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_component_has_a_card(kind: str) -> None:
    for name, cls in registered(kind).items():
        assert cls.card.title, name
        assert cls.card.summary, name
        assert cls.card.reference, name


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_preset_as_editors_of_windows_write_it_is_read(
    encoding: str, end: str, tmp_path: Path
) -> None:
    from console.saving import has_comments

    plain = presets.shipped()["quickstart"].read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_bytes(plain.replace("\n", end).encode(encoding))
    assert presets.load(str(path)) == presets.load("quickstart")
    assert presets.preset_text(path) == plain
    assert has_comments(path) == has_comments(presets.shipped()["quickstart"])
