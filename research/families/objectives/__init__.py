"""What a network learns of a window of tokens: which of them it reads and which it predicts.

An objective is a module with

    task(config, tokens, where, symbols, key) -> Task of a batch that is trained on
    scored(config, tokens, where, symbols) -> {name: Task} of one that is scored, the main one first
    KINDS -> {name: kind of score}; a name's unit has "of ..." after it where UNITS says so

of int tokens [B, L + 1], the first of which is only read, `where` the L that are read stand, and
how many `symbols` the data have. Where it needs them it has default_model(), check(config), EXTRA,
how many tokens of its own come after those, and CAUSAL = False where a position may see what comes
after it.
"""

from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from research.errors import UserError
from research.models.attention import Where

OBJECTIVES = {
    "next_token": "research.families.objectives.next_token",
    "prefix": "research.families.objectives.prefix",
    "infilling": "research.families.objectives.infilling",
    "masked": "research.families.objectives.masked",
}


class Task(NamedTuple):
    """What is read and predicted.

    Attributes:
        read_BxL, targets_BxL: tokens; a position predicts the target at its place.
        where: of the tokens that are read.
        weights_BxL: of the predictions, of mean 1 over what is drawn; None: all 1.
        origin_BxL: which token of the window each target is, -1 for one that is of no text; None
            where they are 1, 2, 3, ...
    """

    read_BxL: jax.Array
    targets_BxL: jax.Array
    where: Where
    weights_BxL: Any = None
    origin_BxL: Any = None


def refuse_images(config: ConfigDict) -> None:
    """Raise UserError for images, whose dimensions are predicted one after another alone."""
    if config.model.image_shape:
        raise UserError(
            f"config.model.objective={config.model.objective!r} is of text; images have "
            "'next_token' alone"
        )
