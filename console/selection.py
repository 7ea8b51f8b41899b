"""Which runs a screen shows: the marked ones, or else the open run. One rule, and its heading."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from console.viewmodel import Snapshot, elided

LEAST = 10  # columns of a run's id that is cut


@dataclass(frozen=True, slots=True)
class Selection:
    """`ids` of the runs, newest first; `marked`: chosen by the person, else it is the open run."""

    ids: tuple[str, ...] = ()
    marked: bool = False

    def heading(self, width: int) -> str:
        """Every run by its id, in so many columns, and the key that leads back to the open run."""
        if not self.marked:
            return f"run {named(self.ids, width - 4)}" if self.ids else "no run"
        several = "s" * (len(self.ids) != 1)
        start = f"{len(self.ids)} marked run{several} (U drops): "
        return start + named(self.ids, width - len(start))


def selected(snapshot: Snapshot, marked: Collection[str], open_id: str | None) -> Selection:
    """What there is to show: runs that are gone are no longer selected."""
    ids = tuple(row.id for row in snapshot.runs if row.id in marked)
    if ids:
        return Selection(ids, marked=True)
    return Selection((open_id,) if open_id else ())


def named(ids: Sequence[str], width: int) -> str:
    """The ids in `width` columns: in full where there is room, else shortened so that all differ,
    else the first of them and how many more there are."""
    text = ", ".join(ids)
    if len(text) <= width or not ids:
        return text
    for count in range(len(ids), 0, -1):
        more = f" and {len(ids) - count} more" if count < len(ids) else ""
        room = (width - len(more) - 2 * (count - 1)) // count
        short = [elided(run_id, room) for run_id in ids]
        if room >= LEAST and len(set(short)) == len(set(ids)):
            return ", ".join(short[:count]) + more
    return elided(text, max(LEAST, width))
