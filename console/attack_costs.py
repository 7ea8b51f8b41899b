"""What a run's attacks had to know, and what making their poisons cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from engine.jobs.events import strip_control
from engine.jobs.runs import Run
from engine.spec.component import Attack, Knowledge
from engine.spec.registry import registered


@dataclass(frozen=True, slots=True)
class AttackCost:
    """One attack of a run. TEE and seconds are means of the finished poisons; None if there are none.

    A seed's surrogates serve all its poisons: `surrogate_tee` and `surrogate_seconds` are a poison's
    share of them.
    """

    attack: str
    knows: Knowledge
    poisons: int
    finished: int
    tee: float | None
    seconds: float | None
    surrogates: int
    surrogate_tee: float | None
    surrogate_seconds: float | None


def knowledge_of(name: str) -> Knowledge:
    """What an attack declares; nothing told for one that is no longer registered."""
    cls = registered("attack").get(name)
    return cls.knows if cls is not None and issubclass(cls, Attack) else Knowledge()


def attack_costs(run: Run) -> list[AttackCost]:
    """A line for each attack, in the plan's order."""
    crafts: dict[str, dict[str, None]] = defaultdict(dict)
    for cell in run.plan.cells:
        key = run.plan.stages[cell.key].inputs.get("craft")
        if key is not None:
            crafts[cell.attack][key] = None
    return [_cost(run, attack, list(keys)) for attack, keys in crafts.items()]


def _cost(run: Run, attack: str, keys: list[str]) -> AttackCost:
    stages = [run.plan.stages[key] for key in keys]
    made = [record for record in map(run.store.record, keys) if record is not None]
    looked_at = [
        [key for role, key in stage.inputs.items() if role.startswith("surrogate-")]
        for stage in stages
    ]
    trained = {key: run.store.record(key) for some in looked_at for key in some}
    models = [record for record in trained.values() if record is not None]
    whole = len(models) == len(trained)
    return AttackCost(
        attack=strip_control(attack),
        knows=knowledge_of(str((stages[0].config.get("attack") or {}).get("name"))),
        poisons=len(keys),
        finished=len(made),
        tee=sum(record.tee for record in made) / len(made) if made else None,
        seconds=sum(record.seconds for record in made) / len(made) if made else None,
        surrogates=max(map(len, looked_at)),
        surrogate_tee=sum(record.tee for record in models) / len(keys) if whole else None,
        surrogate_seconds=sum(record.seconds for record in models) / len(keys) if whole else None,
    )
