"""A sliding window: each position attends to the nearest ones (Beltagy et al. 2020, section 3.1).

The ledger counts its scores dense, as it does causal ones: a window buys reach, not FLOPs.
"""

from typing import Any

from ml_collections import ConfigDict

from research.errors import UserError


def default_model() -> dict[str, Any]:
    """Its key of `config.model`."""
    return dict(window=128)  # positions to one side, its own included


def check(config: ConfigDict) -> None:
    """Raise UserError for a window that leaves nothing to see."""
    if config.model.window < 1:
        raise UserError(f"config.model.window={config.model.window} must be at least 1")


def sees(model: Any, query: Any, key: Any) -> Any:
    """Keys fewer than `model.window` positions away."""
    return abs(query - key) < model.window


def band(model: Any) -> tuple[int, int]:
    """Positions to the left and to the right, without its own."""
    return model.window - 1, model.window - 1
