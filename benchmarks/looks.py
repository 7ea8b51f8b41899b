"""What watching costs unlearning, with looks made slow on purpose. Ratios in one process.

    python benchmarks/looks.py [--looks 0.02 0.1 0.3] [--tee 12] [--rounds 5]

The same unlearning (`gd` on random images, by engine.lab.unlearning.unlearn) without looks and with
looks that burn so many CPU seconds each, taken in turn, round by round; the models must be the same,
bit for bit. Medians over rounds, with the range. On a machine that does other things, too, two rounds
without looks differ by more than looks may cost; so what looks took is told as well, as a share of the
rest of the same run, of which at most 0.05 is allowed (from the second run on: nobody can know what the
first look takes).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from turns import in_turn, ratios, report


class Silent:
    """A context that reports nothing and has no checkpoint."""

    device = "cpu"
    folder = Path()

    def resume(self, *_: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--looks", type=float, nargs="+", default=[0.02, 0.1, 0.3], help="seconds")
    parser.add_argument("--tee", type=float, default=12.0, help="how long to unlearn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    import torch
    from torch import nn

    from engine.lab.attacks.gaussian import Gaussian
    from engine.lab.looks import Looks, Pace
    from engine.lab.methods.gd import GD
    from engine.lab.unlearning import UnlearnTask, unlearn
    from engine.lab.views import TrainingSet
    from engine.spec.experiment import Train

    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4000, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(4000) % 10
    forget = torch.arange(0, 4000, 20)
    poison = Gaussian(noise_std=0.3).craft(TrainingSet(pixels, labels), forget, seed=0)
    data = TrainingSet(pixels, labels, poison)
    retain = torch.arange(4000)[torch.arange(4000) % 20 != 0]
    ends: list[torch.Tensor] = []
    paces = {seconds: Pace() for seconds in options.looks}
    taken = dict.fromkeys(options.looks, 0)
    shares: dict[float, list[float]] = {seconds: [] for seconds in options.looks}

    def once(seconds: float | None) -> None:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
        recipe = Train(precision="fp32", channels_last=False)
        task = UnlearnTask(model, data, retain, forget, recipe, 3, "cpu", 10)

        def burn(model: nn.Module, step: int) -> None:
            assert seconds is not None
            taken[seconds] += 1
            end = time.process_time() + seconds
            while time.process_time() < end:
                model(torch.zeros(64, 1, 28, 28))

        before, began = taken.get(seconds or 0.0, 0), time.process_time()
        looks = None if seconds is None else Looks(burn, "slow", paces[seconds])
        unlearn(GD(batch_size=32), task, options.tee, Silent(), None, looks)
        if seconds is not None:
            looked = (taken[seconds] - before) * seconds
            shares[seconds].append(looked / (time.process_time() - began - looked))
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))

    ways = {"without": lambda: once(None), "without, again": lambda: once(None)}
    ways |= {f"{s:g} s": lambda s=s: once(s) for s in options.looks}
    times = in_turn(ways, options.rounds)
    print(f"without looks: {min(times['without']):.2f} CPU seconds")
    assert all(end.equal(ends[0]) for end in ends), "looks must change nothing"
    for name, values in times.items():
        if name != "without":
            ratios(f"{name} / without", values, times["without"])
    for seconds, found in shares.items():
        report(f"looks of {seconds:g} s, share of the rest", found[1:])
    print("looks a round:", {s: count / (options.rounds + 1) for s, count in taken.items()})


if __name__ == "__main__":
    main()
