"""Composing an experiment without a screen: forms, edits, complaints, costs, files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from staged import PRESET, Staged, staged

from console.appraisal import Rates, appraise, told
from console.choosing import choices
from console.compose import HERE, Draft, Section
from console.estimating import duration
from console.fields import Field, fields_of
from console.planning import expand, prepare
from console.saving import save_preset, write_preset
from engine.jobs.home import Home
from engine.jobs.store import Store
from engine.spec import toml
from engine.spec.component import KINDS
from engine.spec.errors import BadInput
from engine.spec.experiment import COMPONENT_FIELDS, Compute, Experiment, Table, Train
from engine.spec.presets import load, read_toml, set_dotted, shipped, validate
from engine.spec.registry import registered


@pytest.fixture
def there(tmp_path: Path) -> Staged:
    return staged(tmp_path)


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft.start("quickstart", Home(tmp_path))


def section(draft: Draft, field: str, name: str = "") -> Section:
    return next(s for s in draft.sections() if s.field == field and (not name or s.name == name))


def field(draft: Draft, where: Section, key: str) -> Field:
    return next(one for one in draft.fields(where) if one.key == key)


def write(draft: Draft, where: Section, key: str, text: str) -> None:
    draft.write(where, field(draft, where, key), text)


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_registered_component_has_a_form_that_reads_its_own_defaults(kind: str) -> None:
    for name, cls in registered(kind).items():
        for one in fields_of(cls, grid=True, without=("grid",)):
            assert one.takes, (name, one.key)
            if not one.default:
                continue
            value = one.read(one.default)
            info = next(f for k, f in cls.model_fields.items() if one.key in (k, f.alias))
            expected = info.get_default(call_default_factory=True)
            assert value == (list(expected) if isinstance(expected, tuple) else expected)


@pytest.mark.parametrize("table", [Train, Compute])
def test_tables_have_forms(table: type[BaseModel]) -> None:
    kinds = {one.key: one.kind for one in fields_of(table)}
    assert kinds.get("schedule", "choice") == "choice"
    assert kinds.get("compile", "bool") == "bool"
    assert kinds.get("threads", "number") == "number"
    assert kinds.get("slurm", "table") == "table"


def test_a_table_in_a_table_is_typed_as_toml() -> None:
    [slurm] = [one for one in fields_of(Compute) if one.key == "slurm"]
    assert "partition" in slurm.takes
    assert Compute.model_validate({"slurm": slurm.read(slurm.default)}) == Compute()
    assert slurm.read('{ partition = "gpu" }') == {"partition": "gpu"}


@pytest.mark.parametrize(
    ("kind", "scalar", "text", "value"),
    [
        ("number", True, "0.5", 0.5),
        ("number", True, "1e-3", 1e-3),
        ("number", True, "five", "five"),
        ("number", True, "0.1, 0.2", [0.1, 0.2]),
        ("number", True, "0.1, x", [0.1, "x"]),
        ("number", True, "1\nseeds = 2", "1\nseeds = 2"),
        ("list", False, "3", [3]),
        ("list", False, "[1, 2]", [1, 2]),
        ("list", True, "centre", "centre"),
        ("list", True, "3", 3),
        ("text", True, "1", "1"),
        ("bool", True, "true", True),
        ("table", False, '{ "train.lr" = [0.1] }', {"train.lr": [0.1]}),
    ],
)
def test_text_is_read_as_toml_and_else_left_as_it_is(
    kind: str, scalar: bool, text: str, value: object
) -> None:
    one = Field("key", kind, "", scalar=scalar)  # type: ignore[arg-type]
    assert one.read(text) == value


# --- edits ---------------------------------------------------------------------------------------


def test_a_shipped_preset_is_valid_and_unchanged_at_first(tmp_path: Path) -> None:
    for name in shipped():
        draft = Draft.start(name, Home(tmp_path))
        assert draft.check() == []
        assert draft.diff() == []
        assert not draft.changed
        for part in draft.sections():
            assert all(entry.problem == "" for entry in draft.entries(part))


def test_a_run_can_be_started_from(there: Staged) -> None:
    draft = Draft.start(there.run.id, there.home)
    assert draft.name == "staged"
    assert draft.check() == []
    assert validate(draft.raw, "x") == there.run.experiment


def test_unknown_sources_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown preset 'quickstrat'.*Nor is it a run"):
        Draft.start("quickstrat", Home(tmp_path))


def test_what_is_typed_gets_the_command_lines_own_message(draft: Draft) -> None:
    where = section(draft, "attacks")
    write(draft, where, "share", "5")
    raw = read_toml(shipped()["quickstart"])
    set_dotted(raw, "attacks.gaussian.share=5")
    with pytest.raises(BadInput) as refused:
        validate(raw, HERE)
    [problem] = draft.check()
    assert f"{HERE}: {problem.text}" == str(refused.value)
    assert where.holds(problem)
    shown = {entry.field.key: entry for entry in draft.entries(where, [problem])}
    assert shown["share"].problem == problem.text
    assert shown["noise_std"].problem == ""


def test_complaints_about_lists_find_their_key(draft: Draft) -> None:
    general = section(draft, "general")
    write(draft, general, "seeds", "0, x")
    problems = draft.check()
    shown = {entry.field.key: entry.problem for entry in draft.entries(general, problems)}
    assert "x" in shown["seeds"]
    assert general.holds(problems[0])


def test_several_values_make_a_grid_and_one_value_unmakes_it(draft: Draft) -> None:
    where = section(draft, "methods", "gd")
    write(draft, where, "lr", "0.01, 0.1")
    assert draft.table(where) == {"name": "gd", "grid": {"lr": [0.01, 0.1]}}
    assert draft.check() == []
    assert next(e.text for e in draft.entries(where) if e.field.key == "lr") == "0.01, 0.1"
    write(draft, where, "lr", "0.2")
    assert draft.table(where) == {"name": "gd", "lr": 0.2}
    write(draft, where, "lr", "")
    assert draft.table(where) == {"name": "gd"}


def test_a_list_is_no_grid(tmp_path: Path) -> None:
    draft = Draft.start("badnets-mnist", Home(tmp_path))
    where = section(draft, "attacks")
    write(draft, where, "place", "2, 3")
    assert draft.table(where)["place"] == [2, 3]
    write(draft, where, "place", "[[2, 3], [4, 5]]")
    assert draft.table(where)["grid"] == {"place": [[2, 3], [4, 5]]}
    assert draft.check() == []


def test_an_emptied_table_goes_and_undo_brings_it_back(tmp_path: Path) -> None:
    draft = Draft(dict(PRESET) | {"compute": {"workers": 1}})
    before = draft.toml()
    write(draft, section(draft, "compute"), "workers", "")
    assert "compute" not in draft.raw
    assert draft.undo()
    assert draft.toml() == before
    assert draft.redo()
    assert "compute" not in draft.raw
    assert not draft.redo()


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("5", 5), ("dog", "dog"), ('"5"', "5"), ("true", "true"), ("2024-01-01", "2024-01-01"),
        ('"a, b"', "a, b"), ("New York", "New York"),
    ],
)  # fmt: skip
def test_a_class_is_typed_by_index_or_by_name(draft: Draft, typed: str, value: object) -> None:
    where = draft.take("attacks", "badnets")
    write(draft, where, "target", typed)
    assert draft.table(where)["target"] == value
    assert type(draft.table(where)["target"]) is type(value)
    assert field(draft, where, "target").takes == "whole number or text"
    shown = next(one for one in draft.entries(where) if one.field.key == "target").text
    write(draft, where, "target", shown)
    assert draft.table(where)["target"] == value, "what is shown reads back as the same"
    assert not draft.check()


def test_classes_in_grids_and_lists(draft: Draft) -> None:
    where = draft.take("attacks", "badnets")
    write(draft, where, "target", 'dog, 5, "7"')
    assert draft.table(where)["grid"] == {"target": ["dog", 5, "7"]}
    shown = next(one for one in draft.entries(where) if one.field.key == "target").text
    write(draft, where, "target", shown)
    assert draft.table(where)["grid"] == {"target": ["dog", 5, "7"]}
    where = draft.take("attacks", "interclass-confusion")
    write(draft, where, "classes", "cat, 5")
    assert draft.table(where)["classes"] == ["cat", 5]
    write(draft, where, "classes", "[cat, 5], [1, 2]")
    write(draft, where, "classes", '["cat", 5], [1, 2]')
    assert draft.table(where)["grid"] == {"classes": [["cat", 5], [1, 2]]}


@given(st.one_of(st.integers(), st.text(max_size=12), st.lists(st.text(max_size=6), min_size=2)))
def test_what_is_shown_of_a_class_reads_back_as_the_same(value: object) -> None:
    one = next(f for f in fields_of(registered("attack")["badnets"], grid=True) if f.mixed)
    assert one.read(one.written(value)) == value


def test_twins_get_labels_and_lists_keep_their_order(draft: Draft) -> None:
    gd = section(draft, "methods", "gd")
    twin = draft.twin(gd)
    assert draft.check() == []
    assert draft.table(twin)["label"] == "2"
    draft.take("methods", "gd")
    assert draft.check() == []
    moved = draft.move(twin, -5)
    assert moved.index == 0
    draft.drop(moved)
    assert [m["name"] for m in draft.raw["methods"]][:2] == ["none", "retrain"]


def test_unknown_keys_can_be_emptied(draft: Draft) -> None:
    draft.raw["methods"][3]["typo"] = 1
    where = section(draft, "methods", "gd")
    shown = {e.field.key: e for e in draft.entries(where, draft.check())}
    assert "unknown key 'typo'" in shown["typo"].problem
    draft.write(where, shown["typo"].field, "")
    assert draft.check() == []


def test_diff_shows_what_changed_and_nothing_else(draft: Draft) -> None:
    write(draft, section(draft, "train"), "epochs", "3")
    changed = [line for line in draft.diff()[2:] if line[0] in "+-"]
    assert changed == ["-epochs = 20", "+epochs = 3"]


# --- choosing ------------------------------------------------------------------------------------


def test_an_audit_without_its_attack_says_so(draft: Draft) -> None:
    reasons = {choice.name: choice.reason for choice in choices(draft.raw, "audits")}
    assert reasons["attack-success"] == "needs an attack that gives trigger; none chosen does"
    draft.take("attacks", "badnets")
    assert {c.name: c.reason for c in choices(draft.raw, "audits")}["attack-success"] == ""


def test_every_registry_is_offered_with_cards(draft: Draft) -> None:
    for key, (kind, _) in COMPONENT_FIELDS.items():
        offered = choices(draft.raw, key)
        assert [choice.name for choice in offered] == list(registered(kind))
        assert all(choice.card.summary for choice in offered)


def test_a_draft_without_data_still_offers_models(draft: Draft) -> None:
    draft.raw["data"] = {"name": "image-folder"}
    assert all(choice.reason == "" for choice in choices(draft.raw, "model"))


def test_what_is_for_other_data_says_so(draft: Draft) -> None:
    draft.raw["data"] = {"name": "sentences"}
    for key, name in (("model", "resnet18"), ("attacks", "badnets")):
        reasons = {choice.name: choice.reason for choice in choices(draft.raw, key)}
        assert reasons[name] == "works on images; the data hold texts"
    draft.raw["data"] = {"name": "bundled-table"}
    reasons = {choice.name: choice.reason for choice in choices(draft.raw, "model")}
    assert reasons["cnn-small"] == "works on images; the data hold tables" and not reasons["mlp"]


# --- costs ---------------------------------------------------------------------------------------


def test_a_computed_experiment_costs_nothing_more(there: Staged) -> None:
    rates = Rates.read(Store(there.home.store))
    found = appraise(dict(PRESET), "staged", there.home, rates, "x")
    assert (found.todo, found.tee_todo, found.seconds) == (0, 0, 0)
    assert "all in the store" in told(found)


def test_a_changed_one_is_paced_by_what_is_stored(there: Staged) -> None:
    raw = dict(PRESET) | {"seeds": [0, 1, 2, 3]}
    found = appraise(raw, "staged", there.home, Rates.read(Store(there.home.store)), "x")
    assert found.stages > found.stored > 0
    assert found.seconds is not None
    assert 0 < found.seconds < 600
    assert found.unknown == 0
    assert not found.assumed
    assert f"{found.todo} to do" in told(found)
    assert "assumed" not in told(found)


def test_what_was_never_stored_is_told_from_the_plans_own_estimate(there: Staged) -> None:
    """A store full of something else (an MLP on digits) says nothing of a transformer on texts."""
    rates = Rates.read(Store(there.home.store))
    raw = read_toml(shipped()["backdoor-text"])
    found = appraise(raw, "backdoor-text", there.home, rates, "x")
    alone = appraise(raw, "backdoor-text", there.home, Rates(), "x")
    [estimate] = found.planned.plan.estimates
    training = estimate.seconds(found.tee, "cpu") / found.planned.width
    assert alone.seconds == pytest.approx(training)
    assert found.seconds is not None
    assert training <= found.seconds < training + 60  # and audits as of digits
    assert "(assumed)" in told(found)
    assert "(assumed)" in told(alone)


def test_where_nothing_is_known_at_all_the_time_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.lab.models.mlp.MLP.size", lambda *_: None)
    found = appraise(dict(PRESET), "staged", Home(tmp_path), Rates(), "x")
    assert found.seconds is None
    assert "time unknown" in told(found)


def test_what_planning_refuses_is_said(tmp_path: Path) -> None:
    raw = dict(PRESET) | {"attacks": [{"name": "gaussian", "share": 0.0001}],
                          "audits": [{"name": "accuracy"}]}  # fmt: skip
    with pytest.raises(BadInput, match="poisons none"):
        appraise(raw, "staged", Home(tmp_path), Rates(), "x")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7500, "2 h 05 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- files ---------------------------------------------------------------------------------------


def test_a_saved_draft_plans_identically_headless(draft: Draft, tmp_path: Path) -> None:
    write(draft, section(draft, "methods", "gd"), "lr", "0.01, 0.1")
    file = tmp_path / "mine.toml"
    write_preset(validate(draft.raw, HERE), file)
    headless = prepare(str(file), None, None, "cpu").plan
    here = expand(validate(draft.raw, HERE), "mine", Path("x"), "cpu").plan
    assert list(headless.stages) == list(here.stages)
    assert headless.cells == here.cells


def test_saving_never_overwrites_unasked_nor_loses_comments(tmp_path: Path) -> None:
    experiment = load("quickstart")
    ours, theirs = tmp_path / "ours.toml", tmp_path / "theirs.toml"
    write_preset(experiment, ours)
    with pytest.raises(BadInput, match="exists; --force replaces it"):
        write_preset(experiment, ours)
    write_preset(experiment, ours, force=True)
    theirs.write_text("# mine\n" + ours.read_text())
    before = theirs.read_text()
    with pytest.raises(BadInput, match="comments, which would be lost"):
        write_preset(experiment, theirs, force=True)
    assert theirs.read_text() == before
    for wrong in ("folder.toml", "name.txt", "no/where.toml"):
        if wrong.startswith("folder"):
            (tmp_path / wrong).mkdir()
        with pytest.raises(BadInput):
            write_preset(experiment, tmp_path / wrong)


def test_presets_save_applies_overrides_to_a_run(
    there: Staged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "again.toml"
    save_preset("staged", file, ["train.epochs=3"], "4,5", there.home.root, False)
    assert str(file) in capsys.readouterr().out
    again = load(str(file))
    assert (again.train.epochs, again.seeds) == (3, (4, 5))
    with pytest.raises(BadInput, match="epochs"):
        save_preset("staged", tmp_path / "b.toml", ["train.epochs=no"], None,
                    there.home.root, False)  # fmt: skip
    assert not (tmp_path / "b.toml").exists()


def test_shipped_presets_survive_our_way_of_writing() -> None:
    for path in shipped().values():
        raw = read_toml(path)
        assert tomllib.loads(toml.dumps(raw)) == raw


values = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=6), values, max_size=5))
def test_any_data_survive_it(raw: dict[str, object]) -> None:
    assert tomllib.loads(toml.dumps(raw)) == raw


def test_every_table_of_a_preset_can_be_edited() -> None:
    draft = Draft(dict(PRESET))
    tables = {
        name
        for name, told in Experiment.model_fields.items()
        if isinstance(told.annotation, type) and issubclass(told.annotation, Table)
    }
    assert {"train", "forget", "compute"} <= tables <= {s.field for s in draft.sections()}
    where = section(draft, "forget")
    write(draft, where, "share", "0.25")
    assert draft.raw["forget"] == {"share": 0.25} and draft.check() == []
    write(draft, where, "share", "2")
    (problem,) = draft.check()
    assert (problem.field, problem.key) == ("forget", "share")
    write(draft, where, "share", "")
    assert draft.raw == PRESET


def test_a_preset_that_tunes_loads_shows_and_saves_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    grid = "[tune.grids.gd]\nlr = [0.01, 0.1]\n"
    path.write_text(toml.dumps(PRESET) + "\n[tune]\ntrials = 4\nmethods = ['gd']\n" + grid)
    draft = Draft.start(str(path), Home(tmp_path))
    assert draft.check() == [] and not draft.changed
    where = section(draft, "tune")
    told = {entry.field.key: entry.text for entry in draft.entries(where)}
    assert told["trials"] == "4"
    assert "0.01, 0.1" in told["grids"]
    assert tomllib.loads(draft.toml()) == read_toml(path)
    for key, text in told.items():
        if text:
            write(draft, where, key, text)
    assert not draft.changed, "what is shown reads back as it was"
    write(draft, where, "trials", "0")
    (problem,) = draft.check()
    assert (problem.field, problem.key) == ("tune", "trials")
    for key in ("trials", "methods", "grids"):
        write(draft, where, key, "")
    assert draft.raw["tune"] == {}, "without keys it still tunes, by the defaults"
    assert not [
        s for s in Draft.start("quickstart", Home(tmp_path)).sections() if s.field == "tune"
    ]


# --- margins -------------------------------------------------------------------------------------

VERDICTS = "[verdicts]\nattack-success.asr = 0.03\n"


def test_margins_load_show_and_save_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{toml.dumps(PRESET)}\n{VERDICTS}")
    draft = Draft.start(str(path), Home(tmp_path))
    assert draft.check() == [] and not draft.changed
    where = section(draft, "verdicts")
    shown = {e.field.key: (e.text, e.field.default, e.field.takes) for e in draft.entries(where)}
    assert shown == {
        "accuracy.test_accuracy": ("", "0.02", "number > 0, < 1"),
        "gaussian.mean_score": ("", "0.15", "number > 0"),
        "attack-success.asr": ("0.03", "0.05", "number > 0, < 1"),
    }
    write(draft, section(draft, "train"), "epochs", "3")
    assert VERDICTS in draft.toml()
    saved = tmp_path / "saved.toml"
    write_preset(validate(draft.raw, HERE), saved)
    assert VERDICTS in saved.read_text()
    assert Draft.start(str(saved), Home(tmp_path)).raw["verdicts"] == draft.raw["verdicts"]


def test_a_margin_is_typed_refused_emptied_and_undone(tmp_path: Path) -> None:
    draft = Draft(dict(PRESET))
    where = section(draft, "verdicts")
    write(draft, where, "gaussian.mean_score", "0.2")
    write(draft, where, "attack-success.asr", "0.04")
    assert draft.check() == []
    assert draft.raw["verdicts"] == {
        "gaussian": {"mean_score": 0.2}, "attack-success": {"asr": 0.04},
    }  # fmt: skip
    for text in ("0", "1.5", "wide"):
        write(draft, where, "attack-success.asr", text)
        (problem,) = draft.check()
        assert (problem.field, problem.key) == ("verdicts", "attack-success.asr")
        bad = {e.field.key: e.problem for e in draft.entries(where, [problem]) if e.problem}
        assert list(bad) == ["attack-success.asr"]
    write(draft, where, "attack-success.asr", "")
    assert draft.raw["verdicts"] == {"gaussian": {"mean_score": 0.2}}
    write(draft, where, "gaussian.mean_score", "")
    assert draft.raw == PRESET
    assert draft.undo() and draft.raw["verdicts"] == {"gaussian": {"mean_score": 0.2}}


@pytest.mark.parametrize("odd", [{"attack-success": {"asr": 0.03}}, {"theirs": {"x": 1}}, {"a": 3}])
def test_a_margin_of_an_audit_that_is_not_listed_can_be_emptied(odd: dict[str, object]) -> None:
    audits = [{"name": "accuracy"}, {"name": "gaussian"}]
    draft = Draft(PRESET | {"audits": audits, "verdicts": odd})
    where = section(draft, "verdicts")
    problems = draft.check()
    assert problems and where.holds(problems[0])
    (entry,) = [e for e in draft.entries(where, problems) if e.problem]
    draft.write(where, entry.field, "")
    assert draft.check() == [] and "verdicts" not in draft.raw


def test_without_margins_there_is_no_table_of_them() -> None:
    draft = Draft(PRESET | {"audits": [{"name": "agreement"}]})
    assert not [one for one in draft.sections() if one.field == "verdicts"]


def test_a_margin_is_said_before_anything_is_launched(there: Staged) -> None:
    raw = PRESET | {"verdicts": {"attack-success": {"asr": 0.03}}}
    found = appraise(raw, "x", there.home, Rates.read(Store(there.home.store)), HERE)
    assert "margin of attack-success.asr: ±0.03 (shipped: ±0.05)" in found.remarks
    assert found.todo == 0, "it computes nothing"
