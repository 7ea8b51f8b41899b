"""The Gaussian unlearning score: does the model's input gradient still know the noise?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    import torch

    from engine.lab.subject import Measured, Subject

THRESHOLD_1PCT = 2.3263478740408408  # 99 % quantile of N(0, 1)


class Gaussian(Audit):
    """s = -⟨g, ξ⟩ / (noise_std ‖g‖) at the clean input, g the input gradient of the margin.

    For any model independent of ξ, s is exactly N(0, 1). Training on x + ξ lowers the loss along
    +ξ, so residue is positive.
    """

    name: Literal["gaussian"] = "gaussian"
    null_draws: int = Field(
        default=512, ge=50, description="Fresh noises per sample for the empirical null."
    )

    needs: ClassVar = frozenset({"noise"})
    primary: ClassVar = "mean_score"
    per_row: ClassVar = True
    metrics: ClassVar = {
        "mean_score": Metric(
            "Mean of the oriented score over the poisoned rows; 0 if the noise is forgotten.",
            direction="up", margin=0.15, null="standard-normal",
            blind_spots="0 does not mean that a behavioural attack is gone; a method that "
            "scrambles input gradients also brings it to 0, so read it beside the accuracy.",
        ),
        "std_score": Metric("Standard deviation of the score over the poisoned rows; 1 if forgotten."),
        "z": Metric("√P × mean_score: standard errors away from independence.", direction="up"),
        "tpr_at_1pct_fpr": Metric(
            "Share of poisoned rows beyond the 99 % quantile of N(0, 1).", direction="up"
        ),
        "tpr_at_1pct_fpr_empirical": Metric(
            "The same against fresh noise on the same gradients; should agree with the analytic one.",
            direction="up",
        ),
        "p_two_sided": Metric("Two-sided p-value of z under N(0, 1).", averaged=False),
        "ks_p": Metric(
            "Kolmogorov-Smirnov p-value of the scores against N(0, 1).", averaged=False
        ),
        "min_detectable": Metric("Mean score found with 80 % power at 5 %: 2.8/√P. Read it beside 0."),
        "count": Metric("Poisoned rows scored."),
        "zero_gradients": Metric("Poisoned rows left out because their gradient is exactly zero."),
    }  # fmt: skip
    card: ClassVar = Card(
        title="Gaussian unlearning score",
        summary="Correlates each poisoned row's input gradient with the noise it was trained with.",
        reference="Pawelczyk et al., ICLR 2025, Algorithm 1 (GUS)",
        needs="an attack that keeps its noise (gaussian)",
        cost="one forward and input-backward over the poisoned rows",
        deviations="gradient of the log-sum-exp margin (the loss's direction, without its "
        "underflow), at the clean input, oriented so that residue is positive",
    )

    def measure(self, subject: Subject) -> Measured:
        import torch
        from scipy.stats import kstest

        from engine.lab.randomness import torch_generator
        from engine.lab.subject import Measured

        scores, gradients = gaussian_scores(subject)
        count = len(scores)
        zeros = len(subject.base) - count
        if count == 0:
            empty: dict[str, float | None] = dict.fromkeys(self.metrics)
            return Measured(empty | {"count": 0.0, "zero_gradients": float(zeros)})
        z = count**0.5 * float(scores.mean())
        shape = (self.null_draws, gradients.shape[1])
        fresh = torch.randn(shape, generator=torch_generator(subject.seed, "fresh noise"))
        null = (gradients.cpu() @ fresh.to(gradients.dtype).T).flatten()
        threshold = null.kthvalue(int(0.99 * (len(null) - 1)) + 1).values
        host = scores.cpu()
        metrics: dict[str, float | None] = {
            "mean_score": float(host.mean()),
            "std_score": float(host.std()) if count > 1 else None,
            "z": z,
            "tpr_at_1pct_fpr": float((host > THRESHOLD_1PCT).double().mean()),
            "tpr_at_1pct_fpr_empirical": float((host > threshold).double().mean()),
            "p_two_sided": float(torch.special.erfc(torch.tensor(abs(z) / 2**0.5).double())),
            "ks_p": float(kstest(host.numpy(), "norm").pvalue),
            "min_detectable": 2.8 / count**0.5,
            "count": float(count),
            "zero_gradients": float(zeros),
        }
        return Measured(metrics, {"scores": host})


def gaussian_scores(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [M] and unit gradients [M, D], float64, of the M poisoned rows whose gradient is not 0.

    The dot product and the norm are taken in float64; the model runs in its own precision.
    """
    import torch

    noise = subject.poison.extras["noise"].flatten(1).double()
    noise_std = subject.poison.facts["noise_std"]
    gradients = torch.cat(
        [
            margin_gradients(subject.model, inputs, labels).flatten(1).double()
            for inputs, labels in subject.base.batches()
        ]
    )
    norms = gradients.norm(dim=1)
    kept = norms > 0
    unit = gradients[kept] / norms[kept, None]
    return -(unit * noise[kept]).sum(1) / noise_std, unit


def margin_gradients(
    model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """∇_x [logsumexp of the other logits - logit of the label] of every row, shaped like `inputs`.

    One backward of the sum: in eval mode rows do not touch each other. The cross-entropy's gradient
    is this one times (1 - p_label), which underflows for confident models; this one does not.
    """
    import torch

    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_(True)
        logits = model(inputs)
        own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        margin = logits.masked_fill(own, -torch.inf).logsumexp(1) - logits[own]
        (gradient,) = torch.autograd.grad(margin.sum(), inputs)
    return gradient


def glimpse(subject: Subject, rows: int = 512) -> dict[str, Any]:
    """Histogram, mean and std of the scores, for the live view: {"edges", "counts", "mean", …}."""
    import torch

    from engine.lab.training import looking_at

    with looking_at(subject.model):
        scores, _ = gaussian_scores(subject)
    scores = scores[:rows].cpu()
    edges = torch.arange(-8.0, 8.01, 0.5, dtype=torch.float64)
    counts = torch.histogram(scores.clamp(-8, 8), edges).hist
    return {
        "edges": [-8.0, 8.0, 0.5],
        "counts": counts.int().tolist(),
        "count": len(scores),
        "mean": float(scores.mean()) if len(scores) else None,
        "std": float(scores.std()) if len(scores) > 1 else None,
    }
