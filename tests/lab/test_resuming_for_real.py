"""Training under the engine's own keeper: full disks, checkpoints that cannot be loaded, stops."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.jobs.checkpoints import Checkpoints, Clock, Keeper
from engine.jobs.events import EventTail, EventWriter
from engine.jobs.worker import compute
from engine.lab import stages
from engine.lab.artifacts import load_json, save_json, save_tensors
from engine.lab.context import Stopped
from engine.lab.state import STATE_JSON
from engine.lab.training import fit
from engine.lab.unlearning import UnlearnTask, unlearn
from engine.spec.experiment import Train
from engine.spec.planned import Stage
from tests.helpers import LocalContext
from tests.lab.methods.tasks import RECIPE, toy
from tests.lab.toys import ROWS, Both, toy_model, toy_set

KEY = "c" * 64


class Kept(LocalContext):
    """A context as the worker's, over a keeper that finds it time at every step, or every `every`
    seconds; `stop_at` asks it to stop before that step."""

    def __init__(
        self, root: Path, attempt: int, every: float = -1.0, stop_at: int | None = None
    ) -> None:
        super().__init__(root / "stage")
        self.path = root / f"events.{attempt}.jsonl"
        self.checkpoints = Checkpoints(root / "checkpoints", KEY)
        self.events = EventWriter(self.path, KEY, attempt)
        self.keeper = Keeper(self.checkpoints, attempt, self.events, Clock(), every)
        # Here a step takes less than a hundredth of what a checkpoint costs.
        self.keeper.due = lambda stopping: every < 0 or stopping  # type: ignore[method-assign]
        self.stop_at = stop_at

    def checkpoint(self, loop: str, step: int, save: Callable[[Path], None]) -> None:
        stopping = step == self.stop_at
        if self.keeper.due(stopping):
            self.keeper.keep(loop, step, save)
        if stopping:
            raise Stopped

    def resume(self, loop: str, load: Callable[[Path], None]) -> int | None:
        return self.keeper.resume(loop, load)

    def warn(self, text: str) -> None:
        self.events.emit("warning", text=text)

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [event["data"] for event in EventTail(self.path).read() if event["kind"] == kind]


def train(ctx: LocalContext) -> bytes:
    model = toy_model(dropout=0.3)
    recipe = Train(epochs=3, batch_size=10, lr=0.1, precision="fp32", channels_last=False)
    fit(model, toy_set(), torch.arange(ROWS), recipe, 0, ctx)
    save_tensors(ctx.folder, "model.safetensors", model.state_dict())
    return (ctx.folder / "model.safetensors").read_bytes()


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Writes beyond so many bytes fail, as on a disk that is full; the weights take 1,600, the
    events less."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_up_costs_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    undisturbed = train(LocalContext(tmp_path / "calm"))
    with pytest.raises(Stopped):
        train(Kept(tmp_path, 1, stop_at=4))
    full = Kept(tmp_path, 2, stop_at=6)
    with no_file_over(1200), pytest.raises(Stopped):
        train(full)
    assert full.said("checkpoint") == [{"loop": "fit", "step": 4, "resumed": 1}]
    [warning] = full.said("warning")  # and not one a minute
    assert warning["text"].startswith("no checkpoint at step 4: model.safetensors: ")
    assert [found.step for found in full.checkpoints.of("fit")] == [4, 3]
    again = Kept(tmp_path, 3, every=60.0)
    assert train(again) == undisturbed
    assert again.said("checkpoint") == [{"loop": "fit", "step": 4, "resumed": 1}]


def test_a_checkpoint_that_breaks_while_it_is_loaded_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hashes are right, the weights are in the model, and then the optimizer is not there."""
    undisturbed = train(LocalContext(tmp_path / "calm"))
    first = Kept(tmp_path, 1, stop_at=9)

    def breaking(save: Callable[[Path], None], folder: Path) -> None:
        save(folder)
        save_json(folder, STATE_JSON, load_json(folder / STATE_JSON) | {"parts": {}})

    keep = first.keeper.keep
    first.keeper.keep = lambda loop, step, save: keep(  # type: ignore[method-assign]
        loop, step, lambda folder: breaking(save, folder)
    )
    with pytest.raises(Stopped):
        train(first)
    found: list[bytes] = []

    def run(config: dict[str, Any], ctx: Any) -> float:
        found.append(train(ctx))
        return 3.0

    monkeypatch.setitem(stages.RUN, "train", run)
    again = Kept(tmp_path, 2, every=60.0)
    assert compute(Stage(KEY, "train", "t", {}, {}), again) == 3.0  # type: ignore[arg-type]
    assert found == [undisturbed]
    assert [told["text"].partition(" cannot")[0] for told in again.said("warning")] == [
        "the checkpoint at step 9", "the checkpoint at step 8",
    ]  # fmt: skip
    assert again.checkpoints.of("fit") == []


class Slow(Both):
    """Counts how often it begins."""

    def begin(self, task: UnlearnTask) -> None:
        super().begin(task)
        task.state["begun"] = task.state.get("begun", torch.tensor(0)) + 1
        BEGUN.append(True)


BEGUN: list[bool] = []


def test_a_stop_while_a_method_begins_is_heard_after_it_and_it_need_not_begin_again(
    tmp_path: Path,
) -> None:
    BEGUN.clear()
    with pytest.raises(Stopped):
        unlearn(Slow(), toy(recipe=RECIPE), 1.0, Kept(tmp_path, 1, every=60.0, stop_at=0))
    again = Kept(tmp_path, 2, every=60.0)
    task = toy(recipe=RECIPE)
    unlearn(Slow(), task, 1.0, again)
    assert again.said("checkpoint")[0]["step"] == 0
    assert len(BEGUN) == 1 and int(task.state["begun"]) == 1
