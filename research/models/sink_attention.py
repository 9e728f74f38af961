"""A sliding window that keeps the first positions in sight (Xiao et al. 2024, StreamingLLM).

A softmax must put its weight somewhere; trained without the first positions in sight a window puts
it on its neighbours, and one that lost them at a greater length breaks.
"""

from typing import Any

from ml_collections import ConfigDict

from research.errors import UserError
from research.models import window_attention


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return window_attention.default_model() | dict(sinks=4)  # first positions that all see


def check(config: ConfigDict) -> None:
    """Raise UserError for a window or sinks that cannot be."""
    window_attention.check(config)
    if config.model.sinks < 1:
        raise UserError(
            f"config.model.sinks={config.model.sinks} must be at least 1; without any it is "
            "config.model.attention='window'"
        )


def sees(model: Any, query: Any, key: Any) -> Any:
    """Keys of the window, and the first of all."""
    return window_attention.sees(model, query, key) | (key < model.sinks)
