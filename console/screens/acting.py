"""Stop, pause, resume, retry, export, delete and undo, with their questions; the reader's thread does
the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from console.screens.choose import Ask, check_new_file, free_path
from console.screens.confirm import Confirm
from console.viewmodel import RESUMABLE, RunRow
from engine.jobs import control, trash
from engine.jobs.orders import Order
from engine.jobs.runs import Run
from engine.spec.errors import BadInput
from engine.spec.outputs import ANOTHER, check_output
from engine.spec.places import expanded

if TYPE_CHECKING:
    from console.app import ConsoleApp


_asked: set[str] = set()  # runs that were asked to stop, and by whom they are supervised


def stop(app: ConsoleApp, row: RunRow) -> None:
    """Ask, then ask the run to stop; of one that was asked already: kill."""
    run = Run(app.home, row.id)
    try:
        who = control.who_works(run)
    except BadInput as error:
        app.notify(str(error), severity="warning", markup=False)
        return
    name = f"{row.id} {who}"
    again = name in _asked
    under_way = ", ".join(slot.text for slot in row.slots if slot.key)
    facts = (
        "It was asked to stop already. Killed, what is under way goes on from its last checkpoint "
        "when R resumes it."
        if again
        else f"{row.done}/{row.total or '?'} stages are done and stay. What is under way stops at "
        f"its next step: {under_way or 'nothing'}. R goes on from there."
    )

    def answered(yes: bool | None) -> None:
        if yes:
            _asked.add(name)
            _in_thread(app, kill if again else ask)

    def ask() -> str:
        return f"{row.id}: asked {control.ask_to_stop(run)} to stop"

    def kill() -> str:
        control.kill(run)
        return f"{row.id} killed"

    app.push_screen(Confirm(f"{'Kill' if again else 'Stop'} {row.id} ({who})?", facts), answered)


def resume(app: ConsoleApp, row: RunRow) -> None:
    pausing = row.state == "running" and Order.PAUSE.given(Run(app.home, row.id).folder)
    if row.state not in RESUMABLE and not pausing:
        app.notify(f"{row.id} is {row.state}: nothing to resume.", severity="warning", markup=False)
        return

    def work() -> str:
        control.resume(Run(app.home, row.id))
        return f"{row.id} goes on"

    _in_thread(app, work)


def hold(app: ConsoleApp, row: RunRow) -> None:
    """Pause a run: nothing is lost by that, so nobody is asked."""

    def work() -> str:
        control.pause(Run(app.home, row.id))
        return f"{row.id} pauses when what is under way has ended; R goes on"

    _in_thread(app, work)


def retry(app: ConsoleApp, row: RunRow) -> None:
    def work() -> str:
        count, _ = control.retry(Run(app.home, row.id))
        return f"{row.id}: {count} failed stage{'s' * (count > 1)} to be computed again"

    _in_thread(app, work)


def archive(app: ConsoleApp, row: RunRow) -> None:
    """Ask where to, then write the run as one file."""

    def check(text: str) -> str:
        check_new_file(text, lambda path: check_output(path, otherwise=ANOTHER))
        return ""

    def answered(text: str | None) -> None:
        if text:
            _in_thread(app, lambda: work(expanded(text)))

    def work(path: Path) -> str:
        from engine.jobs.archive import export

        packed = export(Run(app.home, row.id), path, otherwise=ANOTHER)
        return f"{packed.path}: {packed.files} files. `chelate import` takes it in elsewhere."

    start = free_path(Path.cwd(), row.id, "tar.gz")
    app.push_screen(Ask(f"Export {row.id} (without models) to", str(start), check), answered)


def delete(app: ConsoleApp, row: RunRow) -> None:
    facts = (
        "Its plan, events and logs go; what it computed stays in the store, so that running the "
        f"same preset again costs nothing. u brings it back within {trash.UNDO:.0f} s."
    )

    def answered(yes: bool | None) -> None:
        if yes:
            _in_thread(app, work)

    def work() -> str:
        trashed = trash.delete(Run(app.home, row.id))
        app.trashed.append(trashed)
        return f"{row.id} deleted: u brings it back"

    app.push_screen(Confirm(f"Delete {row.id} ({row.state})?", facts), answered)


def undo(app: ConsoleApp) -> None:
    """Bring the run back that was deleted last."""
    if not app.trashed:
        app.notify("Nothing to undo.", severity="warning")
        return
    trashed = app.trashed.pop()
    _in_thread(app, lambda: f"{trash.restore(app.home, trashed).id} is back")


def _in_thread(app: ConsoleApp, work: Callable[[], str]) -> None:
    if app.read_only:
        app.notify("This console only watches.", severity="warning")
        return

    def job() -> None:
        try:
            told, level = work(), "information"
        except (BadInput, OSError) as error:
            told, level = str(error), "error"
        app.call_from_thread(app.notify, told, severity=level, markup=False)
        app.reader.refresh()

    app.reader.do(job)
