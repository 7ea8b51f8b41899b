"""Small experiments as plain data: what a preset file holds."""

from __future__ import annotations

from typing import Any

RAW: dict[str, Any] = {
    "seeds": [0, 1],
    "budgets": [0.25, 0.5],
    "data": {"name": "mnist5k", "limit_train": 300, "limit_test": 100},
    "model": {"name": "mlp", "width": 16},
    "train": {"epochs": 2},
    "attacks": [{"name": "gaussian"}],
    "methods": [
        {"name": "none"},
        {"name": "retrain"},
        {"name": "retrain-fresh"},
        {"name": "gd", "lr": 0.01},
    ],
    "audits": [{"name": "accuracy"}, {"name": "gaussian"}],
}
