"""What texts cost: gradients of single texts, padding, threads, precision. Ratios in one process.

    python benchmarks/texts.py [--path train.tsv] [--rounds 5]

On the embedded sentences, or a text file with texts and labels; the model is the default GPT-2 (two
layers of width 64, from scratch, BPE). Ways are taken in turn, round by round; medians and ranges.
  gradients  of 200 texts with respect to their embeddings: the audit (one backward a batch of texts
             of about one length), batches in any order, all padded to the limit, and one by one
  epoch      of 2,048 texts grouped by length (the training loop), in any order, padded to the limit
  precision  an epoch in fp32 and under bf16 autocast
  threads    two workers at once, each training 60 steps: 1 thread, 2, and 2 that spin while waiting
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import in_turn, ratios, report

LIMIT = 64  # tokens
TEXTS = 200
EPOCH = 2048  # texts


class Silent:
    """A context that reports nothing."""

    device = "cpu"
    folder = Path()

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--path")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))

    import torch

    torch.set_num_threads(options.threads)
    if options.steps:
        print(worker(options))
        return
    data = text_set(options.path)
    print(
        f"torch {torch.__version__}, {len(data)} texts, {data.lengths.double().mean():.1f} tokens"
    )
    gradients(data, options.rounds)
    epochs(data, options.rounds)
    threads(options)


def text_set(path: str | None) -> Any:
    import torch

    from engine.lab.data.sentences import Sentences
    from engine.lab.data.text_file import TextFile
    from engine.lab.texts import TextSet

    told = {"max_tokens": LIMIT, "vocabulary": 4000}
    config = TextFile(path=path, **told) if path else Sentences(**told)
    encoded = config.encode()
    ids, labels = (torch.from_numpy(encoded.arrays[name]) for name in ("train_x", "train_y"))
    return TextSet(ids, labels, lambda: encoded.tokens)


def model_for(data: Any) -> Any:
    import torch

    from engine.lab.models.gpt2 import GPT2

    torch.manual_seed(0)
    return GPT2().build((LIMIT, data.tokens.size, 1), 2, [], [])


def recipe(**told: Any) -> Any:
    from engine.spec.experiment import Train

    fixed = {"epochs": 1, "batch_size": 64, "optimizer": "adamw", "lr": 1e-3, "precision": "fp32"}
    return Train(**fixed | told)


def gradients(data: Any, rounds: int) -> None:
    import torch

    from engine.lab.audits.gaussian import gaussian_scores, margin_gradients
    from engine.lab.subject import Subject
    from engine.lab.texts import only_noise, with_room
    from engine.lab.views import Poison, Rows

    every = torch.arange(0, len(data), len(data) // TEXTS)[:TEXTS]
    model = model_for(data).eval()
    base = with_room(data.base(every), 64)
    noise = only_noise(torch.randn(base.shape)) * (base[..., :1] >= 0)
    poison = Poison(every, base + noise, data.labels[every], facts={"noise_std": 1.0})
    view = Rows(data, every)
    subject = Subject(model, view, view, view, view, view, poison, 0, "cpu", 2)

    def in_batches(width: int | None) -> None:
        for part in torch.split(every, 64):
            longest = width or int(data.lengths[part].max())
            inputs, labels = data.take(part, longest)
            margin_gradients(model, with_room(inputs, 64), labels)

    def one_by_one() -> None:
        for row in every.split(1):
            inputs, labels = data.take(row, int(data.lengths[row]))
            margin_gradients(model, with_room(inputs, 64), labels)

    times = in_turn(
        {
            "audit": lambda: gaussian_scores(subject),
            "any": lambda: in_batches(None),
            "padded": lambda: in_batches(LIMIT),
            "loop": one_by_one,
        },
        rounds,
    )
    ratios("gradients: one by one / audit", times["loop"], times["audit"])
    ratios("gradients: any order / audit", times["any"], times["audit"])
    ratios("gradients: padded / audit", times["padded"], times["audit"])


def epochs(data: Any, rounds: int) -> None:
    import torch

    from engine.lab import training
    from engine.lab.randomness import permutation
    from engine.lab.training import fit
    from engine.lab.views import Visit

    grouped = training.epoch_visit
    rows = torch.arange(min(EPOCH, len(data)))

    def in_any_order(data: Any, rows: Any, size: int, seed: int, purpose: str, epoch: int) -> Visit:
        places = permutation(len(rows), seed, purpose, epoch)
        return Visit(places, data.lengths_of(rows)[places])

    def padded(*told: Any) -> Visit:
        visit = in_any_order(*told)
        return Visit(visit.places, torch.full_like(visit.lengths, LIMIT))

    def epoch(visit: Callable[..., Visit], **told: Any) -> Callable[[], None]:
        model = model_for(data)

        def way() -> None:
            training.epoch_visit = visit
            fit(model, data, rows, recipe(**told), 0, Silent())  # type: ignore[arg-type]
            training.epoch_visit = grouped

        return way

    times = in_turn(
        {
            "grouped": epoch(grouped),
            "any": epoch(in_any_order),
            "padded": epoch(padded),
            "bf16": epoch(grouped, precision="bf16"),
        },
        rounds,
    )
    report("epoch, CPU seconds", times["grouped"])
    ratios("epoch: any order / grouped", times["any"], times["grouped"])
    ratios("epoch: padded to the limit / grouped", times["padded"], times["grouped"])
    ratios("epoch: bf16 / fp32", times["bf16"], times["grouped"])


def threads(options: argparse.Namespace) -> None:
    """Two workers at once, by the clock; each measures its own 60 steps."""
    for count, policy in ((1, "PASSIVE"), (2, "PASSIVE"), (2, "ACTIVE")):
        command = [sys.executable, __file__, "--steps", "60", "--threads", str(count)]
        command += ["--path", options.path] if options.path else []
        env = os.environ | {"OMP_NUM_THREADS": str(count), "OMP_WAIT_POLICY": policy}
        seconds = []
        for _ in range(min(3, options.rounds)):
            running = [
                subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in "ab"
            ]
            seconds += [float(process.communicate()[0]) for process in running]
        report(f"two workers, {count} threads, {policy.lower()}: s", seconds)


def worker(options: argparse.Namespace) -> float:
    import torch

    from engine.lab.training import fit

    data = text_set(options.path)
    rows = torch.arange(64 * options.steps) % len(data)
    began = time.perf_counter()
    fit(model_for(data), data, rows, recipe(), 0, Silent())  # type: ignore[arg-type]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
