"""What makes the console's tests quick: less waiting for idleness, and style sheets parsed once."""

from __future__ import annotations

from typing import Any

import pytest
from textual import _wait
from textual.css.stylesheet import Stylesheet

SAMPLE = 0.005  # seconds

_parsed: dict[object, Any] = {}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pilot holds a process for idle that used a twentieth of 20 ms, and looks twice a key: here
    the same share of shorter samples. Every app, and every change of theme, parses all style
    sheets: here each one once for the same variables."""
    monkeypatch.setattr(_wait, "SLEEP_GRANULARITY", SAMPLE)
    monkeypatch.setattr(_wait, "SLEEP_IDLE", SAMPLE / 20)
    parse = Stylesheet._parse_rules

    def parse_once(sheet: Stylesheet, *words: Any, **named: Any) -> Any:
        key = (words, *named.items(), *sheet._variables.items())
        if key not in _parsed:
            _parsed[key] = parse(sheet, *words, **named)
        return _parsed[key]

    monkeypatch.setattr(Stylesheet, "_parse_rules", parse_once)
