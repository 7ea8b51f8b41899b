"""chelate measures how much of a poison is left in a model after unlearning.

The command is all of its public face so far; `python -m chelate` is the same.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """`__version__`, of the installed distribution, read when it is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("chelate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
