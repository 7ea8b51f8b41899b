"""Colours of the console. Meaning is never by colour alone: states have a sign and a word."""

from __future__ import annotations

import os

from textual.theme import Theme

DARK, LIGHT, SAFE, ANSI = "chelate-dark", "chelate-light", "chelate-safe", "chelate-16"
NAMES = {"dark": DARK, "light": LIGHT, "safe": SAFE, "16": ANSI}

THEMES = (
    Theme(
        name=DARK, dark=True, primary="#5fa8d3", secondary="#8fb8a8", accent="#e0a458",
        success="#6cc08b", warning="#e0b04a", error="#ef6f6c", foreground="#d8dee4",
        background="#12161a", surface="#171c21", panel="#20272e",
    ),
    Theme(
        name=LIGHT, dark=False, primary="#1f5f8b", secondary="#3a6b5c", accent="#9a5b00",
        success="#1a7340", warning="#8a5a00", error="#b3261e", foreground="#1b1f23",
        background="#fbfbf8", surface="#f3f3ee", panel="#e4e6e1",
    ),
    # Okabe and Ito: blue against vermilion instead of green against red.
    Theme(
        name=SAFE, dark=True, primary="#56b4e9", secondary="#cc79a7", accent="#f0e442",
        success="#56b4e9", warning="#e69f00", error="#e8703a", foreground="#e6e6e6",
        background="#101014", surface="#16161c", panel="#23232c",
    ),
    Theme(
        name=ANSI, dark=True, ansi=True, primary="ansi_blue", secondary="ansi_cyan",
        accent="ansi_cyan", success="ansi_green", warning="ansi_yellow", error="ansi_red",
        foreground="ansi_default", background="ansi_default", surface="ansi_default",
        panel="ansi_default", boost="ansi_default",
        variables={
            "block-cursor-foreground": "ansi_black", "block-cursor-background": "ansi_white",
            "input-cursor-background": "ansi_white", "input-cursor-foreground": "ansi_black",
            "border-blurred": "ansi_white", "ansi-background": "ansi_black",
            "ansi-foreground": "ansi_white",
        },
    ),
)  # fmt: skip

SIGNS = {
    "running": ("▶", ">"), "done": ("✓", "+"), "stored": ("✓", "+"), "failed": ("✗", "x"),
    "stopped": ("■", "#"), "paused": ("‖", "="),
    "lost": ("!", "!"), "queued": ("○", "o"), "waiting": ("○", "o"),
    "idle": ("·", "."), "reading": ("…", "."),
    "unreadable": ("?", "?"), "deleted": ("?", "?"), "n/a": ("–", "-"),
    "diverged": ("∞", "%"),
}  # fmt: skip
# State → cell style of the tables (see widgets.STYLES).
TONES = {
    "running": "accent", "done": "good", "stored": "good", "failed": "bad", "lost": "bad",
    "stopped": "warn", "paused": "warn", "unreadable": "bad", "deleted": "bad", "waiting": "muted",
    "queued": "muted", "idle": "muted", "reading": "muted", "n/a": "muted", "diverged": "bad",
}  # fmt: skip


def sign(state: str, ascii_: bool) -> str:
    return SIGNS.get(state, ("?", "?"))[ascii_]


def progress_bar(share: float, width: int, ascii_: bool) -> str:
    """`share` of `width` columns, exact to an eighth of one."""
    share = min(1.0, max(0.0, share))
    if ascii_:
        full = round(share * width)
        return "#" * full + "." * (width - full)
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "") + "·" * width)[:width]


def default_theme() -> str:
    """What suits the terminal: 16 colours where there are not more."""
    term = os.environ.get("TERM", "")
    rich = os.environ.get("COLORTERM", "") in ("truecolor", "24bit") or "256" in term
    modern = any(word in term for word in ("kitty", "alacritty", "ghostty", "wezterm", "direct"))
    return DARK if rich or modern else ANSI
