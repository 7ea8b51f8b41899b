"""What an audit looks at: one model in eval mode and every form of the samples, named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from engine.lab.views import Batch, Poison, Rows


@dataclass(frozen=True)
class Measured:
    """An audit's numbers, by metric; None where undefined. `arrays` hold per-sample values.

    `places`: int64 [M], which of the P poisoned rows arrays["scores"] belong to, where they belong
    to such rows.
    """

    metrics: Mapping[str, float | None]
    arrays: dict[str, Tensor] = field(default_factory=dict)
    places: Tensor | None = None


@dataclass(frozen=True)
class Subject:
    """A model under audit.

    retain, forget: trained-on form.  validation, test: clean rows the learner never saw.
    base: the poisoned rows as they were before, for audits that need the clean input.
    load, make_decoys: what the audit's `reads` ask for; see `other` and `decoys`.
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
    load: Callable[[str], nn.Module] | None = None
    make_decoys: Callable[[int, bool], Batch] | None = None

    def other(self, role: str) -> nn.Module:
        """Another model, loaded anew, in eval mode: "start", "retrain", "control" or a shadow."""
        if self.load is None:
            raise KeyError(
                f"no model to load as {role!r}: does the audit declare that it reads it?"
            )
        return self.load(role).eval()

    def decoys(self, limit: int, test: bool = True) -> Batch:
        """Up to `limit` rows no learner reads, in the poison's trained-on form: validation rows
        first, then (if `test`) test rows."""
        if self.make_decoys is None:
            raise KeyError("no decoys: does the audit declare that it reads them?")
        return self.make_decoys(limit, test)

    def of_poison(self, some: Tensor) -> Subject:
        """The same with only `some` (bool [P]) of the poisoned rows."""
        poison = self.poison
        rows = poison.rows[some]
        # What is kept for each row has the inputs' dimensions; a trigger has one less.
        extras = {
            name: kept[some] if kept.dim() == poison.inputs.dim() else kept
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
