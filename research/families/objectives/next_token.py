"""Each token from all before it: the likelihood of a text."""

from typing import Any

import jax

from research.families.objectives import Task
from research.models.attention import Where

KINDS = {"likelihood": "exact"}


def task(config: Any, tokens: jax.Array, where: Where, key: Any) -> Task:
    """Every token of the window but its first."""
    del config, key
    return Task(tokens[:, :-1], tokens[:, 1:], where)


def scored(config: Any, tokens: jax.Array, where: Where) -> dict[str, Task]:
    """The same."""
    return {"likelihood": task(config, tokens, where, None)}
