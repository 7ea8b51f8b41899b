"""[verdicts] of a preset: what may be set, what is refused and how, and what it changes."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest

from engine.spec import presets
from engine.spec.component import Audit
from engine.spec.errors import BadInput
from engine.spec.margins import changed, judged, read_margins
from engine.spec.plan import make_plan
from engine.spec.registry import registered


@pytest.fixture
def raw(raw: dict[str, Any]) -> dict[str, Any]:
    """The small preset with a backdoor and an audit that only describes beside its noise."""
    raw["attacks"].append({"name": "badnets", "share": 0.05})
    raw["audits"] += [{"name": "attack-success"}, {"name": "agreement"}]
    return raw


def test_a_margin_is_read_written_and_set(raw: dict[str, Any]) -> None:
    plain = presets.validate(copy.deepcopy(raw), "test")
    presets.set_dotted(raw, "verdicts.attack-success.asr=0.03")
    found = presets.validate(raw, "test")
    assert found.verdicts == {"attack-success": {"asr": 0.03}}
    for full in (False, True):
        text = presets.to_toml(found, full=full)
        assert "[verdicts]\nattack-success.asr = 0.03\n" in text
        assert presets.validate(tomllib.loads(text), "test") == found
        assert "verdicts" not in presets.to_toml(plain, full=full)
    assert make_plan(found, "cpu").to_json() == make_plan(plain, "cpu").to_json()


def test_it_goes_into_every_setting_of_a_grid(raw: dict[str, Any]) -> None:
    raw |= {"verdicts": {"gaussian": {"mean_score": 2}}, "grid": {"train.lr": [0.1, 0.2]}}
    settings = presets.settings(presets.validate(raw, "test"), "test")
    assert [one.verdicts for _, one in settings] == [{"gaussian": {"mean_score": 2.0}}] * 2


@pytest.mark.parametrize("name", sorted(registered("audit")))
def test_every_audit_with_a_margin_takes_another(name: str) -> None:
    cls = registered("audit")[name]
    assert issubclass(cls, Audit)
    primary = judged(cls)
    assert (primary is None) == (not cls.primary)
    if primary is not None:
        metric, own = primary
        assert changed({name: {metric: own.margin}}) == {}  # type: ignore[dict-item]
        half = own.margin / 2  # type: ignore[operator]
        assert changed({name: {metric: half}}) == {name: {metric: half}}
        assert own.span is None or own.margin < own.span  # type: ignore[operator]


KNOWN = "accuracy, attack-success, gaussian"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "verdicts.attack-success.asr=0",
            "verdicts.attack-success.asr = 0: should be greater than 0",
        ),
        ("verdicts.attack-success.asr=-0.1", "asr = -0.1: should be greater than 0"),
        ("verdicts.attack-success.asr=nan", "asr = nan: should be a finite number"),
        ("verdicts.gaussian.mean_score=inf", "mean_score = inf: should be a finite number"),
        ("verdicts.attack-success.asr=true", "asr = True: should be a valid number"),
        ("verdicts.attack-success.asr=wide", "asr = 'wide': should be a valid number"),
        (
            "verdicts.attack-success.asr=[0.1]",
            "verdicts.attack-success.asr: should be a valid number",
        ),
        ("verdicts.attack-success=0.1", "verdicts.attack-success = 0.1: must be a table"),
        ("verdicts=0.1", "verdicts = 0.1: must be a table"),
        (
            "verdicts.attack-success.asr=1",
            "verdicts.attack-success.asr = 1.0: must be below 1, as no two values of asr lie farther "
            "apart (shipped: 0.05)",
        ),
        ("verdicts.accuracy.test_accuracy=2", "test_accuracy = 2.0: must be below 1, "),
        (
            "verdicts.atack-success.asr=0.1",
            "verdicts.atack-success: unknown audit 'atack-success'. Did you mean 'attack-success'? "
            f"Known: {KNOWN}",
        ),
        (
            "verdicts.mia-loss.auc=0.1",
            "verdicts.mia-loss: audits does not list mia-loss; a margin can be set for accuracy, "
            "gaussian, attack-success",
        ),
        (
            "verdicts.agreement.test_agreement=0.1",
            "verdicts.agreement: agreement gives no verdict and has no margin; one can be set for "
            "accuracy, gaussian, attack-success",
        ),
        (
            "verdicts.attack-success.ars=0.1",
            "verdicts.attack-success.ars: unknown metric 'ars'. Did you mean 'asr'? Known: asr",
        ),
        (
            "verdicts.attack-success.untriggered_rate=0.1",
            "verdicts.attack-success.untriggered_rate: only the primary metric gets a verdict and has "
            "a margin: asr",
        ),
        ("verdict.attack-success.asr=0.1", "unknown key 'verdict'. Did you mean 'verdicts'?"),
    ],
)
def test_what_does_not_fit_is_refused(raw: dict[str, Any], assignment: str, message: str) -> None:
    presets.set_dotted(raw, assignment)
    with pytest.raises(BadInput) as caught:
        presets.validate(raw, "file.toml")
    assert str(caught.value).startswith("file.toml: verdict") and message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["null", "direction", "family"])
def test_only_margins_can_be_set(raw: dict[str, Any], key: str) -> None:
    raw["verdicts"] = {"attack-success": {key: 0.1}}
    with pytest.raises(BadInput, match=f"unknown metric '{key}'"):
        presets.validate(raw, "test")


def test_what_has_no_meaning_here_changes_nothing() -> None:
    """A run may come from a machine with other packages, or from another version."""
    odd = {
        "theirs": {"x": 0.1},
        "attack-success": {"older": 0.1},
        "shift": {"y": 1.0},
        "gaussian": {},
    }
    assert changed(odd) == {}


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (3, "verdicts = 3: must be a table"),
        ({"gaussian": 3}, "verdicts.gaussian = 3: must be a table"),
        *(
            (
                {"gaussian": {"mean_score": bad}},
                r"verdicts\.gaussian\.mean_score = .*: must be a number above 0",
            )
            for bad in (0, -1, True, "1", [1], float("nan"), float("inf"), 10**400)
        ),
    ],
)
def test_margins_of_a_run_are_read_with_care(verdicts: object, message: str) -> None:
    with pytest.raises(BadInput, match=f"^run r: {message}"):
        read_margins({"verdicts": verdicts}, "run r")
    assert read_margins({}, "run r") == {}
    assert read_margins({"verdicts": {"theirs": {"x": 1}}}, "run r") == {"theirs": {"x": 1.0}}
