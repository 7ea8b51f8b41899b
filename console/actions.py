"""Everything a person can do in the console: one table, from which keys, footer, palette, help and
documentation come.

An action called `stop` is the method `action_stop` of the screens it names, or of the app when it
names none. Keys are plain characters: no function keys or chords are needed anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.binding import Binding

MODES = {
    "runs": "Runs",
    "live": "Live",
    "compare": "Compare",
    "new": "New",
    "queue": "Queue",
    "logs": "Logs",
}


@dataclass(frozen=True, slots=True)
class Action:
    """`screens` empty: everywhere. `changes`: it writes, starts or ends something, or leads to a form
    that reads or writes a path somebody types; not there with --read-only, nor is a whole screen
    whose `show` changes. `footer`: shown in the last line, the lower the number the sooner; 0 never."""

    id: str
    keys: tuple[str, ...]
    title: str
    help: str
    screens: tuple[str, ...] = ()
    changes: bool = False
    footer: int = 0

    @property
    def shown_keys(self) -> tuple[str, ...]:
        """The keys as people read them."""
        return tuple(_SPOKEN.get(key, key) for key in self.keys)


_SPOKEN = {
    "enter": "⏎",
    "escape": "esc",
    "ctrl+p": "^p",
    "ctrl+z": "^z",
    "ctrl+c": "^c",
    "ctrl+q": "^q",
}


ACTIONS: tuple[Action, ...] = (
    # --- everywhere ------------------------------------------------------------------------------
    Action("show('runs')", ("1",), "Runs", "All runs of this home folder."),
    Action("show('live')", ("2",), "Live", "Curves, histogram and log of the open run."),
    Action("show('compare')", ("3",), "Compare", "Every method against retraining."),
    Action("show('new')", ("4",), "New", "Compose an experiment and launch it.", changes=True),
    Action("show('queue')", ("5",), "Queue", "What the devices do now and what waits for them."),
    Action("show('logs')", ("6",), "Logs", "Output and events of every attempt."),
    Action("help", ("?",), "Help", "The keys of this screen and what it shows.", footer=90),
    Action("palette", (":", "ctrl+p"), "Palette", "Find an action by its name.", footer=91),
    Action("jump", ("f",), "Jump", "Put a letter on every pane; that letter goes there."),
    Action("next_theme", ("T",), "Theme", "The next colours: dark, light, safe, 16 colours."),
    Action("ring", (), "Bell", "Ring and notify (OSC 9) when a run ends, or no longer."),
    Action("undo", ("u",), "Undo", "Bring back the run just deleted (15 seconds).", changes=True),
    Action("suspend_process", ("ctrl+z",), "Suspend", "Back to the shell for a while; `fg` there "
           "brings the console back. Nothing in a browser."),
    Action("quit", ("q",), "Quit", "Close the console. Runs go on without it.", footer=92),
    # --- runs ------------------------------------------------------------------------------------
    Action("open", ("enter",), "Open", "Watch this run live.", ("runs",), footer=1),
    Action("filter", ("/",), "Filter", "Keep the lines whose letters come in this order.",
           ("runs", "live", "queue"), footer=2),
    Action("sort", ("s",), "Sort", "Sort by the next column: newest, state, name, time left.",
           ("runs",), footer=4),
    Action("mark", ("space",), "Mark", "Mark for comparison; 3 compares what is marked.",
           ("runs",), footer=3),
    Action("unmark_all", ("U",), "Unmark", "Take all marks away: Compare shows the open run again.",
           ("runs", "compare")),
    Action("stop", ("K",), "Stop", "Ask a run to stop at its next step; resume goes on from there.",
           ("runs", "live", "queue"), changes=True, footer=6),
    Action("resume", ("R",), "Resume", "Go on with a paused, stopped, failed or lost run.",
           ("runs", "live", "queue"), changes=True, footer=7),
    Action("hold", ("P",), "Pause run", "Begin nothing new: what is under way ends; resume goes on.",
           ("runs", "live", "queue"), changes=True),
    Action("retry", ("r",), "Retry", "Compute a run's failed stages again, also while others go on.",
           ("runs", "live", "queue"), changes=True),
    Action("archive", ("e",), "Export run", "A run as one file, to look at and compare elsewhere.",
           ("runs",), changes=True),
    Action("delete", ("d",), "Delete", "Remove a run; what it computed stays in the store.",
           ("runs",), changes=True, footer=8),
    # --- live ------------------------------------------------------------------------------------
    Action("next_pane", ("tab",), "Pane", "The next pane.", ("live", "logs"), footer=1),
    Action("pin", ("space",), "Pin", "Keep this curve on the chart beside others.",
           ("live",), footer=3),
    Action("band", ("b",), "Retrain band", "Retraining's curves as a band behind the others.",
           ("live",), footer=9),
    Action("next_metric", ("m",), "Metric", "The next metric: loss, accuracy, …", ("live",), footer=4),
    Action("log_y", ("y",), "Log y", "Logarithmic y axis, or linear.", ("live",), footer=5),
    Action("log_x", ("x",), "Log x", "Logarithmic x axis, or linear.", ("live",)),
    Action("smooth", ("s",), "Smooth", "Smoothing 0, 0.6, 0.9, 0.99; the raw curve stays, faint.",
           ("live",), footer=5),
    Action("zoom_in", ("+", "="), "Zoom in", "Show half as much of the x axis.", ("live",)),
    Action("zoom_out", ("-",), "Zoom out", "Show twice as much of the x axis.", ("live",)),
    Action("zoom_reset", ("0",), "Whole chart", "Show everything and follow it.", ("live",)),
    Action("pan_left", ("H", "<"), "Pan left", "Earlier steps.", ("live",)),
    Action("pan_right", ("L", ">"), "Pan right", "Later steps.", ("live",)),
    Action("earlier", ("[",), "Earlier look", "The histogram as it was one look before.", ("live",)),
    Action("later", ("]",), "Later look", "The histogram one look later.", ("live",)),
    Action("full", ("z",), "Full pane", "This pane over the whole screen, or back.",
           ("live",), footer=8),
    Action("pause", ("p",), "Pause", "Stop painting; reading goes on.", ("live",), footer=9),
    Action("follow", ("F",), "Follow", "The cursor stays on the stage under way.", ("live",)),
    Action("warnings", ("w",), "Warnings", "Everything that stages warned of.",
           ("live", "compare")),
    Action("data", ("D",), "Data", "What the data are: rows, columns, classes, a few rows as read.",
           ("live", "compare"), footer=10),
    # --- logs ------------------------------------------------------------------------------------
    Action("search", ("/",), "Search", "Find text in the log.", ("logs",), footer=2),
    Action("next_hit", ("n",), "Next", "The next line of the log that matches.", ("logs", "live"),
           footer=9),
    Action("last_hit", ("N",), "Previous", "The line before that matches.", ("logs", "live")),
    Action("source", ("o",), "Source", "Output, events, or the supervisor's and workers' own log.",
           ("logs",), footer=4),
    Action("tail", ("t",), "Tail", "Stay at the end as lines arrive.", ("live", "logs"), footer=7),
    Action("copy", ("c",), "Copy", "Copy what the cursor is on to the clipboard (OSC 52).",
           ("runs", "live", "queue", "logs"), footer=9),
    # --- compare ---------------------------------------------------------------------------------
    Action("drill", ("enter",), "Details", "Seeds, histograms, budget curves, rows, meaning of a line.",
           ("compare",), footer=1),
    Action("back", ("escape", "backspace"), "Back", "From the details back to the list.",
           ("compare",), footer=9),
    Action("next_view", ("tab",), "Next view", "Seeds, histograms, budgets, rows, meaning, in turn.",
           ("compare",), footer=2),
    Action("choose_runs", ("r",), "Runs", "Mark the runs that are compared.", ("compare",), footer=7),
    Action("matrix", ("m",), "Matrix", "Attacks side by side, or the list with everything.",
           ("compare",), footer=3),
    Action("group", ("g",), "Group", "Group by attack, method, verdict, or not.",
           ("compare",), footer=4),
    Action("order", ("s",), "Sort", "Sort: as given, verdict, z, gap, accuracy, cost.",
           ("compare",), footer=4),
    Action("columns", ("o",), "Columns", "Which columns are shown.", ("compare",), footer=8),
    Action("pin_line", ("p", "space"), "Pin", "Keep this line on top, or no longer.",
           ("compare",), footer=6),
    Action("explain", ("x",), "Explain", "What the verdict and the numbers of this line mean.",
           ("compare",), footer=6),
    Action("export", ("e",), "Export", "CSV, JSON, Markdown, LaTeX, or a figure, to a file.",
           ("compare",), changes=True, footer=5),
    Action("copy_line", ("c",), "Copy", "Copy the line of the cursor (OSC 52).",
           ("compare",), footer=9),
    Action("copy_table", ("C",), "Copy all", "Copy the table as Markdown (OSC 52).", ("compare",)),
    # --- new -------------------------------------------------------------------------------------
    Action("edit", ("enter",), "Edit", "Type a value; in the list on the left: go to its keys.",
           ("new",), footer=1),
    Action("other_side", ("tab", "escape"), "Side", "Between the parts and their keys.",
           ("new",), footer=3),
    Action("cycle", ("space",), "Next value", "The next value of a choice.", ("new",), footer=8),
    Action("add", ("a",), "Add", "Choose data or model; add an attack, a method or an audit.",
           ("new",), footer=2),
    Action("drop", ("d",), "Drop", "Take this attack, method or audit off.", ("new",), footer=5),
    Action("twin", ("D",), "Twin", "One more like this.", ("new",)),
    Action("shift(-1)", ("[",), "Higher", "Move this entry up its list.", ("new",)),
    Action("shift(1)", ("]",), "Lower", "Move this entry down its list.", ("new",)),
    Action("reset_key", ("x",), "Default", "Give this key its default again.", ("new",)),
    Action("take_back", ("u",), "Undo", "Undo the last edit.", ("new",), footer=6),
    Action("redo", ("U",), "Redo", "Do it again.", ("new",)),
    Action("start_from", ("o",), "Start from", "A preset or an earlier run to start from.",
           ("new",), footer=4),
    Action("diff", ("v",), "Diff", "What differs from where it started, as TOML.",
           ("new",), footer=7),
    Action("save", ("s",), "Save", "Save as a preset file, which runs identically headless.",
           ("new",), changes=True, footer=3),
    Action("launch", ("L",), "Launch", "Start the run and watch it live.",
           ("new",), changes=True, footer=2),
)  # fmt: skip


def modes(read_only: bool = False) -> tuple[str, ...]:
    """The screens there are. One that composes or changes something does not exist in a console
    that only watches: not by its key, the palette, the mouse or what is remembered."""
    return tuple(mode for mode in MODES if not (read_only and _BY_ID[f"show('{mode}')"].changes))


def allowed(action_id: str, parameters: tuple[object, ...], read_only: bool) -> bool:
    """Whether an action of the registry may be done; others are the toolkit's own."""
    known = find(action_id, parameters)
    if not read_only:
        return True
    if known is not None:
        return not known.changes and not (
            known.screens and not set(known.screens) & set(modes(True))
        )
    return action_id not in WRITERS


def actions_of(screen: str, read_only: bool = False) -> Iterator[Action]:
    """What there is on a screen, its own first."""
    if read_only and screen in MODES and screen not in modes(read_only):
        screen = ""
    for own in (True, False):
        for action in ACTIONS:
            here = screen in action.screens if own else not action.screens
            if here and not (read_only and action.changes):
                yield action


def bindings(screen: str = "") -> list[Binding]:
    """Textual's key bindings of a screen, or with "" of the app."""
    from textual.binding import Binding

    return [
        Binding(
            key,
            action.id,
            action.title,
            show=False,
            tooltip=action.help,
            priority=key == "ctrl+z",  # in dialogs and while a line is typed, too
        )
        for action in ACTIONS
        if (screen in action.screens if screen else not action.screens)
        for key in action.keys
    ]


def as_markdown() -> str:
    """All keys as tables, for the documentation."""
    lines = [
        "# Keys of the console",
        "",
        "Made from `console/actions.py`; a test compares them.",
        "",
    ]
    for mode, title in [*MODES.items(), ("", "Everywhere")]:
        own = [a for a in ACTIONS if (mode in a.screens if mode else not a.screens)]
        lines += [f"## {title}", "", "| key | does |", "|---|---|"]
        for action in own:
            keys = " ".join(f"`{key}`" for key in action.keys) or f"palette: {action.title}"
            lines.append(f"| {keys} | {action.help} |")
        lines.append("")
    return "\n".join(lines)


def find(action_id: str, parameters: tuple[object, ...] = ()) -> Action | None:
    """By the name of its method, and where several share it by what it is called with."""
    exact = f"{action_id}({', '.join(map(repr, parameters))})"
    return _BY_ID.get(exact) or _BY_ID.get(action_id)


WRITERS = ("screenshot",)  # of Textual: it has no key here, but text with markup could name it
_BY_ID = {action.id.partition("(")[0]: action for action in reversed(ACTIONS)}
_BY_ID |= {action.id: action for action in ACTIONS}

if __name__ == "__main__":
    from pathlib import Path

    file = Path(__file__).parents[1] / "docs" / "console-keys.md"
    file.write_text(as_markdown(), encoding="utf-8")
