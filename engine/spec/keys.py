"""Content keys: the same key means the same result, so nothing is computed twice."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def canonical(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def digest(value: Any) -> str:
    """sha256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def package_version(name: str) -> str:
    """Version of an installed distribution, without importing it; "absent" if there is none.

    Read anew each time (half a millisecond): it may be upgraded while a console lives.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
