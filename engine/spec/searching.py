"""From a method that is to be tuned to the stages of its search: proxies, trials and a choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.spec.component import Attack, Audit, Method, poisoned_count
from engine.spec.errors import BadInput
from engine.spec.experiment import placed_in_list
from engine.spec.planned import Config, Search, Trial, shown
from engine.spec.registry import component_name, find
from engine.spec.tuning import WORDS, candidates, space

if TYPE_CHECKING:
    from engine.spec.setting import Ground, Setting

FORWARD = 1 / 3  # of training a row; as the lab's meter has it


def plan_search(
    setting: Setting, attack_title: str, attack: Attack, entry: Method, label: str, method: Method
) -> Search | None:
    """Add the search for `method`, the variant `label` of the listed `entry`; None if not tuned.

    The same search whichever seed asks, so all seeds share it. Raises BadInput.
    """
    experiment = setting.experiment
    tune = experiment.tune
    grid = space(tune, entry) if tune is not None else {}
    if tune is None or not grid:
        return None
    if experiment.forget.share < 1 and tune.objective == "proxy":
        # The proxies come from rows known to be clean: nobody knows that of all that is retained.
        raise BadInput(
            f"tune: forget.share = {experiment.forget.share:g}: a search needs clean rows as proxies, "
            "and with a part of the poison unknown nobody can tell; leave [tune] out or set "
            "forget.share = 1."
        )
    name = component_name(type(method))
    tried = _known(method, candidates(method, grid, tune.trials), setting)
    seeds = tune.seeds or experiment.seeds[:1]
    audit = _judge_of(attack_title, attack, setting) if tune.objective == "oracle" else None
    lines = _Lines(setting, attack_title, attack, audit)
    grounds = {seed: setting.prepare(attack_title, attack, seed) for seed in seeds}

    nothing = find("method", "none")()
    assert isinstance(nothing, Method)
    inputs: dict[str, str] = {}
    starts, references = [], []
    for seed, ground in grounds.items():
        key = lines.trial("before unlearning", nothing, seed, ground, ground.trained)
        inputs[f"start s{seed}"] = key
        starts.append(key)
        if audit is not None:
            retrained = setting.retrain(ground, seed)
            key = lines.trial("retrained", nothing, seed, ground, retrained)
            inputs[f"reference s{seed}"] = key
            references.append(key)
    trials = []
    plain = method.model_dump(mode="json", exclude={"label", "grid"})
    for number, config in enumerate(tried):
        setup = type(method).model_validate(plain | config)
        title = f"{name} {label} {shown(config)}".replace("  ", " ")
        keys = []
        for seed, ground in grounds.items():
            key = lines.trial(title, setup, seed, ground, ground.trained)
            inputs[f"trial {number} s{seed}"] = key
            keys.append(key)
        trials.append(Trial(config, tuple(seeds), tuple(keys)))
    variant = f"{WORDS[tune.objective]} {label}".strip()
    choice = setting.planner.add(
        "choose",
        f"choose {attack_title}/{name}[{variant}]" + (f" [{setting.label}]" * bool(setting.label)),
        {"objective": tune.objective, "tolerance": tune.tolerance, "trials": tried,
         "seeds": list(seeds)},
        inputs,
    )  # fmt: skip
    return Search(
        setting.label, attack_title, name, variant, tune.objective, choice, tuple(trials),
        tuple(starts), tuple(references),
    )  # fmt: skip


def _known(method: Method, tried: list[Config], setting: Setting) -> list[Config]:
    """The settings as the chosen one goes into the stages it decides: classes by their indices."""
    plain = method.model_dump(mode="json", exclude={"label", "grid"})
    found = []
    for config in tried:
        setup = type(method).model_validate(plain | config).resolved(setting.info)
        setup = placed_in_list(setup)
        told = setup.model_dump(mode="json")
        found.append({key: told[key] for key in config})
    return found


def _judge_of(attack_title: str, attack: Attack, setting: Setting) -> Audit:
    """The audit an oracle looks at: the first that looks for this attack's poison, by a primary
    metric and in the model alone (trials have no retraining or shadows beside them)."""
    able: list[Audit] = [
        audit
        for audit in setting.audits
        if audit.needs <= attack.offers() and audit.primary and not audit.reads
    ]
    if not able:
        raise BadInput(
            f"tune.objective = 'oracle': no listed audit can judge a trial for attack {attack_title}: "
            "it must have a primary metric and read nothing but the model, such as gaussian, "
            "attack-success or accuracy."
        )
    return next((audit for audit in able if audit.needs), able[0])


class _Lines:
    """Adds the trial stages of one attack."""

    def __init__(
        self, setting: Setting, attack_title: str, attack: Attack, audit: Audit | None
    ) -> None:
        self.setting = setting
        self.attack_title = attack_title
        self.audit = audit
        self.count = poisoned_count(attack.selection(), setting.rows)
        self.rows = setting.rows + self.count * attack.adds()
        left = setting.rows - self.count * (not attack.adds())
        if audit is None and self.count >= left:
            raise BadInput(
                f"tune: {self.count} of {setting.rows} training rows are poisoned: {left} clean ones "
                f"cannot stand in for as many and leave some to retain."
            )

    def trial(self, title: str, method: Method, seed: int, ground: Ground, start: str) -> str:
        """The stage that runs `method` from the model `start` and scores what comes out."""
        setting = self.setting
        limit = max(setting.experiment.budgets) * setting.training_tee
        config: Config = {
            "method": method.identity(),
            "model": setting.model,
            "train": setting.recipe,
            "seed": seed,
            "rows": self.rows,
        }
        if method.role == "unlearn":
            config["budget_tee"] = limit
        identity: dict[str, Any] = config | setting.decided
        if self.audit is None:
            looked_at = self.count
            inputs = ground.base | ground.frozen | {"proxy": self._proxy(seed, ground)}
        else:
            looked_at = 0
            inputs = dict(ground.poisoned)
            config |= {"audit": self.audit.identity()}
            cls = type(self.audit)
            code = {name: setting.planner.version_of(name) for name in cls.packages}
            identity |= {"audit": self.audit.identity(), "audit code": [cls.version, code]}
        scoring = FORWARD * (setting.validation + looked_at) / self.rows
        return setting.planner.add(
            "trial",
            f"trial {self.attack_title}: {title} {ground.suffix}",
            config,
            inputs | {"start": start},
            component=method,
            identity=identity,
            tee=scoring + (limit if method.role == "unlearn" else 0.0),
            threads=setting.threads,
            beside=self.audit,
        )

    def _proxy(self, seed: int, ground: Ground) -> str:
        """Clean retained rows that stand in for the forget set; attacks on the same rows share them."""
        return self.setting.planner.add(
            "proxy",
            f"proxy forget set {ground.suffix}",
            {"count": self.count, "seed": seed},
            ground.retained,
        )
