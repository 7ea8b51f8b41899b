"""What an audit looks at: one model in eval mode and every form of the samples, named."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from engine.lab.views import Poison, Rows


@dataclass(frozen=True)
class Measured:
    """An audit's numbers, by metric; None where undefined. `arrays` hold per-sample values."""

    metrics: dict[str, float | None]
    arrays: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A model under audit.

    retain, forget: trained-on form.  validation, test: clean rows the learner never saw.
    base: the poisoned rows as they were before, for audits that need the clean input.
    """

    model: nn.Module
    retain: Rows
    forget: Rows
    validation: Rows
    test: Rows
    base: Rows
    poison: Poison
    seed: int
    device: str
    classes: int

    def of_poison(self, some: Tensor) -> Subject:
        """The same with only `some` (bool [P]) of the poisoned rows."""
        poison = self.poison
        rows = poison.rows[some]
        # What is kept for each row has the shape of the inputs; a trigger has one less dimension.
        extras = {
            name: kept[some] if kept.shape == poison.inputs.shape else kept
            for name, kept in poison.extras.items()
        }
        part = replace(
            poison, rows=rows, inputs=poison.inputs[some], labels=poison.labels[some], extras=extras
        )
        base = rows[rows < len(self.base.data)]
        return replace(
            self,
            poison=part,
            forget=Rows(self.forget.data, rows),
            base=Rows(self.base.data, base),
        )
