"""The Gaussian unlearning score: does the model's input gradient still know the noise?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine.spec.component import Audit, Card, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from engine.lab.subject import Measured, Subject
    from engine.lab.views import Batch

THRESHOLD_1PCT = 2.3263478740408408  # 99 % quantile of N(0, 1)


class Gaussian(Audit):
    """s = -⟨g, ξ⟩ / (noise_std ‖g‖) at the clean input, g the input gradient of the margin.

    For any model independent of ξ, s is exactly N(0, 1). Training on x + ξ lowers the loss along
    +ξ, so residue is positive.

    The rank test asks the same of behaviour, with no normality and no gradient: where does the
    model's margin at x + ξ stand among its margins at x + fresh noise? For any model independent
    of ξ all of these are exchangeable, so the rank is exactly uniform.
    """

    name: Literal["gaussian"] = "gaussian"
    null_draws: int = Field(
        default=512, ge=50, description="Fresh noises per sample for the empirical null."
    )

    rank_draws: int = Field(
        default=99,
        ge=0,
        description="Fresh noises per sample for the rank test, a forward pass each; 0: no test.",
    )

    version: ClassVar = 2  # the rank test was added; the other metrics are what they were
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
            "Share of poisoned rows beyond the 99 % quantile of N(0, 1).",
            direction="up", share_of="tail",
        ),
        "tpr_at_1pct_fpr_empirical": Metric(
            "The same against fresh noise on the same gradients; should agree with the analytic one.",
            direction="up", share_of="tail",
        ),
        "p_two_sided": Metric("Two-sided p-value of z under N(0, 1).", averaged=False),
        "ks_p": Metric(
            "Kolmogorov-Smirnov p-value of the scores against N(0, 1).", averaged=False
        ),
        "min_detectable": Metric("Mean score found with 80 % power at 5 %: 2.8/√P. Read it beside 0."),
        "count": Metric("Poisoned rows scored."),
        "zero_gradients": Metric("Poisoned rows left out because their gradient is exactly zero."),
        "rank_mean": Metric(
            "Mean over poisoned rows of the share of fresh noises that the model fits worse than "
            "the row's own; exactly 0.5 on average if forgotten, whatever the model.",
            direction="up",
            blind_spots="It sees that the noise made the label surer or less sure, not where in "
            "the input; the mean can miss a few rows well remembered among many forgotten.",
        ),
        "rank_z": Metric(
            "rank_mean in standard errors of its exact null: ranks are uniform and rows are "
            "independent.",
            direction="up",
        ),
        "rank_p": Metric("Two-sided p-value of rank_z.", averaged=False),
        "rank_top_1pct": Metric(
            "Share of poisoned rows whose own noise is fitted better than 99 % of fresh noises; "
            "binomial with exactly 1 % if forgotten. For 99, 199, … draws.",
            direction="up", share_of="tail",
        ),
    }  # fmt: skip
    card: ClassVar = Card(
        title="Gaussian unlearning score",
        summary="Correlates each poisoned row's input gradient with the noise it was trained with.",
        reference="Pawelczyk et al., ICLR 2025, Algorithm 1 (GUS)",
        needs="an attack that keeps its noise (gaussian)",
        cost="one forward and input-backward over the poisoned rows; for the rank test a forward "
        "over a hundred noised copies of each",
        deviations="gradient of the log-sum-exp margin (the loss's direction, without its "
        "underflow), at the clean input, oriented so that residue is positive",
    )

    def measure(self, subject: Subject) -> Measured:
        import torch
        from scipy.stats import kstest

        from engine.lab.randomness import torch_generator
        from engine.lab.subject import Measured

        scores, gradients, places = placed_scores(subject)
        count = len(scores)
        zeros = len(subject.base) - count
        ranks = noise_ranks(subject, self.rank_draws) if self.rank_draws else None
        if count == 0:
            empty: dict[str, float | None] = dict.fromkeys(self.metrics)
            told = {"count": 0.0, "zero_gradients": float(zeros)}
            return Measured(empty | told | rank_metrics(ranks, self.rank_draws))
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
        arrays = {"scores": host} | ({} if ranks is None else {"ranks": ranks})
        return Measured(metrics | rank_metrics(ranks, self.rank_draws), arrays, places.cpu())


def gaussian_scores(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [M] and unit gradients [M, D], float64, of the M poisoned rows whose gradient is not 0.

    The dot product and the norm are taken in float64; the model runs in its own precision.
    """
    return placed_scores(subject)[:2]


def placed_scores(subject: Subject) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`gaussian_scores`, and the places, int64 [M], of these rows among all poisoned ones."""
    import torch

    noise = subject.poison.noise
    noise_std = subject.poison.facts["noise_std"]
    found, places = [], []
    for place, (inputs, labels) in noisable(subject):
        gradient = margin_gradients(subject.model, inputs, labels)
        found.append(as_long_as(gradient, noise).flatten(1).double())
        places.append(place)
    gradients = torch.cat(found)[torch.cat(places).argsort().to(noise.device)]
    norms = gradients.norm(dim=1)
    kept = norms > 0
    unit = gradients[kept] / norms[kept, None]
    scores = -(unit * noise.flatten(1).double()[kept]).sum(1) / noise_std
    return scores, unit, kept.nonzero()[:, 0]


def noisable(subject: Subject) -> Iterator[tuple[torch.Tensor, Batch]]:
    """The poisoned rows as they were before, in a form that noise can be added to: (places among
    them, int64 on the CPU; batch).

    Of texts that is token ids with room for what is added to their embeddings, grouped by length.
    The embeddings are the model's own: they may have moved since the poisoning.
    """
    import torch

    from engine.lab.texts import is_text, with_room
    from engine.lab.views import Batch

    rows, data = subject.base.rows, subject.base.data
    places, visit = torch.arange(len(rows)), subject.base.visit()
    if visit.lengths is not None:
        places = visit.lengths.argsort(stable=True)
    for place in torch.split(places, subject.base.at_once):
        inputs, labels = data.take(rows[place.to(rows.device)], visit.width(place))
        if is_text(inputs):
            inputs = with_room(inputs, subject.poison.inputs.shape[2] - 1)
        yield place, Batch(inputs, labels)


def as_long_as(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Texts [B, l, 1 + D] with zeros up to the length of [P, L, 1 + D]; images as they are."""
    from torch.nn.functional import pad

    missing = whole.shape[1] - part.shape[1]
    return pad(part, (0, 0, 0, missing)) if missing else part


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
        (gradient,) = torch.autograd.grad(margins(model(inputs), labels).sum(), inputs)
    return gradient


def margins(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[B]: logsumexp of the other logits minus the label's logit; the loss is log(1 + exp of it)."""
    import torch

    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).logsumexp(1) - logits[own]


def noise_ranks(subject: Subject, draws: int) -> torch.Tensor:
    """int64 [P] in 0 … draws: how many of `draws` fresh noises the model fits worse than the row's
    own (a higher margin at x + noise). Ties are broken at random, so that the null stays uniform.
    """
    import torch

    from engine.lab.randomness import torch_generator
    from engine.lab.texts import is_text, on_tokens

    noise = subject.poison.noise
    noise_std = subject.poison.facts["noise_std"]
    generator = torch_generator(subject.seed, "rank noise")
    ranks, places = [], []
    with torch.no_grad():
        for place, (inputs, labels) in noisable(subject):
            places.append(place)
            most = copies_at_once(subject.device, inputs[0].numel())
            for part in torch.split(torch.arange(len(labels)), max(1, most // (draws + 1))):
                base, label = inputs[part], labels[part]
                rows, shape = len(label), base.shape[1:]
                drawn = torch.randn((rows, draws, *shape), generator=generator).to(base)
                if is_text(base):
                    drawn = on_tokens(drawn, base[:, None])
                # Rounded to float32 as the poison's own was: the difference of two stored inputs.
                fresh = (base[:, None] + noise_std * drawn) - base[:, None]
                own = noise[place[part], None, : base.shape[1]].to(base)
                noised = (base[:, None] + torch.cat([own, fresh], dim=1)).flatten(0, 1)
                logits = subject.model(noised).double()
                found = margins(logits, label.repeat_interleave(draws + 1)).view(rows, draws + 1)
                mine, others = found[:, :1].cpu(), found[:, 1:].cpu()
                tied = (others == mine).sum(1)
                lucky = (torch.rand(rows, generator=generator) * (tied + 1)).long()
                ranks.append((others > mine).sum(1) + lucky.clamp(max=tied))
    return torch.cat(ranks)[torch.cat(places).argsort()]


def copies_at_once(device: str, size: int) -> int:
    """Noised copies of `size` numbers each that suit the device and half a GiB."""
    return min(512 if device == "cpu" else 8192, (1 << 27) // size)


def rank_metrics(ranks: torch.Tensor | None, draws: int) -> dict[str, float | None]:
    """The rank test's metrics. Ranks are uniform on 0 … K under the null, of variance K(K + 2)/12."""
    from math import erfc

    names = ("rank_mean", "rank_z", "rank_p", "rank_top_1pct")
    if ranks is None or not len(ranks):
        return dict.fromkeys(names)
    mean, count = float(ranks.double().mean()), len(ranks)
    z = (mean - draws / 2) / (draws * (draws + 2) / 12 / count) ** 0.5
    top = (draws + 1) // 100  # ranks out of draws + 1 that make exactly 1 %
    exact = top * 100 == draws + 1
    tail = float((ranks > draws - top).double().mean()) if exact else None
    return dict(zip(names, (mean / draws, z, erfc(abs(z) / 2**0.5), tail), strict=True))


def glimpse(subject: Subject, rows: int = 512) -> dict[str, Any]:
    """Histogram, mean and std of the scores of up to `rows` poisoned rows, spread evenly, for the
    live view: {"edges", "counts", "mean", …}."""
    import torch

    from engine.lab.training import looking_at

    poisoned = len(subject.poison.rows)
    if poisoned > rows:
        some = torch.zeros(poisoned, dtype=torch.bool, device=subject.poison.rows.device)
        some[torch.arange(rows, device=some.device) * poisoned // rows] = True
        subject = subject.of_poison(some)
    with looking_at(subject.model):
        scores, _ = gaussian_scores(subject)
    scores = scores.cpu()
    edges = torch.arange(-8.0, 8.01, 0.5, dtype=torch.float64)
    counts = torch.histogram(scores.clamp(-8, 8), edges).hist
    return {
        "edges": [-8.0, 8.0, 0.5],
        "counts": counts.int().tolist(),
        "count": len(scores),
        "mean": float(scores.mean()) if len(scores) else None,
        "std": float(scores.std()) if len(scores) > 1 else None,
    }
