"""How much of the machine the training loop and the Gaussian audit use. Ratios in one process.

    python benchmarks/training.py [--threads 1] [--width 32] [--rounds 5]

Three ways to train the same ResNet-18 on the same random images at the same batch size, taken in
turn, round by round, so that a machine whose speed drifts treats them alike:
  bare    forward, backward, step on one fixed batch, same dtype and layout as ours
  fit     engine.lab.training.fit, augmentation included
  usual   fp32, NCHW, torchvision transforms in a DataLoader
and the Gaussian audit against one forward and input-backward over its rows, and against a loop of
one row at a time. Medians over rounds, with the range.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from turns import in_turn, ratios, report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import torch

    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, width {options.width}")
    training(options)
    audit(options)


class Silent:
    """A context that reports nothing."""

    device = "cpu"
    folder = Path()

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: False


def training(options: argparse.Namespace) -> None:
    import torch

    from engine.lab.models.resnet18 import ResNet18
    from engine.lab.training import autocast, fit, make_optimizer
    from engine.lab.views import TrainingSet
    from engine.spec.experiment import Train

    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (options.rows, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (options.rows,))
    config = ResNet18(width=options.width)
    recipe = Train(
        epochs=1,
        batch_size=options.batch,
        augment="crop-flip",
        precision="bf16",
        channels_last=True,
    )
    steps = options.rows // options.batch

    def build() -> torch.nn.Module:
        return config.build((3, 32, 32), 10, [0.5] * 3, [0.25] * 3).train()

    bare_model = build().to(memory_format=torch.channels_last)
    bare_optimizer = make_optimizer(bare_model, recipe)
    inputs = torch.rand(options.batch, 3, 32, 32).to(memory_format=torch.channels_last)

    def bare() -> None:
        for _ in range(steps):
            with autocast("bf16", "cpu"):
                loss = torch.nn.functional.cross_entropy(
                    bare_model(inputs), labels[: options.batch]
                )
            bare_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            bare_optimizer.step()

    fit_model, data = build(), TrainingSet(pixels, labels)

    def ours() -> None:
        fit(fit_model, data, torch.arange(options.rows), recipe, 0, Silent())

    usual_model = build()
    usual_optimizer = torch.optim.SGD(usual_model.parameters(), lr=0.05, momentum=0.9)
    loader = usual_loader(pixels, labels, options.batch)

    def usual() -> None:
        for images, targets in loader:
            usual_optimizer.zero_grad()
            torch.nn.functional.cross_entropy(usual_model(images), targets).backward()
            usual_optimizer.step()

    times = in_turn({"bare": bare, "fit": ours, "usual": usual}, options.rounds)
    for name, seconds in times.items():
        report(f"{name:6} images/s", [steps * options.batch / s for s in seconds])
    ratios("fit / bare", times["bare"], times["fit"])
    ratios("fit / usual", times["usual"], times["fit"])


def usual_loader(pixels: Any, labels: Any, batch: int) -> Any:
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2 as transforms

    move = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, row: int) -> Any:
            return move(pixels[row]), labels[row]

    return DataLoader(Images(), batch_size=batch, shuffle=True)


def audit(options: argparse.Namespace) -> None:
    from engine.lab.models.mlp import MLP
    from engine.lab.models.resnet18 import ResNet18

    audit_of("ResNet-18", ResNet18(width=options.width), options)
    audit_of("MLP256", MLP(), options)


def audit_of(name: str, config: Any, options: argparse.Namespace, rows: int = 200) -> None:
    import torch

    from engine.lab.audits.gaussian import gaussian_scores, margin_gradients
    from engine.lab.subject import Subject
    from engine.lab.views import Poison, Rows, TrainingSet

    pixels = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8)
    labels, every = torch.randint(0, 10, (rows,)), torch.arange(rows)
    data = TrainingSet(pixels, labels)
    model = config.build((3, 32, 32), 10, [0.5] * 3, [0.25] * 3).eval()
    model.to(memory_format=torch.channels_last)
    noise = torch.randn(rows, 3, 32, 32)
    poison = Poison(every, data.base(every), labels, {"noise": noise}, facts={"noise_std": 1.0})
    view = Rows(data, every)
    subject = Subject(model, view, view, view, view, view, poison, 0, "cpu", 10)

    def plain() -> None:
        for inputs, targets in view.batches():
            x = inputs.requires_grad_(True)
            torch.autograd.grad(model(x)[torch.arange(len(x)), targets].sum(), x)

    def one_by_one() -> None:
        for row in range(0, rows, 10):  # a tenth of them
            batch = data.take(every[row : row + 1])
            gradient = margin_gradients(model, batch.inputs, batch.labels).flatten().double()
            float(gradient @ noise[row].flatten().double() / gradient.norm())

    def scores() -> None:
        gaussian_scores(subject)

    times = in_turn({"plain": plain, "audit": scores, "tenth": one_by_one}, options.rounds)
    ratios(f"{name}: audit / plain", times["audit"], times["plain"])
    loops = [10 * t / a for t, a in zip(times["tenth"], times["audit"], strict=True)]
    report(f"{name}: loop of single rows / audit", loops)


if __name__ == "__main__":
    main()
