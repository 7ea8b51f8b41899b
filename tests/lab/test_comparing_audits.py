"""Audits that look at other models: zero against oneself, and closed forms."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.lab.audits._weights import cosine, loss_gradient, vector
from engine.lab.audits.agreement import Agreement, divergences
from engine.lab.audits.alignment import Alignment
from engine.lab.audits.relearn_time import RelearnTime, loss_on
from engine.lab.audits.shift import Shift
from engine.lab.subject import Subject
from engine.spec.component import Audit
from tests.helpers import Run, run_plan, small_experiment
from tests.lab.toys import same, toy_model, toy_set, toy_subject


def subject_of(model: nn.Module, **others: nn.Module) -> Subject:
    return replace(toy_subject(model, toy_set()), load=lambda role: copy.deepcopy(others[role]))


def measure(audit: Audit, subject: Subject) -> dict[str, float | None]:
    before = copy.deepcopy(subject.model.state_dict())
    told = audit.measure(subject).metrics
    assert told.keys() == audit.metrics.keys()
    assert same(before, subject.model.state_dict()), "an audit must not change the model"
    assert not subject.model.training
    return dict(told)


def moved(model: nn.Module, by: Tensor) -> nn.Module:
    copied = copy.deepcopy(model)
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(vector(model).add(by).float(), copied.parameters())
    return copied


# --- agreement -----------------------------------------------------------------------------------


def test_a_model_agrees_with_itself() -> None:
    told = measure(Agreement(), subject_of(toy_model(1), retrain=toy_model(1)))
    assert told == {
        "test_agreement": 1, "test_kl": 0, "test_js": 0,
        "forget_agreement": 1, "forget_kl": 0, "forget_js": 0,
    }  # fmt: skip


def test_two_models_differ_and_which_is_the_reference_matters_to_kl_only() -> None:
    one = measure(Agreement(), subject_of(toy_model(1), retrain=toy_model(2)))
    other = measure(Agreement(), subject_of(toy_model(2), retrain=toy_model(1)))
    assert one["test_agreement"] == other["test_agreement"] != 1
    assert one["test_js"] == pytest.approx(other["test_js"])
    assert one["test_kl"] != pytest.approx(other["test_kl"])


def test_divergences_are_their_closed_forms() -> None:
    certain, even = torch.tensor([[50.0, -50.0]]), torch.zeros(1, 2)
    kl, js = divergences(certain, even)
    assert float(kl) == pytest.approx(math.log(2))
    assert float(js) == pytest.approx(0.5 * math.log(4 / 3)
                                      + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)))  # fmt: skip
    _, apart = divergences(certain, -certain)
    assert float(apart) == pytest.approx(math.log(2))
    torch.manual_seed(0)
    kl, js = divergences(torch.randn(100, 5), torch.randn(100, 5))
    assert (kl >= 0).all() and (js >= 0).all() and (js <= math.log(2)).all()


def test_adding_a_constant_to_all_logits_changes_nothing() -> None:
    torch.manual_seed(0)
    logits, other = torch.randn(20, 4), torch.randn(20, 4)
    for found, shifted in zip(
        divergences(logits, other), divergences(logits + 3, other - 2), strict=True
    ):
        assert torch.allclose(found, shifted, atol=1e-6)


# --- shift ---------------------------------------------------------------------------------------


def test_no_move_no_shift() -> None:
    model = toy_model(1)
    told = measure(Shift(), subject_of(model, start=model, retrain=model, control=model))
    assert {value for value in told.values() if value is not None} == {0.0}
    assert told["way_left"] is None


def test_shifts_are_the_norms_of_the_differences() -> None:
    start, size = toy_model(1), len(vector(toy_model(1)))
    torch.manual_seed(0)
    update, way, control = (torch.randn(size).double() for _ in range(3))
    others = {"start": start, "retrain": moved(start, way), "control": moved(start, control)}
    told = measure(Shift(), subject_of(moved(start, update), **others))
    for name, order in (("l1", 1.0), ("l2", 2.0), ("linf", math.inf)):
        assert told[f"{name}_to_start"] == pytest.approx(float(update.norm(order)), rel=1e-5)
        assert told[f"{name}_to_retrain"] == pytest.approx(
            float((update - way).norm(order)), rel=1e-5
        )
        assert told[f"{name}_of_control"] == pytest.approx(float(control.norm(order)), rel=1e-5)
    assert measure(Shift(), subject_of(start, **others))["way_left"] == 1
    assert measure(Shift(), subject_of(others["retrain"], **others))["way_left"] == 0


# --- alignment -----------------------------------------------------------------------------------


def aligned(update: Tensor, way: Tensor) -> dict[str, float | None]:
    start = toy_model(1)
    others = {"start": start, "retrain": moved(start, way), "control": moved(start, -way)}
    return measure(Alignment(), subject_of(moved(start, update), **others))


def test_the_way_to_retraining_aligns_with_itself_and_turns_with_its_sign() -> None:
    torch.manual_seed(0)
    way = torch.randn(len(vector(toy_model(1)))).double()
    for update, expected in ((way, 1), (0.1 * way, 1), (-way, -1)):
        told = aligned(update, way)
        assert told["cos_retrain"] == pytest.approx(expected, abs=1e-5)
        assert told["cos_control"] == pytest.approx(-expected, abs=1e-5)
    forth, back = aligned(way, way), aligned(-way, way)
    for name in forth:
        assert forth[name] == pytest.approx(-back[name], abs=1e-5)


def test_a_gradient_step_aligns_with_its_gradient() -> None:
    start, data = toy_model(1), toy_subject(toy_model(1), toy_set())
    up = loss_gradient(start, data.forget)
    told = aligned(1e-2 * up / up.norm(), torch.ones_like(up))
    assert told["cos_poison_gradient"] == pytest.approx(1, abs=1e-4)
    down = -loss_gradient(start, data.retain)
    told = aligned(1e-2 * down / down.norm(), torch.ones_like(down))
    assert told["cos_retain_gradient"] == pytest.approx(1, abs=1e-4)


def test_a_model_that_did_not_move_has_no_direction() -> None:
    start = toy_model(1)
    told = measure(Alignment(), subject_of(start, start=start, retrain=toy_model(2), control=start))
    assert set(told.values()) == {None}
    assert cosine(torch.ones(3), torch.zeros(3)) is None


def test_the_loss_gradient_is_autograds() -> None:
    model, subject = toy_model(1).eval(), toy_subject(toy_model(1), toy_set())
    found = loss_gradient(model, subject.retain)
    loss = loss_on(model, subject.retain) * len(subject.retain)
    step = 1e-3 * found / found.norm()
    higher = loss_on(moved(model, step).eval(), subject.retain) * len(subject.retain)
    assert (higher - loss) / 1e-3 == pytest.approx(float(found.norm()), rel=0.02)


# --- relearn time --------------------------------------------------------------------------------


def test_the_start_model_needs_no_time() -> None:
    told = measure(RelearnTime(), subject_of(toy_model(1), start=toy_model(1)))
    assert told["relearn_epochs"] == 0 == told["capped"]
    assert told["loss_before"] == told["loss_after"] == pytest.approx(told["level"] / 1.05)


def relearned(audit: RelearnTime, seed: int = 2) -> dict[str, float | None]:
    """The start fits the poison well; the model is a fresh one."""
    start = toy_model(1)
    optimizer = torch.optim.SGD(start.parameters(), lr=0.1)
    rows = toy_subject(start, toy_set()).forget
    for _ in range(60):
        optimizer.zero_grad()
        inputs, labels = next(rows.batches())
        nn.functional.cross_entropy(start(inputs), labels).backward()
        optimizer.step()
    return measure(audit, subject_of(toy_model(seed), start=start))


def test_a_model_that_forgot_needs_some_and_ends_at_the_level() -> None:
    told = relearned(RelearnTime(most_epochs=400, batch_size=2))
    assert told["capped"] == 0 and told["relearn_epochs"] > 0
    assert told["loss_after"] <= told["level"] < told["loss_before"]
    assert told == relearned(RelearnTime(most_epochs=400, batch_size=2)), "deterministic"


def test_more_slack_is_reached_no_later() -> None:
    epochs = [
        relearned(RelearnTime(most_epochs=400, slack=slack))["relearn_epochs"]
        for slack in (0.05, 0.5, 2.0)
    ]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1]


def test_the_cap_is_told() -> None:
    told = relearned(RelearnTime(most_epochs=2))
    assert told["relearn_epochs"] == 2 and told["capped"] == 1
    assert told["loss_after"] > told["level"]


# --- whole runs ----------------------------------------------------------------------------------

NAMES = ("agreement", "shift", "alignment", "relearn-time")


@pytest.fixture(scope="module")
def run(workshop: Path) -> Run:
    methods = [{"name": name} for name in ("none", "retrain-fresh", "gd")]
    audits = [{"name": name} for name in (*NAMES, "accuracy")]
    return run_plan(
        small_experiment(methods=[*methods, {"name": "retrain"}], audits=audits), workshop
    )


def test_retraining_and_no_unlearning_are_the_two_ends(run: Run) -> None:
    assert not run.na
    retrain = {name: run.metrics(method="retrain", audit=name) for name in NAMES}
    none = {name: run.metrics(method="none", audit=name) for name in NAMES}
    assert retrain["agreement"]["test_agreement"] == 1 and retrain["agreement"]["forget_kl"] == 0
    assert retrain["shift"]["l1_to_retrain"] == 0 == retrain["shift"]["way_left"]
    assert retrain["alignment"]["cos_retrain"] == pytest.approx(1)
    assert none["shift"]["l2_to_start"] == 0 and none["shift"]["way_left"] == 1
    assert set(none["alignment"].values()) == {None}
    assert none["relearn-time"]["relearn_epochs"] == 0
    assert retrain["relearn-time"]["relearn_epochs"] > 0
    assert none["shift"]["l2_of_control"] == retrain["shift"]["l2_of_control"] > 0


def test_the_control_leaves_out_clean_rows_and_keeps_the_poison(run: Run) -> None:
    from engine.lab.artifacts import load_tensors

    (cell,) = run.cells(method="none", audit="shift")
    control = run.plan.stages[run.plan.stages[cell.key].inputs["control"]]
    (poison,) = [s for s in run.stages("select") if "control" not in s.config["rule"]]
    rows = [
        set(load_tensors(run.root / key / "rows.safetensors")["poisoned"].tolist())
        for key in (control.inputs["exclude"], poison.key)
    ]
    assert len(rows[0]) == len(rows[1]) == 36 and not rows[0] & rows[1]
    assert run.tee[control.key] == pytest.approx(10 * 324 / 360) == control.tee


def test_audits_that_describe_give_no_verdict(run: Run) -> None:
    from engine.results.compare import compare
    from engine.results.tidy import registered_audits

    rows = compare(told_of(run), registered_audits())
    judged = {row["audit"] for row in rows if row["primary"]}
    assert judged == {"accuracy"}
    assert {row["audit"] for row in rows} == {*NAMES, "accuracy"}
    assert all(row["verdict"] is None for row in rows if row["audit"] in NAMES)


def told_of(run: Run) -> list[object]:
    from engine.results.tidy import tidy

    class Reader:
        def outcome(self, key: str) -> tuple[str, str]:
            return "ok", ""

        def measurements(self, key: str) -> dict[str, float | None]:
            import json

            return json.loads((run.root / key / "measurements.json").read_text())["metrics"]

        def cost(self, keys: tuple[str, ...]) -> tuple[float, float]:
            return 0.0, 0.0

    return tidy("run", run.plan.cells, Reader())  # type: ignore[arg-type,return-value]
