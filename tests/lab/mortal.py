"""Attempts that die: what is left to the next one is what they kept, and nothing else."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from tests.helpers import LocalContext

T = TypeVar("T")


class Killed(BaseException):
    """What a SIGKILL is to the code under it: nobody catches it."""


class Mortal(LocalContext):
    """An attempt that keeps checkpoints where `keeps(n)` at its nth question, dies at the `dies`th.

    Checkpoints lie in `root`/checkpoints, for the next attempt over the same folder. Whatever random
    numbers are left to the process, every question spoils them.
    """

    def __init__(self, root: Path, keeps: Callable[[int], bool], dies: int | None = None) -> None:
        super().__init__(root)
        self.keeps = keeps
        self.dies = dies
        self.resumed: list[tuple[str, int]] = []
        self.kept_at: list[tuple[str, int]] = []

    def checkpoint(self, loop: str, step: int, save: Callable[[Path], None]) -> None:
        self.asked += 1
        if self.keeps(self.asked):
            folder = self.root / "checkpoints" / f"{loop}.{step:06d}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            save(folder)
            self.kept_at.append((loop, step))
        spoil(self.asked)
        if self.asked == self.dies:
            raise Killed

    def raise_if_stopped(self) -> None:
        pass

    def resume(self, loop: str, load: Callable[[Path], None]) -> int | None:
        spoil(0)
        for folder in sorted(self.root.glob(f"checkpoints/{loop}.*"), reverse=True):
            load(folder)
            step = int(folder.name.rsplit(".", 1)[1])
            self.resumed.append((loop, step))
            return step
        return None


def spoil(number: int) -> None:
    """Put all generators of the process elsewhere."""
    torch.manual_seed(1_000_003 + number)
    np.random.seed(number)
    random.seed(number)


def through_deaths(
    run: Callable[[Mortal], T], root: Path, seed: int | None, most: int = 6
) -> tuple[T, list[tuple[str, int]]]:
    """`run` to its end through deaths at random questions, 1 … `most` after each beginning, with a
    checkpoint at about every other; or, without a seed, at question `most` of each, with all. What
    it gives, and where it went on from."""
    dice = random.Random(seed)
    resumed: list[tuple[str, int]] = []
    for _ in range(1000):
        if seed is None:
            ctx = Mortal(root, lambda _: True, dies=most)
        else:
            ctx = Mortal(root, lambda _: dice.random() < 0.5, dies=dice.randint(1, most))
        try:
            result = run(ctx)
        except Killed:
            resumed += ctx.resumed
        else:
            return result, resumed + ctx.resumed
    raise AssertionError("it never got to its end")


def contents(folder: Path) -> dict[str, bytes]:
    """Name → bytes of the files in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
