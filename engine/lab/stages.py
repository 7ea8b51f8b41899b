"""The stages of an experiment, from inputs to artifacts. Each commits what the next one reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.lab.artifacts import load_json, load_tensors, save_json, save_tensors
from engine.lab.context import Context, Diverged, Failed, NotApplicable
from engine.lab.crafting import CraftTask
from engine.lab.data._texts import TextData
from engine.lab.meter import FORWARD, Meter
from engine.lab.randomness import permutation, stream
from engine.lab.scene import (
    PIXELS,
    POISON,
    ROWS,
    SCORE_ROWS,
    SCORES,
    TEXTS,
    TOKENS,
    Config,
    Scene,
    component_of,
    pixels_of,
    scene_of,
)
from engine.lab.selection import choose, pretraining_cut, proxy_cut, validation_cut
from engine.lab.solving import solve
from engine.lab.state import MODEL, STATE, STATE_JSON
from engine.lab.texts import TextSet
from engine.lab.training import fit
from engine.lab.tuning import CHOICE, TRIAL, decide, score_on
from engine.lab.unlearning import unlearn
from engine.lab.views import Poison, Rows
from engine.spec.component import Attack, Audit, Data, Method
from engine.spec.data_report import merged, report, without_rows
from engine.spec.experiment import Train
from engine.spec.keys import digest

LEAST_STD = 0.1  # of a table's column, whose values span [0, 1]


def run_data(config: Config, ctx: Context) -> float:
    """Decode a data set once. → pixels.safetensors, data.json; of tables and texts
    sample.json, of texts also tokens.json"""
    data = component_of("data", config["data"], Data)
    info = data.inspect()
    if info.digest != config["digest"]:
        raise Failed("the data set changed after the run was planned: start the run again")
    if isinstance(data, TextData):
        encoded = data.encode()
        decoded, told = encoded.arrays, encoded.report
        (ctx.folder / TOKENS).write_text(encoded.tokens.to_json(), encoding="utf-8")
        shape = [data.max_tokens, encoded.tokens.size, 1]
    else:
        decoded = data.read()
        told = report(decoded, len(config["classes"]))
        shape = list(decoded["train_x"].shape[1:])
    whole = merged(info.known, told)
    for text in whole["warnings"]:
        ctx.warn(text)
    arrays = {key: torch.from_numpy(value) for key, value in decoded.items()}
    save_tensors(ctx.folder, PIXELS, arrays)
    mean, std = ([], []) if isinstance(data, TextData) else _scale(arrays["train_x"])
    facts = {"shape": shape, "classes": config["classes"], "mean": mean, "std": std}
    save_json(ctx.folder, "data.json", facts | {"report": without_rows(whole)})
    if rows := {key: whole[key] for key in ("sample_names", "sample") if key in whole}:
        save_json(ctx.folder, "sample.json", rows)  # a file of its own, which archives leave out
    return 0.0


def _scale(inputs: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in raw space, by which models normalise."""
    values = inputs.to(torch.float64)
    if not inputs.is_floating_point():
        values.div_(255)
    std = values.std(dim=(0, 2, 3), correction=0)
    if inputs.is_floating_point():
        # A column that hardly ever varies must not be blown up, and noise in it neither.
        std = torch.where(std > 0, std.clamp(min=LEAST_STD), std)
    std = torch.where(std > 0, std, torch.ones_like(std))
    return values.mean(dim=(0, 2, 3)).tolist(), std.tolist()


def run_split(config: Config, ctx: Context) -> float:
    """Cut off the extractor's rows, if any, and the validation rows, before any poisoning.
    → rows.safetensors (training, validation, perhaps pretraining)"""
    count = len(pixels_of(ctx)["train_y"])
    found = {}
    left = np.arange(count)
    if "pretraining" in config:
        left, found["pretraining"] = pretraining_cut(count, config["pretraining"], config["seed"])
    training, validation = validation_cut(len(left), config["validation"], config["seed"])
    found |= {"training": left[training], "validation": left[validation]}
    save_tensors(ctx.folder, ROWS, {name: torch.from_numpy(rows) for name, rows in found.items()})
    return 0.0


def run_select(config: Config, ctx: Context) -> float:
    """Choose the rows to poison. → rows.safetensors (poisoned)"""
    labels = pixels_of(ctx)["train_y"].cpu().numpy()
    training = load_tensors(ctx.file("split", ROWS))["training"].numpy()
    chosen = choose(config["rule"], training, labels, config["seed"])
    save_tensors(ctx.folder, ROWS, {"poisoned": torch.from_numpy(chosen)})
    return 0.0


def run_craft(config: Config, ctx: Context) -> float:
    """Make the poison. → poison.safetensors, poison.json, of texts also texts.json for people"""
    attack = component_of("attack", config["attack"], Attack)
    if digest(attack.identity()) != digest(config["identity"]):
        raise Failed("a file of the attack changed after the run was planned: start the run again")
    task = craft_task(config, ctx)
    poison = attack.craft_with(task)
    task.meter.settle()
    require_finite_poison(poison)
    tensors = {"rows": poison.rows, "inputs": poison.inputs, "labels": poison.labels}
    save_tensors(ctx.folder, POISON, tensors | poison.extras)
    save_json(ctx.folder, "poison.json", {"movable": poison.movable, "facts": poison.facts})
    if isinstance(task.data, TextSet):
        known = len(task.rows) == len(poison.rows)  # what the poisoned texts were
        told = {
            "tokenizer": task.data.tokenizer,
            "base": task.data.strings(task.rows) if known else None,
            "strings": task.data.decode(poison.inputs),
        }
        save_json(ctx.folder, TEXTS, told)
    return task.meter.tee


def require_finite_poison(poison: Poison) -> None:
    """Raises NotApplicable: what a crafting that diverged leaves would spoil all that read it."""
    parts = {"inputs": poison.inputs, **poison.extras}
    lost = [name for name, tensor in parts.items() if not bool(torch.isfinite(tensor).all())]
    lost += [name for name, value in poison.facts.items() if not finite_number(value)]
    if lost:
        raise NotApplicable(
            f"the crafting diverged: {', '.join(lost)} of the poison are not finite"
        )


def finite_number(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def craft_task(config: Config, ctx: Context) -> CraftTask:
    scene = Scene(ctx, config)
    test = scene.test

    def surrogates() -> list[nn.Module]:
        found: list[nn.Module] = []
        while ctx.key(role := f"surrogate-{len(found)}") is not None:
            found.append(scene.load_model(role).eval().requires_grad_(False))
        return found

    return CraftTask(
        data=scene.clean,
        rows=load_tensors(ctx.file("select", ROWS))["poisoned"].to(ctx.device),
        training=scene.split["training"],
        test=Rows(test, torch.arange(len(test), device=ctx.device)),
        seed=config["seed"],
        device=ctx.device,
        classes=len(scene.facts["classes"]),
        recipe=Train.model_validate(config["train"]) if "train" in config else None,
        fresh_model=lambda: scene.initial_model(config["seed"], "attacker"),
        surrogates=surrogates,
        raise_if_stopped=ctx.raise_if_stopped,
        meter=Meter(len(scene.split["training"])),
        progress=ctx.progress,
        checkpoint=ctx.checkpoint,
        resume=ctx.resume,
    )


def run_discover(config: Config, ctx: Context) -> float:
    """Which poisoned rows are known: a larger share holds all rows of a smaller one. → known"""
    rows = load_tensors(ctx.file("craft", POISON))["rows"]
    order = permutation(len(rows), config["seed"], "discover")
    found = rows[order[: round(config["share"] * len(rows))]]
    save_tensors(ctx.folder, ROWS, {"known": found.sort().values})
    return 0.0


def run_train(config: Config, ctx: Context) -> float:
    """Train from scratch, on poisoned data or (input "exclude") without some rows. → model"""
    scene = scene_of(ctx, config)
    recipe = Train.model_validate(config["train"])
    if config.get("ready"):
        save_tensors(ctx.folder, MODEL, scene.given_model(recipe).state_dict())
        return 0.0
    rows = scene.training_rows
    if config["role"] == "extractor":
        rows = scene.split[config["rows"]]
    if ctx.key("exclude") is not None:
        left_out = load_tensors(ctx.file("exclude", ROWS))["poisoned"].to(ctx.device)
        rows = rows[~torch.isin(rows, left_out)]
    if ctx.key("known") is not None:
        rows = rows[~torch.isin(rows, scene.forget_rows)]
    if recipe.start_from and recipe.from_as == "initial-weights":
        model = scene.given_model(recipe)
    else:
        model = scene.initial_model(config["seed"], config["role"])
    seed = stream(config["seed"], config["role"])
    learner, data = scene.trainable(model)
    if (closed := scene.closed_form) is not None:
        solve(learner, Rows(data, rows), closed, ctx)
        size = math.prod(scene.facts["shape"]), len(scene.facts["classes"])
        passes = closed.passes(len(rows), *size)
    else:
        fit(learner, data, rows, recipe, seed, ctx, scene.looks(config, ctx))
        passes = float(recipe.epochs * len(rows))
    save_tensors(ctx.folder, MODEL, model.state_dict())
    return passes / len(scene.all_rows)


def run_unlearn(config: Config, ctx: Context) -> float:
    """Unlearn to one budget, going on from the segment before if there is one. → model, state"""
    scene = scene_of(ctx, config)
    task = scene.task(scene.retain_rows, scene.forget_rows)
    chosen = load_json(ctx.file("choice", CHOICE))["config"] if ctx.key("choice") else {}
    method = component_of("method", config["method"] | chosen, Method)
    previous: Path | None = None
    if ctx.key("previous") is not None:
        told = ctx.file("previous", STATE_JSON)
        for name in (STATE, load_json(told)["live"]):
            ctx.file("previous", name)  # checks it
        previous = told.parent
    unlearn(method, task, config["budget_tee"], ctx, previous, scene.looks(config, ctx))
    task.save(ctx.folder)
    return task.meter.tee + task.finishing_tee


def run_proxy(config: Config, ctx: Context) -> float:
    """Draw the clean rows that stand in for the forget set. → rows.safetensors (forget, retain)"""
    rows = load_tensors(ctx.file("split", ROWS))["training"]
    if ctx.key("exclude") is not None:
        rows = rows[~torch.isin(rows, load_tensors(ctx.file("exclude", ROWS))["poisoned"])]
    forget, retain = proxy_cut(rows.numpy(), config["count"], config["seed"])
    tensors = {"forget": torch.from_numpy(forget), "retain": torch.from_numpy(retain)}
    save_tensors(ctx.folder, ROWS, tensors)
    return 0.0


def run_trial(config: Config, ctx: Context) -> float:
    """Try a method's settings and score the outcome. → trial.json

    On proxy rows without any input that holds the poison; or, for an oracle, on the forget set.
    What does not fit or diverges is an outcome too: the choice must know of it.
    """
    scene = Scene(ctx, config)
    method = component_of("method", config["method"], Method)
    if ctx.key("proxy") is not None:
        drawn = load_tensors(ctx.file("proxy", ROWS))
        retain, proxies = drawn["retain"].to(ctx.device), drawn["forget"].to(ctx.device)
        task = scene.task(retain, proxies)
    else:
        proxies = scene.split["validation"][:0]
        task = scene.task(scene.retain_rows, scene.forget_rows)
    # TEE are in rows of the original training, of which a proxy's task sees a part.
    share = task.meter.rows / config["rows"]
    told: dict[str, Any] = {"outcome": "ok", "reason": ""}
    try:
        if method.role == "unlearn":
            unlearn(method, task, config["budget_tee"] / share, ctx)
        model = task.handed_out or task.model
        rows = {"validation": scene.split["validation"], "proxies": proxies}
        own = {name: Rows(scene.clean, found) for name, found in rows.items()}
        told |= score_on(model, own, task.steps)
        if "audit" in config:
            audit = component_of("audit", config["audit"], Audit)
            metrics = audit.measure(scene.subject(model, config["seed"])).metrics
            told["value"] = finite_only(metrics, ctx)[audit.primary]
        task.meter.limit = math.inf  # looking is no part of the budget, but of the search's cost
        task.meter.charge(sum(map(len, rows.values())), FORWARD)
    except Diverged as why:
        told |= {"outcome": "failed", "reason": str(why)}
    except NotApplicable as why:
        told |= {"outcome": "n/a", "reason": str(why)}
    task.meter.settle()
    save_json(ctx.folder, TRIAL, told)
    return float((task.meter.tee + task.finishing_tee) * share)


def run_choose(config: Config, ctx: Context) -> float:
    """Choose among the trials of a method. → choice.json"""

    def read(role: str) -> list[tuple[int, Config]]:
        wanted = [(seed, f"{role} s{seed}") for seed in config["seeds"]]
        return [(seed, load_json(ctx.file(w, TRIAL))) for seed, w in wanted if ctx.key(w)]

    save_json(ctx.folder, CHOICE, decide(config, read))
    return 0.0


def run_audit(config: Config, ctx: Context) -> float:
    """Measure one model, in float32. → measurements.json, perhaps scores.safetensors and
    score_rows.json (read by engine.jobs.row_scores)"""
    scene = Scene(ctx, config)
    audit = component_of("audit", config["audit"], Audit)
    model = scene.load_model("model")
    subject = scene.subject(model, config["seed"])
    measured = audit.measure(subject)
    if measured.arrays:
        save_tensors(ctx.folder, SCORES, measured.arrays)
    if measured.arrays and measured.places is not None:
        # A file of its own: scores.safetensors stays what it was before, byte for byte.
        rows, places = subject.poison.rows.tolist(), measured.places.tolist()
        scored = None if len(places) == len(rows) else places
        save_json(ctx.folder, SCORE_ROWS, {"rows": rows, "scored": scored})
    metrics = dict(measured.metrics)
    if scene.known is not None and audit.per_row:
        known = torch.isin(subject.poison.rows, scene.known)
        for word, some in (("known", known), ("unknown", ~known)):
            part = audit.measure(subject.of_poison(some)).metrics
            metrics[f"{audit.primary}_{word}"] = part[audit.primary]
    told = {"audit": config["audit"]["name"], "metrics": finite_only(metrics, ctx)}
    save_json(ctx.folder, "measurements.json", told)
    return 0.0


def finite_only(metrics: Mapping[str, float | None], ctx: Context) -> dict[str, float | None]:
    """The metrics with those undefined that are no finite numbers: finite weights may well give
    outputs that overflow. The stage warns of them."""
    lost = sorted(name for name, value in metrics.items() if not finite_number(value))
    if lost:
        ctx.warn(f"not finite, so undefined: {', '.join(lost)}")
    return {name: None if name in lost else value for name, value in metrics.items()}


RUN: dict[str, Callable[[Config, Context], float]] = {
    "data": run_data,
    "split": run_split,
    "select": run_select,
    "craft": run_craft,
    "discover": run_discover,
    "train": run_train,
    "unlearn": run_unlearn,
    "audit": run_audit,
    "proxy": run_proxy,
    "trial": run_trial,
    "choose": run_choose,
}
"""Stage kind → function; each returns the TEE spent, from the start of the trajectory on."""
