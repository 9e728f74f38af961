"""What comes after prompts by filling in windows, of networks that see all of one at once."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from research.errors import UserError
from research.sampling.drawing import Drawing
from research.sampling.generate import Continuation

UNKNOWN = -1  # a token that is to be drawn


class Filler(NamedTuple):
    """A run of a family that has fill(config, params, key, first_B, tokens_BxL) -> tokens_BxL.

    Of the tokens those that are `UNKNOWN` are drawn; `first` stands before them.
    """

    config: ConfigDict
    params: Any
    fill: Callable
    rows: int = 1


def check(filler: Filler, prompts: list[list[int]], count: int, options: dict[str, Any]) -> None:
    """Raise UserError for prompts that fill a window, or options of drawing token after token."""
    for name, given in options.items():
        if given:
            raise UserError(
                f"--{name} is of networks that draw one token after another; family "
                f"{filler.config.family!r} fills whole windows by --temperature, --tokens, --seed "
                "and --stop"
            )
    length, longest = filler.config.data.length, max(map(len, prompts)) - 1
    if count < 1:
        raise UserError(f"--tokens {count} must be at least 1")
    if longest + count > length:
        raise UserError(
            f"a prompt has {longest} tokens, which with {count} more do not fit into a window of "
            f"{length}; use --tokens {max(1, length - longest)}"
        )


def continued(
    filler: Filler,
    prompts: list[list[int]],
    count: int,
    drawing: Drawing,
    seed: int,
    ends: Callable[[list[int]], int | None],
) -> list[Continuation]:
    """`count` tokens after each prompt, or to its end, as many prompts together as rows.

    Args:
        prompts: each with what stands first.
        ends: how many of a row's tokens to keep once it has ended, else None.

    Raises:
        UserError: for prompts that leave no room; see `check`.
    """
    config, length = copy.deepcopy(filler.config), filler.config.data.length
    config.sampling.temperature = float(drawing.temperature)
    found: list[Continuation] = []
    for start in range(0, len(prompts), filler.rows):
        group = prompts[start : start + filler.rows]
        tokens_BxL = np.full((filler.rows, length), UNKNOWN)
        for row, prompt in enumerate(group):
            tokens_BxL[row, : len(prompt) - 1] = prompt[1:]
        first_B = np.array([prompt[0] for prompt in group] + [0] * (filler.rows - len(group)))
        key = jax.random.fold_in(jax.random.key(seed), start)
        filled_BxL = filler.fill(config, filler.params, key, first_B, tokens_BxL)
        for prompt, row in zip(group, filled_BxL, strict=False):
            drawn = row[len(prompt) - 1 :][:count].tolist()
            kept = ends(drawn)
            found.append(Continuation(drawn[:kept], [], kept is not None))
    return found
