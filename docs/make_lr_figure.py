"""docs/results-lr-sweep.svg from `chelate run lr-sweep --json > FILE`.

python docs/make_lr_figure.py FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PANELS = (("gaussian", "mean_score", "mean score"), ("badnets", "asr", "attack success rate"))
LOOKS = {"gd": ("o", "C0"), "ngd": ("s", "C1"), "neggrad-plus": ("^", "C2"), "retrain": ("*", "k")}


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Shift reached (L1, log) against what is left; hollow where the model is wrecked."""
    told = {(r["attack"], r["method"], r["variant"], r["metric"]): r for r in rows}
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (attack, metric, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for (of, method, variant, name), left in told.items():
            if of != attack or name != metric or method not in LOOKS:
                continue
            shift = told[attack, method, variant, "l1_to_start"]["mean"]
            marker, colour = LOOKS[method]
            face = "none" if left["verdict"] == "wrecked" else colour
            spread = (left["hi"] - left["lo"]) / 2
            axes.errorbar(shift, left["mean"], spread, fmt="none", ecolor=colour, lw=0.8)
            axes.plot(shift, left["mean"], marker, mec=colour, mfc=face, ms=8)
            axes.annotate(variant.removeprefix("lr="), (shift, left["mean"]), (4, 4),
                          textcoords="offset points", fontsize=7)  # fmt: skip
        none = told[attack, "none", "", metric]["mean"]
        axes.axhline(none, color="grey", lw=0.8, ls="--")
        axes.set(
            xscale="log", xlabel="L1 shift from the poisoned model", ylabel=title, title=attack
        )
    for method, (marker, colour) in LOOKS.items():
        figure.axes[0].plot([], [], marker, color=colour, label=method)
    figure.axes[0].legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "chelate"
    rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["rows"]
    draw(rows).savefig(HERE / "results-lr-sweep.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
