"""What audits read beside the model they measure: the stages behind `Audit.reads`.

Each is planned when an audit first asks for it, so a preset without such audits has the keys it
always had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.spec.component import Attack, Audit, Method, poisoned_count
from engine.spec.errors import BadInput
from engine.spec.registry import component_name

if TYPE_CHECKING:
    from engine.spec.setting import Ground, Setting, Subject

Keys = dict[str, str]


def shadow_role(index: int) -> str:
    """What a shadow is called: an input of audits, and the stream of its random numbers."""
    return f"shadow-{index:03}"


class Readings:
    """The stages that audits of one attack and seed read, by what they are to the audit."""

    def __init__(
        self,
        setting: Setting,
        attack_title: str,
        attack: Attack,
        seed: int,
        ground: Ground,
    ) -> None:
        self.setting = setting
        self.attack_title = attack_title
        self.attack = attack
        self.seed = seed
        self.suffix = ground.suffix
        self.base = ground.base
        self.poisoned = ground.poisoned
        self.retained = ground.retained
        self.trained = ground.trained
        self.stops: dict[tuple[str, str, int, float], list[Subject]] = {}

    def of(self, audit: Audit, subject: Subject) -> tuple[Keys, dict[str, Any]]:
        """(inputs, config outside the key) of the audit's stage on this model. Raises BadInput."""
        inputs, shown = dict(self.poisoned), {}
        if "start" in audit.reads:
            inputs["start"] = self.trained
        if "retrain" in audit.reads:
            title = f"retrain {self.suffix}"
            inputs["retrain"] = self.setting._train(title, self.retained, self.seed, "paired", {})
        if "control" in audit.reads:
            inputs["control"] = self._control()
        if "decoys" in audit.reads:
            # The craft stage's key holds the attack's identity already.
            shown = {"decoys_of": self.attack.config()}
        if "shadows" in audit.reads or "unlearned-shadows" in audit.reads:
            count, share = audit.shadow_models()
            unlearned = "unlearned-shadows" in audit.reads and subject.by is not None
            if not self.setting.experiment.validation:
                raise BadInput(
                    f"audits.{component_name(type(audit))}: validation = 0: shadow models need "
                    "validation rows, the non-members come from there; .1 is the default."
                )
            for index in range(count):
                key = self._shadow(index, share)
                if unlearned:
                    assert subject.by is not None and subject.budget is not None
                    key = self._unlearned(subject.by, subject, index, share, key)
                inputs[shadow_role(index)] = key
        return inputs, shown

    def _control(self) -> str:
        """Training as the poisoned one, without as many random clean rows as there is poison."""
        setting, rule = self.setting, self.attack.selection()
        wanted = poisoned_count(rule, setting.rows)
        if 2 * wanted > setting.rows:
            raise BadInput(
                f"attacks.{component_name(type(self.attack))}: {wanted} of {setting.rows} rows are "
                "poison; the control needs as many clean ones."
            )
        title = f"control of {self.attack_title} {self.suffix}"
        select = setting.planner.add(
            "select",
            f"select rows, {title}",
            {"rule": rule | {"control": True}, "seed": self.seed},
            self.base,
        )
        inputs = self.poisoned | {"exclude": select}
        return setting._train(f"train {title}", inputs, self.seed, "paired", {})

    def _shadow(self, index: int, share: float) -> str:
        """A model trained on the retained rows and half of poison and decoys."""
        setting, role = self.setting, shadow_role(index)
        config = {
            "model": setting.model,
            "train": setting.recipe,
            "seed": self.seed,
            "role": role,
            "shadow": {"index": index, "retain_share": share},
        }
        rows = poisoned_count(self.attack.selection(), setting.rows) / setting.rows
        return setting.planner.add(
            "train",
            f"train {role} of {self.attack_title} {self.suffix}",
            config | {"decoys_of": self.attack.config()},
            self.poisoned,
            component=setting.experiment.model,
            identity=config | setting.decided,
            tee=setting.training_tee * (share * (1 - rows) + rows),
            threads=setting.threads,
        )

    def _unlearned(
        self, method: Method, subject: Subject, index: int, share: float, start: str
    ) -> str:
        """A shadow after the method under audit, its halves of poison and decoys the forget set.

        The rows follow from the shadow's own key: what is `shown` of them here is not in the key.
        """
        name, label = subject.method, subject.variant
        shadow = name, label, index, share
        if shadow not in self.stops:
            title = (
                f"{self.attack_title}/{name}[{label}]" if label else f"{self.attack_title}/{name}"
            )
            suffix = f"{self.suffix} {shadow_role(index)}"
            shown = {
                "role": shadow_role(index),
                "shadow": {"index": index, "retain_share": share},
                "decoys_of": self.attack.config(),
            }
            inputs = self.poisoned | {"start": start} | subject.chosen
            self.stops[shadow] = self.setting._unlearn(
                title, suffix, name, label, method, inputs, self.seed, shown
            )
        return next(stop.key for stop in self.stops[shadow] if stop.budget == subject.budget)
