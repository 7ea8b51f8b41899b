"""[tune]: what is tried, which trial wins, and how a search becomes stages."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lab.methods.gd import GD
from engine.lab.methods.ngd import NGD
from engine.spec import presets
from engine.spec.component import Method
from engine.spec.errors import BadInput
from engine.spec.experiment import Tune
from engine.spec.plan import Plan, make_plan
from engine.spec.planned import shown
from engine.spec.registry import registered
from engine.spec.tuning import Score, best, candidates, pooled, space

Raw = dict[str, Any]


def planned(raw: Raw) -> Plan:
    return make_plan(presets.validate(raw, "test"), "cpu")


def tuned(raw: Raw, **tune: Any) -> Raw:
    return raw | {"tune": tune}


# --- what is tried -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registered("method"))
def test_every_documented_grid_holds_settings_the_method_takes(name: str) -> None:
    cls = registered("method")[name]
    assert issubclass(cls, Method)
    if cls.role != "unlearn":
        assert not cls.search
    for key, values in cls.search.items():
        assert key in cls.model_fields and key not in ("name", "label", "grid")
        assert len(set(values)) == len(values) > 1
    tried = candidates(cls(), cls.search, 1000) if cls.search else []
    assert all(cls.model_validate(config) for config in tried)


def test_its_own_settings_come_first_then_the_grid_in_order() -> None:
    grid = {"lr": [0.1, 0.01], "momentum": [0.0, 0.5]}
    assert candidates(GD(), grid, 99) == [
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.0},
        {"lr": 0.1, "momentum": 0.5},
        {"lr": 0.01, "momentum": 0.0},
        {"lr": 0.01, "momentum": 0.5},
    ]
    on_it = candidates(GD(lr=0.1, momentum=0.5), grid, 99)
    assert on_it[0] == {"lr": 0.1, "momentum": 0.5}
    assert len(on_it) == 4, "what is on the grid is tried once"


def test_a_sample_is_the_same_every_time_and_part_of_a_larger_one() -> None:
    grid = {"lr": [0.01 * n for n in range(1, 8)], "grad_noise_std": [0.0, 0.1, 0.2, 0.3]}
    whole = candidates(NGD(), grid, 1000)
    smaller: list[Any] = []
    for most in (1, 2, 5, 12, 28, 29):
        found = candidates(NGD(), grid, most)
        assert found == candidates(NGD(), grid, most)
        assert len(found) == most
        assert found[0] == {"lr": 0.01, "grad_noise_std": 0.03}
        assert found == [config for config in whole if config in found], "in the grid's order"
        assert all(config in found for config in smaller)
        smaller = found
    assert len(whole) == 29


def test_what_is_tuned_of_a_listed_method() -> None:
    plain, rows = GD(), NGD(grid={"grad_noise_std": [0.1, 0.3]})
    assert space(Tune(), plain) == GD.search
    assert list(space(Tune(), rows)) == ["lr"], "rows somebody asked for are no trials"
    assert not space(Tune(), GD(grid={"lr": [0.1]}))
    assert not space(Tune(methods=()), plain) and not space(Tune(methods=("ngd",)), plain)
    assert space(Tune(grids={"gd": {"momentum": [0.5]}}), plain) == {"momentum": [0.5]}
    for name in ("none", "retrain", "retrain-fresh", "newton-head"):
        method = registered("method")[name]()
        assert isinstance(method, Method)
        assert not space(Tune(), method)


# --- which trial wins ----------------------------------------------------------------------------


def ok(accuracy: float, forgetting: float | None = None, value: float | None = None) -> Score:
    return Score("ok", "", accuracy, forgetting, value)


START = ok(0.95, 0.5)
LOST = Score("failed", "diverged at step 3: the loss is nan")
NOT = Score("n/a", "needs 3 TEE for its first step")


@pytest.mark.parametrize(
    ("scores", "tolerance", "expected"),
    [
        ([ok(0.95, 0.6), ok(0.94, 0.9), ok(0.93, 1.0)], 0.01, (1, True)),  # .94 is just within
        ([ok(0.95, 0.6), ok(0.9399, 0.9)], 0.01, (0, True)),
        ([ok(0.95, 0.6), ok(0.93, 1.0)], 0.0, (0, True)),
        ([ok(0.99, 0.6), ok(0.97, 0.7)], 0.01, (1, True)),  # better than the start is within
        ([ok(0.95, 0.7), ok(0.96, 0.7)], 0.01, (0, True)),  # a tie: the earlier
        ([ok(0.5, 1.0), ok(0.6, 0.1), ok(0.6, 0.9)], 0.01, (1, False)),  # none within: accuracy
        ([LOST, ok(0.95, 0.1)], 0.01, (1, True)),
        ([LOST, ok(0.2, 0.1), NOT], 0.01, (1, False)),
        ([ok(0.95, None), ok(0.94, 0.2)], 0.01, (1, True)),  # nothing to compare: not within
        ([LOST, NOT], 0.01, None),
        ([], 0.01, None),
    ],
)
def test_the_largest_forgetting_within_the_tolerance_wins(
    scores: list[Score], tolerance: float, expected: tuple[int, bool] | None
) -> None:
    assert best(scores, START, tolerance) == expected


def test_a_point_is_a_point_whatever_floats_make_of_it() -> None:
    """152/300 - 0.01 is a hair above 149/300."""
    start, accuracy = 152 / 300, 149 / 300
    assert accuracy < start - 0.01
    assert best([ok(start, 0.1), ok(accuracy, 0.9)], ok(start), 0.01) == (1, True)


def test_an_oracle_takes_what_lies_nearest_to_retraining() -> None:
    scores = [ok(0.95, None, 0.9), ok(0.95, None, -0.2), ok(0.95, None, 0.1), ok(0.5, None, 0.0)]
    assert best(scores, START, 0.01, ok(0.95, None, 0.0)) == (2, True)
    assert best(scores, START, 0.01, ok(0.95, None, -0.3)) == (1, True)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
    st.floats(0, 0.5),
)
def test_the_rule_says_what_it_says(pairs: list[tuple[float, float]], tolerance: float) -> None:
    found = best([ok(*pair) for pair in pairs], ok(0.8, 0.5), tolerance)
    assert found is not None
    index, within = found
    allowed = [n for n, (accuracy, _) in enumerate(pairs) if accuracy >= 0.8 - tolerance - 1e-9]
    assert within == bool(allowed)
    if allowed:
        assert index == max(allowed, key=lambda n: (pairs[n][1], -n))
    else:
        assert index == max(range(len(pairs)), key=lambda n: (pairs[n][0], -n))


def test_a_trial_over_seeds_is_their_mean_or_its_failure() -> None:
    def told(accuracy: float, forgetting: float) -> Raw:
        return {"outcome": "ok", "reason": "", "validation_accuracy": accuracy,
                "forgetting": forgetting}  # fmt: skip

    score = pooled([(0, told(0.8, 0.4)), (3, told(0.9, 0.5))])
    assert score.validation_accuracy == pytest.approx(0.85)
    assert score.forgetting == pytest.approx(0.45)
    assert score.value is None
    lost = {"outcome": "failed", "reason": "diverged at step 1"}
    assert pooled([(0, told(1, 1)), (3, lost)]) == Score("failed", "diverged at step 1 (seed 3)")


# --- the plan ------------------------------------------------------------------------------------


@pytest.fixture
def other(raw: Raw) -> Raw:
    """RAW with a method that is one-shot and one that has rows of its own."""
    raw["methods"] += [
        {"name": "ssd"}, {"name": "ngd", "grid": {"grad_noise_std": [0.1, 0.3]}},
        {"name": "newton-head"},
    ]  # fmt: skip
    return raw


def test_a_search_is_static_and_shared_by_all_seeds_and_budgets(other: Raw) -> None:
    plan = planned(tuned(other, trials=4))
    kinds = Counter(stage.kind for stage in plan.stages.values())
    assert kinds["proxy"] == 1, "of the first seed"
    assert [(s.method, s.variant, len(s.trials)) for s in plan.searches] == [
        ("gd", "tuned", 4), ("ssd", "tuned", 3), ("ngd", "tuned grad_noise_std=0.1", 4),
        ("ngd", "tuned grad_noise_std=0.3", 4),
    ]  # fmt: skip
    assert kinds["choose"] == 4
    assert kinds["trial"] == 4 + 3 + 4 + 4 + 1, "and the model before unlearning, once"
    readers = [s for s in plan.stages.values() if s.kind == "unlearn" and "choice" in s.inputs]
    assert len(readers) == 4 * 2 * 2
    largest = max(presets.validate(other, "test").budgets) * 2
    for search in plan.searches:
        assert plan.stages[search.choice].kind == "choose"
        inputs = set(plan.stages[search.choice].inputs.values())
        assert inputs == set(search.keys)
        for trial in search.trials:
            (key,) = trial.keys
            stage = plan.stages[key]
            assert stage.config["budget_tee"] == largest
            assert stage.config["method"] | trial.config == stage.config["method"]
    seen: set[str] = set()
    for stage in plan.stages.values():
        assert {*stage.inputs.values(), *stage.after} <= seen, stage.title
        seen.add(stage.key)


def test_no_stage_of_a_search_has_the_poison_among_its_inputs(other: Raw) -> None:
    plan = planned(tuned(other))
    for stage in plan.stages.values():
        if stage.kind in ("proxy", "trial"):
            kinds = {role: plan.stages[key].kind for role, key in stage.inputs.items()}
            assert "craft" not in kinds.values()
            assert "audit" not in kinds.values()
            assert "attack" not in stage.config


def test_seeds_of_the_search(other: Raw) -> None:
    plan = planned(tuned(other, seeds=[1, 0], methods=["gd"]))
    (search,) = plan.searches
    assert {trial.seeds for trial in search.trials} == {(1, 0)}
    assert len(search.starts) == 2
    last = planned(tuned(other, seeds=[1], methods=["gd"]))
    assert last.searches[0].choice != search.choice
    assert {trial.seeds for trial in last.searches[0].trials} == {(1,)}


def test_tuning_leaves_every_other_key_alone(other: Raw) -> None:
    """And what is tuned has keys of its own: an untuned row is never mistaken for a tuned one."""
    before, after = planned(other), planned(tuned(other, methods=["gd"]))
    gd = {key for key, stage in before.stages.items() if "/gd" in stage.title}
    assert before.stages.keys() - gd <= after.stages.keys()
    assert not gd & after.stages.keys()
    assert planned(tuned(other, methods=[])).stages.keys() == before.stages.keys()
    assert planned(tuned(other, methods=[])).to_json()["cells"] == before.to_json()["cells"]
    assert "searches" not in before.to_json()


def test_one_more_trial_keeps_the_others(other: Raw) -> None:
    few, more = (planned(tuned(other, trials=n, methods=["ngd"])) for n in (3, 4))
    trials = [
        {key for key, stage in plan.stages.items() if stage.kind == "trial"} for plan in (few, more)
    ]
    assert trials[0] < trials[1]
    wider = planned(tuned(other, tolerance=0.5, trials=3, methods=["ngd"]))
    assert {k for k, s in wider.stages.items() if s.kind == "trial"} == trials[0]
    assert wider.searches[0].choice != few.searches[0].choice


def test_attacks_on_the_same_rows_share_proxies_and_not_trials(raw: Raw) -> None:
    raw["attacks"] = [{"name": "gaussian", "grid": {"noise_std": [0.2, 0.3]}}]
    plan = planned(tuned(raw))
    kinds = Counter(stage.kind for stage in plan.stages.values())
    assert kinds["proxy"] == 1
    assert kinds["trial"] == 2 * (len(GD.search["lr"]) + 1)
    assert kinds["choose"] == 2


def test_an_oracle_is_another_search(raw: Raw) -> None:
    fair, oracle = (planned(tuned(raw, objective=word)) for word in ("proxy", "oracle"))
    (search,) = oracle.searches
    assert search.variant == "oracle" and search.references
    trial = oracle.stages[search.trials[0].keys[0]]
    assert trial.config["audit"]["name"] == "gaussian", "the first that looks for this poison"
    assert "craft" in trial.inputs
    assert not {s.choice for s in fair.searches} & oracle.stages.keys()
    retrained = oracle.stages[search.references[0]].inputs["start"]
    assert oracle.stages[retrained].title == "retrain s0"


def test_an_oracles_audit_must_judge_by_the_model_alone(raw: Raw) -> None:
    raw = tuned(raw, objective="oracle")
    raw["audits"] = [{"name": "shift"}, {"name": "gaussian"}]  # shift looks at other models too
    trial = planned(raw).stages[planned(raw).searches[0].trials[0].keys[0]]
    assert trial.config["audit"]["name"] == "gaussian"
    raw["audits"] = [{"name": "shift"}]
    with pytest.raises(BadInput, match="no listed audit can judge a trial for attack gaussian"):
        planned(raw)


def test_a_search_costs_what_its_trials_may_spend_and_looking_at_them(raw: Raw) -> None:
    plan = planned(tuned(raw, trials=3))
    (search,) = plan.searches
    look = (30 + 14) / 3 / 270  # forward over 30 validation rows and 14 proxies of 270 rows
    assert [plan.stages[t.keys[0]].tee for t in search.trials] == pytest.approx([1 + look] * 3)
    assert plan.stages[search.starts[0]].tee == pytest.approx(look)


def test_a_tuned_plan_survives_json(other: Raw) -> None:
    plan = planned(tuned(other, objective="oracle"))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert again.searches == plan.searches
    assert list(again.stages) == list(plan.stages)


# --- presets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tune",
    [
        {},
        {"objective": "oracle", "trials": 3, "tolerance": 0.02, "seeds": [1], "methods": ["gd"]},
        {"grids": {"gd": {"lr": [0.1, 0.2], "momentum": [0.0]}}},
    ],
)
def test_tune_survives_toml(raw: Raw, tune: Raw) -> None:
    import tomllib

    experiment = presets.validate(tuned(raw, **tune), "test")
    for full in (False, True):
        text = presets.to_toml(experiment, full=full)
        again = presets.validate(tomllib.loads(text), "test")
        assert again == experiment
        assert make_plan(again, "cpu").to_json() == make_plan(experiment, "cpu").to_json()
    assert presets.to_data(experiment) == tuned(raw, **tune)


def test_a_grid_can_be_set_by_dotted_key(raw: Raw) -> None:
    presets.set_dotted(raw, "tune.grids.gd.lr=[0.1, 0.2]")
    (search,) = planned(raw).searches
    assert [t.config["lr"] for t in search.trials] == [0.01, 0.1, 0.2]


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        ({"grids": {"gdd": {"lr": [1]}}}, "tune.grids.gdd: unknown method 'gdd'"),
        ({"grids": {"gd": {"rate": [1]}}}, "tune.grids.gd: unknown key 'rate'"),
        ({"grids": {"gd": {"lr": [0.1, -1]}}}, "tune.grids.gd.lr = -1: should be greater than 0"),
        ({"grids": {"gd": {"lr": [0.1, "x"]}}}, "tune.grids.gd.lr = 'x'"),
        ({"grids": {"gd": {"lr": []}}}, r"tune.grids.gd.lr: must be a list of values, not \[\]"),
        ({"grids": {"gd": {"lr": 0.1}}}, "tune.grids.gd.lr: must be a list of values, not 0.1"),
        ({"grids": {"gd": 3}}, "tune.grids.gd: must be a table of lists"),
        ({"grids": {"ga": {"lr": [1]}}}, "tune.grids.ga: 'ga' is not among the methods"),
        ({"methods": ["ssd"]}, "tune.methods: 'ssd' is not among the methods"),
        ({"methods": ["retrain"]}, "tune.methods: 'retrain' is a baseline"),
        ({"seeds": [7]}, "tune.seeds: 7 is none of the experiment's seeds: 0, 1"),
        ({"seeds": []}, "tune.seeds.*at least 1"),
        ({"objective": "test"}, "tune.objective = 'test'"),
        ({"trials": 0}, "tune.trials = 0"),
        ({"tolerance": -0.1}, "tune.tolerance = -0.1"),
        ({"trail": 3}, "tune.trail: unknown key 'trail'. Did you mean 'trials'"),
    ],
)
def test_what_cannot_be_tuned_is_refused(raw: Raw, tune: Raw, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        planned(tuned(raw, **tune))


def test_a_key_is_either_rows_or_trials(raw: Raw) -> None:
    raw["methods"][3] = {"name": "gd", "grid": {"lr": [0.1, 0.2]}}
    assert not planned(tuned(raw)).searches, "every key of the documented grid is taken by rows"
    with pytest.raises(BadInput, match=r"tune.methods: 'gd' has nothing to tune"):
        planned(tuned(raw, methods=["gd"]))
    with pytest.raises(BadInput, match=r"tune.grids.gd.lr: gd is listed with grid.lr too"):
        planned(tuned(raw, grids={"gd": {"lr": [0.3]}}))
    plan = planned(tuned(raw, grids={"gd": {"momentum": [0.0, 0.9]}}))
    assert [s.variant for s in plan.searches] == ["tuned lr=0.1", "tuned lr=0.2"]


def test_tuning_needs_validation_rows_and_clean_ones(raw: Raw) -> None:
    with pytest.raises(BadInput, match="validation = 0: tuning needs validation rows"):
        planned(tuned(raw | {"validation": 0.0}))
    crowded = tuned(raw | {"attacks": [{"name": "gaussian", "share": 0.6}]})
    with pytest.raises(BadInput, match="162 of 270 training rows are poisoned"):
        planned(crowded)
    assert planned(crowded | {"tune": {"methods": []}})


def test_settings_of_a_top_level_grid_search_apart(raw: Raw) -> None:
    raw["grid"] = {"train.lr": [0.1, 0.2]}
    plan = planned(tuned(raw))
    assert [s.setting for s in plan.searches] == ["train.lr=0.1", "train.lr=0.2"]
    assert plan.searches[0].choice != plan.searches[1].choice


def test_a_setting_is_shown_as_a_variant() -> None:
    assert shown({"lr": 0.1, "clip": None}) == "lr=0.1,clip=None"
    assert len({shown({"a": a, "b": b}) for a, b in product((1, 2), (3, 4))}) == 4
