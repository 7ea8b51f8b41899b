"""What membership audits share: members' and non-members' scores in, rates out.

Higher scores speak for membership. Members are the poisoned rows; non-members are rows nobody
learned, under the same attack (`Subject.decoys`): clean ones would be told apart by their looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.spec.component import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from engine.lab.views import Batch

AUC_MARGIN = 0.02


def membership_metrics(blind_spots: str) -> dict[str, Metric]:
    """The metrics of `rates`; `blind_spots` are those of the attack behind the scores."""
    tail = (
        "Share of members called members by a threshold that calls {} of non-members so; the "
        "threshold is the non-members' own quantile. Empty with fewer than {} of them."
    )
    end = "{} end of the 95 % Clopper-Pearson interval of {}: of this model's members alone."
    found = {
        "auc": Metric(
            "Chance that a member scores higher than a non-member, ties counted half; 0.5 is "
            "guessing.",
            direction="up", margin=AUC_MARGIN, span=1.0, blind_spots=blind_spots,
        ),
        "balanced_accuracy": Metric(
            "Mean of the shares of members and of non-members told right; the threshold is chosen on "
            "one half of the rows and tried on the other, so guessing gives 0.5.",
            direction="up",
        ),
    }  # fmt: skip
    for name, share, least in (("1pct", "1 %", 99), ("1permille", "0.1 %", 999)):
        rate = f"tpr_at_{name}_fpr"
        found[rate] = Metric(tail.format(share, least), direction="up")
        found[f"{rate}_lo"] = Metric(end.format("Lower", rate), direction="up")
        found[f"{rate}_hi"] = Metric(end.format("Upper", rate), direction="up")
    found["members"] = Metric("Poisoned rows scored.")
    found["nonmembers"] = Metric("Rows scored that nobody learned.")
    return found


def rates(members: Tensor, others: Tensor, seed: int) -> dict[str, float | None]:
    """The numbers of `membership_metrics` from scores float64 [M] and [N] on the CPU."""
    told: dict[str, float | None] = {
        "auc": auc(members, others),
        "balanced_accuracy": balanced_accuracy(members, others, seed),
        "members": float(len(members)),
        "nonmembers": float(len(others)),
    }
    for name, share in (("1pct", 0.01), ("1permille", 0.001)):
        hits = hits_at(members, others, share)
        low, high = (None, None) if hits is None else clopper_pearson(hits, len(members))
        rate = f"tpr_at_{name}_fpr"
        told[rate] = None if hits is None else hits / len(members)
        told |= {f"{rate}_lo": low, f"{rate}_hi": high}
    return told


def auc(members: Tensor, others: Tensor) -> float | None:
    """Area under the ROC curve (Mann-Whitney); None when a side is empty."""
    import torch
    from scipy.stats import rankdata

    m, n = len(members), len(others)
    if not m or not n:
        return None
    ranks = rankdata(torch.cat([members, others]).numpy())
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def balanced_accuracy(members: Tensor, others: Tensor, seed: int) -> float | None:
    """Two-fold: the best threshold of one half of the rows, tried on the other; None if too few."""
    from engine.lab.randomness import permutation

    if min(len(members), len(others)) < 2:
        return None
    folds = []
    for name, scores in (("members", members), ("others", others)):
        shuffled = scores[permutation(len(scores), seed, "membership folds", name)]
        folds.append((shuffled[0::2], shuffled[1::2]))
    (one_m, two_m), (one_n, two_n) = folds
    found = [
        _balance(two_m, two_n, _best_threshold(one_m, one_n)),
        _balance(one_m, one_n, _best_threshold(two_m, two_n)),
    ]
    return sum(found) / 2


def _balance(members: Tensor, others: Tensor, threshold: float) -> float:
    right = (members > threshold).double().mean() + (others <= threshold).double().mean()
    return float(right / 2)


def _best_threshold(members: Tensor, others: Tensor) -> float:
    """The score above which to say "member"; the middle one of several best."""
    import torch

    candidates = torch.unique(torch.cat([members, others]))  # sorted
    at = torch.searchsorted
    accepted = len(members) - at(members.sort().values, candidates, right=True)
    rejected = at(others.sort().values, candidates, right=True)
    right = accepted / len(members) + rejected / len(others)
    best = (right == right.max()).nonzero().flatten()
    return float(candidates[best[len(best) // 2]])


def hits_at(members: Tensor, others: Tensor, share: float) -> int | None:
    """Members above the non-members' quantile that a new non-member passes with chance <= `share`.

    With N non-members, the k-th largest is passed by a new one with chance k/(N + 1). None where
    even the largest is passed too often.
    """
    k = int(share * (len(others) + 1) + 1e-9)
    if k < 1 or not len(members):
        return None
    threshold = others.sort(descending=True).values[k - 1]
    return int((members > threshold).sum())


def clopper_pearson(hits: int, trials: int) -> tuple[float, float]:
    """Exact 95 % interval of a rate (Biometrika 26, 1934)."""
    from scipy.stats import binomtest

    found = binomtest(hits, trials).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def confidence(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """float64 [M] on the CPU: log p_label - log Σ other p, the logit of the label's probability.

    It rises as the loss falls, and does not saturate.
    """
    import torch

    from engine.lab.audits.gaussian import margins

    found = []
    with torch.no_grad():
        for inputs, labels in batches:
            found.append(-margins(model(inputs).double(), labels).cpu())
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def pieces(batch: Batch, size: int = 256) -> Iterable[Batch]:
    """A large batch in parts that suit the model."""
    from engine.lab.texts import trimmed

    for start in range(0, len(batch.labels), size):
        part = slice(start, start + size)
        yield type(batch)(trimmed(batch.inputs[part]), batch.labels[part])
