"""Estimates of memory and time: exact small cases, and what must change with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.estimating import estimated, estimates
from engine.spec import presets
from engine.spec.estimate import PACE, STEP, Estimate
from engine.spec.plan import make_plan
from engine.spec.planned import Plan

Raw = dict[str, Any]


def planned(raw: Raw, device: str = "cpu") -> Plan:
    return make_plan(presets.validate(raw, "test"), device)


def only(raw: Raw, device: str = "cpu") -> Estimate:
    (found,) = planned(raw, device).estimates
    return found


@pytest.fixture
def texts(raw: Raw, tmp_path: Path) -> Raw:
    path = tmp_path / "texts.tsv"
    lines = [f"a {'good' if row % 2 else 'bad'} film, number {row}\t{row % 2}" for row in range(50)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return raw | {
        "data": {"name": "text-file", "path": str(path), "vocabulary": 300, "max_tokens": 16},
        "model": {"name": "gpt2", "width": 8},
    }


def test_memory_and_work_of_a_linear_model(raw: Raw) -> None:
    found = only(raw | {"model": {"name": "linear"}, "train": {"epochs": 2, "batch_size": 50}})
    weights = (28 * 28 + 1) * 10
    assert found.parameters == weights
    assert found.memory == {
        "weights": 4 * weights,
        "gradients": 4 * weights,
        "optimizer": 4 * weights,
        "activations": 4 * 50 * 28 * 28,
        "data": 400 * 28 * 28,
        "poison": 4 * (round(0.05 * 270) + 50) * 28 * 28,
    }
    assert found.bytes == sum(found.memory.values())
    assert found.flops == 270 * 3 * 2 * 28 * 28 * 10
    assert found.steps == 6
    seconds = 2 * (found.flops / PACE["cpu"] + 6 * STEP)
    assert found.seconds(2, "cpu") == pytest.approx(seconds)


def test_the_recipe_shows_in_memory(texts: Raw) -> None:
    plain = only(texts).memory

    def under(**train: Any) -> dict[str, int]:
        return only(texts | {"train": {"epochs": 2} | train}).memory

    assert under(optimizer="adamw")["optimizer"] == 2 * plain["optimizer"]
    assert under(batch_size=18)["activations"] == plain["activations"] // 2  # of 36 rows, not 128
    half = under(precision="bf16")
    assert half["activations"] < plain["activations"]
    assert half["weights"] > plain["weights"]


def test_recomputing_saves_memory_and_costs_time(texts: Raw) -> None:
    texts["model"] |= {"layers": 8}
    plain = only(texts)
    texts["model"] |= {"recompute": True}
    again = only(texts)
    assert again.memory["activations"] < plain.memory["activations"] / 3
    assert 1.3 * plain.flops < again.flops < plain.flops * 4 / 3


def test_noise_on_embeddings_is_as_wide_as_the_model(texts: Raw) -> None:
    noise = only(texts).memory["poison"]
    texts |= {
        "attacks": [{"name": "text-trigger", "share": 0.05}],
        "audits": [{"name": "accuracy"}],
    }
    assert noise == (1 + 8) * only(texts).memory["poison"]


def test_fused_attention_keeps_no_pairs_of_tokens(texts: Raw) -> None:
    assert only(texts, "cuda").memory["activations"] < only(texts).memory["activations"]


def test_every_setting_of_a_grid_has_its_own_and_the_work_is_all_of_it(raw: Raw) -> None:
    plan = planned(raw | {"grid": {"model.width": [16, 64]}})
    small, large = plan.estimates
    assert small.bytes < large.bytes
    assert not small.keys & large.keys
    work = sum(plan.stages[key].tee for found in plan.estimates for key in found.keys)
    assert work == pytest.approx(plan.tee)
    first, second = estimates(plan, large.keys, "cpu")
    assert first["seconds"] == first["disk"] == 0
    assert second["seconds"] == pytest.approx(estimates(plan, plan.stages, "cpu")[1]["seconds"])
    # 2 seeds × 3 trainings, and 2 seeds × 2 budgets of gd.
    assert second["disk"] == 4 * large.parameters * (6 + 2 * 4)


def test_what_is_in_the_store_takes_no_time(raw: Raw) -> None:
    plan = planned(raw)
    memory, _, time = estimated(plan, plan.stages, "cpu", 2)
    assert "MiB a worker" in memory
    assert "assumed, not measured" in time
    assert estimated(plan, (), "cpu", 2) == [memory]


def test_a_cpus_weeks_stand_beside_a_gpus(texts: Raw) -> None:
    texts["model"] = {"name": "gpt2", "checkpoint": "gpt2-medium"}
    texts["data"]["tokenizer"] = "gpt2-medium"
    plan = planned(texts | {"train": {"epochs": 2000}})
    memory, _, time = estimated(plan, plan.stages, "cpu", 2)
    assert "355 million weights" in memory
    assert "2 × cpu" in time
    assert "one GPU at 6 TFLOP/s" in time


def test_no_size_no_estimate(raw: Raw) -> None:
    raw["model"] = {"name": "frozen-features"}
    plan = planned(raw)
    assert plan.estimates == []
    assert estimated(plan, plan.stages, "cpu", 2) == []
