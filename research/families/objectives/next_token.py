"""Each token from all before it: the likelihood of a text."""

from typing import Any

import jax

from research.families.objectives import Task
from research.models.attention import Where

KINDS = {"likelihood": "exact"}


def task(config: Any, tokens: jax.Array, where: Where, symbols: int, key: Any) -> Task:
    """Every token of the window but its first."""
    del config, symbols, key
    return Task(tokens[:, :-1], tokens[:, 1:], where)


def scored(config: Any, tokens: jax.Array, where: Where, symbols: int) -> dict[str, Task]:
    """The same."""
    return {"likelihood": task(config, tokens, where, symbols, None)}
