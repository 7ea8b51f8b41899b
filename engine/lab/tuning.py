"""Scoring one trial of a search, and choosing among all; the rule is in `engine.spec.tuning`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.lab.context import Diverged, NotApplicable
from engine.spec.tuning import best, pooled

if TYPE_CHECKING:
    import torch

    from engine.lab.views import Rows

TRIAL, CHOICE = "trial.json", "choice.json"


def score_on(
    model: torch.nn.Module, rows: Mapping[str, Rows], step: int = 0
) -> dict[str, float | None]:
    """Validation accuracy and how forgotten the proxies are, of rows "validation" and "proxies".

    Both are clean rows; losses are cross-entropies in eval mode and float32. Without proxies
    their forgetting is None. Raises Diverged where a loss is not a number, after `step` steps.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from engine.lab.training import predictions

    losses = {}
    accuracy = 0.0
    for name, own in rows.items():
        if len(own) == 0:
            continue
        logits, labels = predictions(model, own.batches())
        losses[name] = cross_entropy(logits, labels, reduction="none")
        if bool(losses[name].isnan().any()):
            raise Diverged(step, "the losses are no numbers")
        if name == "validation":
            accuracy = float((logits.argmax(1) == labels).to(torch.float64).mean())
    proxies = losses.get("proxies")
    forgotten = None if proxies is None else forgetting(proxies, losses["validation"])
    return {"validation_accuracy": accuracy, "forgetting": forgotten}


def forgetting(proxies: torch.Tensor, unseen: torch.Tensor) -> float:
    """1 - |2 AUC - 1| of losses [A] against losses [B] of rows never seen.

    1: they cannot be told apart; 0: they can, perfectly, in whichever direction.
    """
    from engine.lab.audits._membership import auc

    area = auc(unseen.cpu(), proxies.cpu())
    assert area is not None, "there are proxies and validation rows"
    return 1 - abs(2 * area - 1)


def decide(
    config: dict[str, Any], read: Callable[[str], list[tuple[int, dict[str, Any]]]]
) -> dict[str, Any]:
    """choice.json: the index and config of the trial to take, and whether it keeps the accuracy.

    `read` gives (seed, trial.json) of "start", "reference" (oracle only) and "trial N". Raises
    NotApplicable if no trial is applicable, or if all that are diverged.
    """
    start = pooled(read("start"))
    reference = pooled(read("reference")) if config["objective"] == "oracle" else None
    scores = [pooled(read(f"trial {number}")) for number in range(len(config["trials"]))]
    found = best(scores, start, config["tolerance"], reference)
    if found is None:
        ill = next((score for score in scores if score.outcome == "failed"), None)
        if ill is None:
            raise NotApplicable(scores[0].reason)
        raise NotApplicable(f"no trial succeeded: {ill.reason}")
    index, within = found
    return {"chosen": index, "config": config["trials"][index], "within": within}
