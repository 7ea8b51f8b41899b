"""Every registered component: readable without torch, explained, and itself after a round trip."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any, get_args

import pytest

from engine.spec.component import (
    KINDS,
    Attack,
    Audit,
    Component,
    Listed,
    Method,
    Reading,
    Role,
    strictly,
)
from engine.spec.errors import BadInput
from engine.spec.registry import component_name, find, registered

EVERY = [
    pytest.param(kind, name, cls, id=f"{kind}-{name}")
    for kind in KINDS
    for name, cls in registered(kind).items()
]

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "transformers", "tokenizers"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from engine.spec.component import KINDS
from engine.spec.registry import registered
from engine.spec.experiment import Experiment

Experiment.model_json_schema()
for kind in KINDS:
    for name, cls in registered(kind).items():
        cls.model_json_schema()
        print(kind, name, cls.card.title)
print("scipy" in sys.modules, "numpy" in sys.modules)
"""


def default(cls: type[Component]) -> Component:
    """With every default; required text gets a stand-in."""
    needed = {key: "x" for key, told in cls.model_fields.items() if told.is_required()}
    return cls.model_validate(needed)


def test_all_can_be_read_with_torch_blocked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *told, loaded = done.stdout.splitlines()
    assert len(told) == len(EVERY)
    assert loaded == "False False", "heavy modules belong inside the methods that use them"


def test_every_kind_has_some() -> None:
    assert {kind for kind in KINDS if registered(kind)} == set(KINDS)
    assert {"none", "retrain", "retrain-fresh", "gd", "ngd"} <= registered("method").keys()


@pytest.mark.parametrize(("kind", "name", "cls"), EVERY)
class TestComponent:
    def test_it_has_a_card(self, kind: str, name: str, cls: type[Component]) -> None:
        card = cls.card
        assert card.title and card.reference and cls.__doc__
        assert len(card.summary) >= 20 and card.summary.endswith(".")
        assert cls.version >= 1
        assert component_name(cls) == name and find(kind, name) is cls

    def test_its_defaults_survive_a_round_trip(
        self, kind: str, name: str, cls: type[Component]
    ) -> None:
        one = default(cls)
        told = one.model_dump(mode="json", exclude_none=True)
        assert strictly(cls, told) == one
        assert cls.model_validate_json(one.model_dump_json()) == one

    def test_it_refuses_what_it_does_not_know(
        self, kind: str, name: str, cls: type[Component]
    ) -> None:
        told = default(cls).model_dump(mode="json", exclude_none=True)
        with pytest.raises(ValueError, match="colour"):
            strictly(cls, told | {"colour": "red"})

    def test_its_config_validates_to_itself(
        self, kind: str, name: str, cls: type[Component]
    ) -> None:
        """Stages carry `config()` and build the component from it."""
        one = default(cls)
        if isinstance(one, Listed):
            assert type(one).model_validate(one.config()) == one
            assert not {"label", "grid"} & one.config().keys()
            with contextlib.suppress(BadInput):  # a stand-in for a path leads nowhere
                assert not {"label", "grid"} & one.identity().keys()


AUDITS = [pytest.param(cls, id=name) for name, cls in registered("audit").items()]
ATTACKS = [pytest.param(cls, id=name) for name, cls in registered("attack").items()]
METHODS = [pytest.param(cls, id=name) for name, cls in registered("method").items()]


@pytest.mark.parametrize("cls", AUDITS)
def test_an_audit_says_how_its_numbers_are_read(cls: type[Audit]) -> None:
    if cls.primary:
        primary = cls.metrics[cls.primary]
        assert primary.margin is not None and primary.margin > 0
        assert primary.direction is not None
        assert primary.blind_spots, "the primary metric must say what it cannot see"
    else:
        assert any(metric.blind_spots for metric in cls.metrics.values())
    assert cls.reads <= set(get_args(Reading))
    assert all(metric.summary.endswith(".") for metric in cls.metrics.values())
    gives: set[str] = set().union(*(attack.gives for attack in registered("attack").values()))
    assert cls.needs <= gives


@pytest.mark.parametrize("cls", ATTACKS)
def test_an_attack_says_what_its_attacker_must_know(cls: type[Attack]) -> None:
    """A line of the knowledge table; nothing may read "not told"."""
    told = cls.knows.told()
    assert set(told) == {"controls", "training data", "model", "recipe", "test input"}
    assert "not told" not in told.values() and all(told.values())


@pytest.mark.parametrize("cls", METHODS)
def test_a_method_declares_what_it_is_and_reads(cls: type[Method]) -> None:
    assert cls.role in get_args(Role)
    assert cls.reads <= {"retain", "forget"}
    if cls.role == "unlearn":
        assert cls.step is not Method.step


def test_a_grid_becomes_its_variants() -> None:
    told: dict[str, Any] = {"name": "ngd", "grid": {"lr": [0.1, 0.2], "grad_noise_std": [0, 1.0]}}
    variants = find("method", "ngd").model_validate(told).variants()  # type: ignore[attr-defined]
    assert len(variants) == 4 == len({label for label, _ in variants})
    assert {(v.lr, v.grad_noise_std) for _, v in variants} == {
        (lr, std) for lr in (0.1, 0.2) for std in (0, 1)
    }
