"""What is claimed to people: margins, citations, and what cards own up to."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from engine.results.tidy import registered_audits
from engine.spec.registry import registered

ROOT = Path(__file__).resolve().parents[2]

# By these *removed* is said: whoever changes one changes verdicts, and says so in the changelog.
MARGINS = {
    "accuracy.test_accuracy": 0.02,
    "attack-success.asr": 0.05,
    "gaussian.mean_score": 0.15,
    "interclass-confusion.test_confusion": 0.05,
    "mia-lira.auc": 0.02,
    "mia-loss.auc": 0.02,
    "mia-ulira.auc": 0.02,
    "targeted-success.adversarial_probability": 0.05,
}


def shipped() -> dict[str, float]:
    return {
        f"{audit}.{name}": metric.margin
        for audit, cls in registered_audits().items()
        for name, metric in cls.metrics.items()
        if metric.margin is not None
    }


def test_the_margins_are_those_that_were_published() -> None:
    assert shipped() == MARGINS
    judged = {f"{n}.{cls.primary}" for n, cls in registered_audits().items() if cls.primary}
    assert set(MARGINS) == judged, "every primary metric has one, and no other"


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("name", MARGINS)
def test_a_margin_that_is_halved_or_doubled_turns_it_red(
    name: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, _, metric = name.partition(".")
    cls = registered_audits()[audit]
    own = cls.metrics[metric]
    other = replace(own, margin=factor * MARGINS[name])
    monkeypatch.setattr(cls, "metrics", cls.metrics | {metric: other})
    with pytest.raises(AssertionError):
        test_the_margins_are_those_that_were_published()


@pytest.mark.parametrize("name", sorted(registered("method")))
def test_cards_own_up_to_the_optimizer(name: str) -> None:
    cls = registered("method")[name]
    source = inspect.getsource(inspect.getmodule(cls) or cls)
    if "task.sgd(" in source:
        assert "AdamW" in cls.card.deviations


OWNED_UP = {
    "ngd": "AdamW", "salun": "AdamW", "relabel": "forget steps", "scrub": "to the budget's end",
    "gradient-canceling": "row-normalised", "badnets": "1.5 %", "text-trigger": "at random",
    "gradient-matching": "without augmentation", "mia-ulira": "mia-lira's shadows",
}  # fmt: skip


@pytest.mark.parametrize("name", OWNED_UP)
def test_cards_own_up_to_deviations(name: str) -> None:
    kinds = (registered(kind) for kind in ("method", "attack", "audit"))
    [card] = [known[name].card for known in kinds if name in known]
    assert OWNED_UP[name] in card.deviations


OVER_CLAIMS = (
    "the audit would be wrong", "a reviewer would accept", "Holm over methods", "out entirely",
    "not published", "M2 of Pawelczyk", "M3 of Pawelczyk", "Tarun",
)  # fmt: skip


def test_nothing_is_claimed_that_was_not_shown() -> None:
    texts = [ROOT / "README.md"]
    for folder, ending in (("docs", "md"), ("presets", "toml"), ("engine", "py")):
        texts += (ROOT / folder).rglob(f"*.{ending}")
    assert len(texts) > 100
    for path in texts:
        text = " ".join(path.read_text(encoding="utf-8").replace("#", " ").split())
        assert not [claim for claim in OVER_CLAIMS if claim in text], path


def test_what_was_not_available_is_said_to_be_so() -> None:
    for path in (ROOT / "presets").glob("paper-*.toml"):
        text = " ".join(path.read_text(encoding="utf-8").replace("#", " ").split())
        if "re-study" in text:
            assert "Appendix D, which was not available to us" in text, path
