"""Searches, stage by stage: proxies, trials that never see the poison, choices, tuned rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.lab.artifacts import load_tensors
from engine.lab.audits import _membership
from engine.lab.context import Diverged, NotApplicable
from engine.lab.scene import Scene
from engine.lab.selection import proxy_cut
from engine.lab.state import MODEL
from engine.lab.tuning import decide, forgetting, score_on
from engine.lab.unlearning import unlearn
from engine.lab.views import Rows, TrainingSet
from engine.spec.planned import Stage
from engine.spec.registry import find
from tests.helpers import DONE, LocalContext, Run, run_plan, run_stage, small_experiment
from tests.lab.toys import same, toy_model, toy_set, weights

METHODS = [
    {"name": "none"}, {"name": "retrain"}, {"name": "gd", "batch_size": 32}, {"name": "ssd"},
    {"name": "relabel", "batch_size": 32},
]  # fmt: skip
GRIDS = {"gd": {"lr": [0.003, 0.3, 1e300]}, "relabel": {"lr": [0.001, 0.02]}}


@pytest.fixture(scope="module")
def tuned_run(workshop: Path) -> Run:
    return run_plan(small_experiment(methods=METHODS, tune={"grids": GRIDS}), workshop)


def told(run: Run, key: str, name: str = "trial.json") -> dict[str, Any]:
    return json.loads((run.root / key / name).read_text())


def rows(run: Run, kind: str, name: str) -> set[int]:
    (stage,) = run.stages(kind)
    return set(load_tensors(run.root / stage.key / "rows.safetensors")[name].tolist())


def again(run: Run, stage: Stage, name: str, **changes: Any) -> Stage:
    changed = replace(stage, key=f"{name} {stage.key[:12]}", **changes)
    run_stage(changed, run.root)
    return changed


# --- proxies -------------------------------------------------------------------------------------


def test_proxies_are_as_many_clean_retained_rows_as_there_is_poison(tuned_run: Run) -> None:
    poisoned = rows(tuned_run, "select", "poisoned")
    training, validation = (rows(tuned_run, "split", n) for n in ("training", "validation"))
    proxies, rest = (rows(tuned_run, "proxy", n) for n in ("forget", "retain"))
    assert len(proxies) == len(poisoned) == 36
    assert proxies | rest == training - poisoned
    assert not proxies & rest and not (proxies | rest) & validation


@given(st.integers(2, 60), st.integers(0, 5), st.data())
def test_a_proxy_cut_is_a_partition_that_depends_on_the_seed_only(
    total: int, seed: int, data: Any
) -> None:
    count = data.draw(st.integers(1, total - 1))
    source = np.arange(total) * 3
    forget, retain = proxy_cut(source, count, seed)
    assert len(forget) == count
    assert sorted([*forget, *retain]) == source.tolist()
    assert (np.diff(forget) > 0).all() and (np.diff(retain) > 0).all()
    assert all(
        np.array_equal(a, b)
        for a, b in zip(proxy_cut(source, count, seed), (forget, retain), strict=True)
    )


def test_proxies_are_not_the_rows_the_poison_is_drawn_by() -> None:
    """Another stream: with the poison's, proxies would be a function of it."""
    from engine.lab.selection import choose

    source, labels = np.arange(500), np.zeros(500, dtype=np.int64)
    drawn = choose({"share": 0.2}, source, labels, 0)
    assert not np.array_equal(proxy_cut(source, 100, 0)[0], drawn)
    with pytest.raises(ValueError, match="stand in"):
        proxy_cut(source[:3], 3, 0)


# --- scores --------------------------------------------------------------------------------------


def auc(left: torch.Tensor, right: torch.Tensor) -> float | None:
    return _membership.auc(right, left)


def test_auc_is_the_chance_that_a_proxys_loss_is_the_smaller_one() -> None:
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 3.0, 3.0])
    assert auc(one, two) == pytest.approx(5 / 6)
    assert auc(two, one) == pytest.approx(1 / 6)
    assert auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0])) == 0.5
    assert auc(torch.tensor([1.0, torch.inf]), torch.tensor([torch.inf, torch.inf])) == 0.75


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9),
       st.lists(st.integers(-5, 5), min_size=1, max_size=9))  # fmt: skip
def test_forgetting_has_no_direction_and_no_unit(left: list[int], right: list[int]) -> None:
    one, two = torch.tensor(left).float(), torch.tensor(right).float()
    by_hand = np.mean([(a < b) + 0.5 * (a == b) for a in left for b in right])
    assert auc(one, two) == pytest.approx(by_hand)
    found = forgetting(one, two)
    assert found == pytest.approx(1 - abs(2 * by_hand - 1))
    assert found == pytest.approx(forgetting(two, one)) == pytest.approx(forgetting(-one, -two))
    assert found == pytest.approx(forgetting(one.exp(), two.exp()))
    assert 0 <= found <= 1 and forgetting(one, one) == pytest.approx(1)


def test_a_score_reads_clean_rows_in_eval_mode_and_leaves_the_model_alone() -> None:
    data, model = toy_set(poisoned=False), toy_model(dropout=0.5).train()
    before = weights(model)
    told = {
        name: Rows(data, torch.arange(a, b))
        for name, a, b in (("validation", 0, 20), ("proxies", 20, 30))
    }
    one, two = score_on(model, told), score_on(model, told)
    assert one == two and model.training and same(before, weights(model))
    assert score_on(model, told | {"proxies": Rows(data, torch.arange(0))})["forgetting"] is None
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(Diverged, match="no numbers"):
        score_on(model, told)


# --- trials --------------------------------------------------------------------------------------


def spy(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    taken: set[int] = set()
    plain = TrainingSet._inputs

    def spied(data: TrainingSet, wanted: Tensor, width: int | None = None) -> Any:
        assert data.poison is None
        taken.update(wanted.tolist())
        return plain(data, wanted, width)

    monkeypatch.setattr(TrainingSet, "_inputs", spied)
    return taken


@pytest.mark.parametrize("method", ["gd", "relabel", "ssd"])
def test_a_trial_never_reads_a_poisoned_row(
    tuned_run: Run, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    search = next(s for s in tuned_run.plan.searches if s.method == method)
    stage = tuned_run.plan.stages[search.trials[0].keys[0]]
    opened: list[str] = []
    plain = LocalContext.file

    def spied(context: LocalContext, role: str, name: str) -> Path:
        path = plain(context, role, name)
        opened.append(str(path))
        return path

    monkeypatch.setattr(LocalContext, "file", spied)
    taken = spy(monkeypatch)
    again(tuned_run, stage, "spied")
    poisoned = rows(tuned_run, "select", "poisoned")
    assert not taken & poisoned
    proxies, validation = rows(tuned_run, "proxy", "forget"), rows(tuned_run, "split", "validation")
    assert proxies | validation <= taken, "the score looks at them"
    (craft,) = tuned_run.stages("craft")
    (select,) = tuned_run.stages("select")
    assert not [path for path in opened if craft.key in path or select.key in path]


def test_a_trial_is_unlearning_with_proxies_at_the_largest_budget(tuned_run: Run) -> None:
    """The same draws as the true run has, of a smaller set; scored as done by hand."""
    search = next(s for s in tuned_run.plan.searches if s.method == "gd")
    trial = next(t for t in search.trials if t.config["lr"] == 0.003)
    stage = tuned_run.plan.stages[trial.keys[0]]
    context = LocalContext(tuned_run.root, replace(stage, key="by hand"))
    scene = Scene(context, stage.config)
    (proxy,) = tuned_run.stages("proxy")
    drawn = load_tensors(tuned_run.root / proxy.key / "rows.safetensors")
    task = scene.task(drawn["retain"], drawn["forget"])
    method = find("method", "gd").model_validate(stage.config["method"])
    unlearn(method, task, 2.0 * 360 / 324, context)  # type: ignore[arg-type]
    validation = Rows(scene.clean, scene.split["validation"])
    expected = score_on(
        task.model, {"validation": validation, "proxies": Rows(scene.clean, drawn["forget"])}
    )
    found = told(tuned_run, stage.key)
    assert {key: found[key] for key in expected} == expected
    assert found["outcome"] == "ok"
    spent = (task.meter.spent + (40 + 36) / 3) / 360
    assert tuned_run.tee[stage.key] == pytest.approx(spent)
    assert spent <= stage.tee + 1e-9
    assert 2.0 - 32 / 360 < task.meter.spent / 360 <= 2.0, "of the original training's rows"


def test_a_trial_that_diverges_is_recorded_and_never_chosen(tuned_run: Run) -> None:
    search = next(s for s in tuned_run.plan.searches if s.method == "gd")
    (wild,) = [t for t in search.trials if t.config["lr"] == 1e300]
    found = told(tuned_run, wild.keys[0])
    assert found["outcome"] == "failed"
    assert found["reason"].startswith("diverged")
    assert 0 < tuned_run.tee[wild.keys[0]] <= 2.2, "what it spent still counts"
    choice = told(tuned_run, search.choice, "choice.json")
    assert search.trials[choice["chosen"]] is not wild
    assert choice["config"] == search.trials[choice["chosen"]].config


@pytest.mark.parametrize("kind", ["proxy", "trial", "choose"])
def test_a_stage_of_a_search_computed_again_gives_the_same_bytes(tuned_run: Run, kind: str) -> None:
    stage = tuned_run.stages(kind)[-1]
    folder = tuned_run.root / again(tuned_run, stage, "again").key
    for path in folder.iterdir():
        if path.name != DONE:
            assert path.read_bytes() == (tuned_run.root / stage.key / path.name).read_bytes()


# --- choices and what follows --------------------------------------------------------------------


def test_the_choice_is_the_rules(tuned_run: Run) -> None:
    for search in tuned_run.plan.searches:
        start = told(tuned_run, search.starts[0])["validation_accuracy"]
        scores = [told(tuned_run, t.keys[0]) for t in search.trials]
        choice = told(tuned_run, search.choice, "choice.json")
        fair = [n for n, s in enumerate(scores) if s["outcome"] == "ok"
                and s["validation_accuracy"] >= start - 0.01 - 1e-9]  # fmt: skip
        assert choice["within"] == bool(fair)
        if fair:
            assert choice["chosen"] == max(fair, key=lambda n: (scores[n]["forgetting"], -n))


def test_a_tuned_model_is_the_one_listed_with_the_chosen_values(
    tuned_run: Run, workshop: Path
) -> None:
    """At every budget, byte for byte; the smaller budgets use the same choice."""
    for name in ("gd", "relabel", "ssd"):
        search = next(s for s in tuned_run.plan.searches if s.method == name)
        chosen = told(tuned_run, search.choice, "choice.json")["config"]
        entry = next(m for m in METHODS if m["name"] == name)
        plain = run_plan(small_experiment(methods=[entry | chosen]), workshop)
        for budget in (0.1, 0.2):
            one, two = (
                run.model_stage(method=name, budget=budget, audit="gaussian")
                for run in (tuned_run, plain)
            )
            assert one.key != two.key and one.inputs["choice"] == search.choice
            files = [(tuned_run.root / stage.key / MODEL).read_bytes() for stage in (one, two)]
            assert files[0] == files[1]


def test_a_second_search_seed_is_averaged_in(workshop: Path) -> None:
    experiment = small_experiment(
        seeds=[0, 1], methods=METHODS[:3], tune={"grids": {"gd": GRIDS["gd"]}, "seeds": [0, 1]}
    )
    run = run_plan(experiment, workshop)
    (search,) = run.plan.searches
    means = []
    for trial in search.trials:
        read = [told(run, key) for key in trial.keys]
        assert len(read) == 2
        if all(one["outcome"] == "ok" for one in read):
            means.append(np.mean([one["forgetting"] for one in read]))
    assert len(means) == len(search.trials) - 1
    tuned = [s for s in run.stages("unlearn") if "choice" in s.inputs]
    assert {s.config["seed"] for s in tuned} == {0, 1}
    assert {s.inputs["choice"] for s in tuned} == {search.choice}


def test_an_oracle_takes_the_trial_nearest_to_retraining(workshop: Path) -> None:
    tune = {
        "objective": "oracle",
        "grids": {"relabel": {"lr": [0.001, 0.05]}},
        "methods": ["relabel"],
    }
    run = run_plan(small_experiment(methods=METHODS, tune=tune), workshop)
    (search,) = run.plan.searches
    start, reference = told(run, search.starts[0]), told(run, search.references[0])
    measured = {
        m: run.metrics(method=m, audit="gaussian")["mean_score"] for m in ("none", "retrain")
    }
    assert start["value"] == measured["none"]
    assert reference["value"] == measured["retrain"]
    assert start["forgetting"] is None
    choice = told(run, search.choice, "choice.json")
    scores = [told(run, t.keys[0]) for t in search.trials]
    fair = [n for n, s in enumerate(scores)
            if s["validation_accuracy"] >= start["validation_accuracy"] - 0.01 - 1e-9]  # fmt: skip
    if fair:
        nearest = min(fair, key=lambda n: (abs(scores[n]["value"] - reference["value"]), n))
        assert choice["chosen"] == nearest
    found = run.metrics(method="relabel", budget=0.2, audit="gaussian")["mean_score"]
    assert found == scores[choice["chosen"]]["value"], "the trial was the true run"


def test_a_method_that_does_not_fit_is_not_applicable_not_failed(workshop: Path) -> None:
    experiment = small_experiment(
        methods=[{"name": "none"}, {"name": "gd", "batch_size": 128}], budgets=[0.01], tune={}
    )
    run = run_plan(experiment, workshop)
    (search,) = run.plan.searches
    assert {told(run, t.keys[0])["outcome"] for t in search.trials} == {"n/a"}
    assert "needs 0.3" in run.na[search.choice]
    for cell in run.cells(method="gd"):
        assert "needs 0.3" in run.na[cell.key]


def test_without_a_trial_that_succeeded_there_is_no_choice() -> None:
    config = {"objective": "proxy", "tolerance": 0.01, "trials": [{"lr": 1}, {"lr": 2}]}
    start = {"outcome": "ok", "reason": "", "validation_accuracy": 0.9, "forgetting": 0.5}

    def outcomes(*pairs: tuple[str, str]) -> Any:
        found = {f"trial {n}": {"outcome": o, "reason": r} for n, (o, r) in enumerate(pairs)}
        return lambda role: [(0, start if role == "start" else found[role])]

    with pytest.raises(NotApplicable, match="needs 3 TEE"):
        decide(config, outcomes(("n/a", "needs 3 TEE"), ("n/a", "needs 3 TEE")))
    with pytest.raises(NotApplicable, match="no trial succeeded: diverged at step 7"):
        decide(config, outcomes(("n/a", "needs 3 TEE"), ("failed", "diverged at step 7")))


def test_poison_that_is_added_leaves_every_training_row_to_the_proxies(
    tuned_run: Run, monkeypatch: pytest.MonkeyPatch, workshop: Path
) -> None:
    from engine.lab.attacks.gaussian import Gaussian

    monkeypatch.setattr(Gaussian, "appends", True)
    run_stages = small_experiment(methods=METHODS[:3], tune={"grids": {"gd": {"lr": [0.1]}}})
    from engine.spec.plan import make_plan

    plan = make_plan(run_stages, "cpu")
    (proxy,) = (stage for stage in plan.stages.values() if stage.kind == "proxy")
    assert "exclude" not in proxy.inputs
    trial = plan.stages[plan.searches[0].trials[0].keys[0]]
    assert trial.config["rows"] == 360 + 36
