"""Named recipes: one size becomes width, depth, heads, batch, learning rate and horizon."""

import math
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from research import config as configs
from research import cost, data, defaults, families, optim, rules
from research.errors import UserError, nearest

VOCABULARY_MULTIPLE = 256  # so that tables of tokens can be split over devices
DECAY_FRACTION = 0.6  # of the run, in Muon's cooldown
SHORT_DECAY = 0.2  # in that of others (Haegele et al. 2024, section 4)


def ladder(config: ConfigDict) -> None:
    """Fill `config` from its `size`, the width, and its `budget` in FLOPs.

    Depth is width / 32, at least 2. The rates are Muon's, whose spectral scale makes them the same
    at every width. The last three fifths of the run are the cooldown; warm-up is a fixed number of
    steps, so that runs of one batch size share one trunk. At the second rung of
    experiments/recipe_text.csv no other rate, and no other share or shape of the cooldown, is
    better by more than 0.01 bits a byte. Heads are the best of those tried at each rung, and so is
    the batch but at the smallest, where half of it is better.

    With AdamW rates, batch and cooldown are those of the first laws, `_adamw`.
    """
    rates = dict(input=5.0, output=0.9, scalar=1.0)
    batch = _batch(config, 8, at=8e11)
    _ladder(config, heads=2.0, batch_size=batch, rates=rates, largest_rate=0.016)


def image_ladder(config: ConfigDict) -> None:
    """The same for diffusion on images, whose patches and output learn more slowly.

    At the second rung of experiments/recipe_images.csv no other rate or cooldown is better by more
    than 0.01 bits a dimension, and heads 8 wide are the best; at the third they are as good as 16.
    Less weight decay, 0.03, is the family's default, by the third.
    """
    rates = dict(input=0.5, output=0.2, scalar=1.0)
    batch = _batch(config, 16, at=4e11)
    # A largest rate of 0.016 is too much.
    _ladder(config, heads=1.5, batch_size=batch, rates=rates, largest_rate=0.008)


def _batch(config: ConfigDict, size: int, at: float) -> int:
    """The batch of the run's budget where `size` is best `at` another, both in FLOPs.

    It doubles while the budget grows eightfold: as budget^.33 (Bi et al. 2024, arXiv 2401.02954,
    equation 4). Of those tried 4, 8 and 16 are best at 2e11, 8e11 and 3.2e12 FLOPs of
    experiments/recipe_text.csv, 8 and 16 at 1e11 and 4e11 of recipe_images.csv. It is not less than
    `size`, though, so that eight devices can share it.
    """
    if config.budget is None or not at < config.budget < math.inf:
        return size
    return size * 2 ** round(math.log2(config.budget / at) / 3)


def _ladder(
    config: ConfigDict, heads: float, batch_size: int, rates: dict[str, float], largest_rate: float
) -> None:
    """Width, depth and heads, of those that the network has, and what the optimizer wants.

    Args:
        heads: how wide they are, over the root of the width.
        batch_size, rates: of Muon; the rates are those of roles, times that of hidden matrices.
        largest_rate: of another optimizer.
    """
    width, train = config.size, config.train
    model = dict(width=width, depth=max(2, round(width / 32)), num_heads=_heads(width, heads))
    configs.fill(config.model, **{key: model[key] for key in model if key in config.model})
    if train.optimizer != "muon":
        _adamw(config, largest_rate)
        return
    configs.fill(train, batch_size=batch_size, learning_rate=0.02)
    configs.fill(train, warmup_steps=8, decay_shape="linear", decay_fraction=DECAY_FRACTION)
    configs.fill(train.rates, **rates)
    horizon(config)


def _heads(width: int, times: float) -> int:
    """Heads `times` sqrt(width) wide, to the power of two, or what of it divides the width.

    Twice is what GPT-2 and Llama have, 64 of 768 and 128 of 4,096.
    """
    head_dim = 2 ** round(math.log2(times) + math.log2(width) / 2)
    return width // math.gcd(width, head_dim)


def _adamw(config: ConfigDict, largest_rate: float) -> None:
    """One rate for all, and a short cooldown.

    Rate and batch come from a sweep, experiments/quickstart_lr.py: the best peak rate falls as
    1 / width, as muP has it for Adam's hidden matrices (Yang et al. 2022, table 8), up to the
    largest rate the sweep tried. A parametrisation that goes by a base width does that itself;
    of other optimizers no rate is known.
    """
    train = config.train
    width = config.base.width if "width" in optim.base_keys(config) else config.size
    configs.fill(train, batch_size=16 if width < 64 else 8, warmup_steps=8)
    if train.optimizer in ("adamw", "schedule_free") and train.parametrization != "spectral":
        configs.fill(train, learning_rate=min(largest_rate, 0.4 / width))
    fixed(config)


def horizon(config: ConfigDict) -> None:
    """Fill train.steps from `budget` by the ledger, and train.decay_steps, a share of them."""
    train = config.train
    if train.steps is None and config.budget is not None:
        if not 0 < config.budget < math.inf:
            raise UserError(f"config.budget={config.budget} must be positive")
        if train.batch_size is not None:
            train.steps = _steps(config)
    if train.steps is not None:
        configs.fill(train, decay_steps=round(train.decay_fraction * train.steps))


def _steps(config: ConfigDict) -> int:
    """How many steps the budget buys of a network that can be built on these data."""
    defaults.check_ranges(config)
    configs.check_ranges(config.train, "config.train", {"batch_size": (1, 2**31)})
    families.check(config, data.outline(config.data))
    step = cost.ledger(config).step_flops
    if step == 0:
        raise UserError(
            f"config.budget={config.budget:g} buys no number of steps: a step of family "
            f"{config.family!r} has no matrix product and no convolution; set config.train.steps"
        )
    return max(1, round(config.budget / step))


def fixed(config: ConfigDict) -> None:
    """Derive only the horizon, with one rate and a short cooldown; the config gives the rest."""
    configs.fill(config.train, decay_shape="sqrt", decay_fraction=SHORT_DECAY)
    configs.fill(config.train.rates, **dict.fromkeys(config.train.rates, 1.0))
    horizon(config)


def _fill_vocabulary(config: ConfigDict) -> None:
    """Give a network that reads tokens the data's vocabulary, padded, or their images' levels."""
    if "vocab_size" in config.model and config.model.vocab_size is None:
        outline = data.outline(config.data)
        if "shape" in outline:
            config.model.vocab_size = outline["levels"]
            return
        symbols = outline["vocab_size"]
        family = families.load(config.family)
        symbols += family.extra_tokens(config) if hasattr(family, "extra_tokens") else 0
        config.model.vocab_size = -(-symbols // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _pin(config: ConfigDict) -> None:
    """Write down the state of what data or family read from elsewhere, where nothing says it."""
    for section, module in (
        (config.data, data.sources.load(config.data.name)),
        (config.model, families.load(config.family)),
    ):
        for key, value in module.pins(section).items() if hasattr(module, "pins") else ():
            section[key] = section[key] or value


class Recipe(NamedTuple):
    """A named recipe: its function, and the keys without which it has nothing to go by."""

    fill: Callable[[ConfigDict], None]
    needs: tuple[str, ...] = ()


RECIPES = {
    "ladder": Recipe(ladder, needs=("size", "model.width")),
    "image_ladder": Recipe(image_ladder, needs=("size", "model.width")),
    "fixed": Recipe(fixed),
}


def apply(config: ConfigDict) -> ConfigDict:
    """Fill `config` in place by the recipe it names, and return it.

    Raises:
        UserError: for an unknown recipe, one whose needs the family does not have, or keys that
            neither recipe nor user filled.
    """
    defaults.settle(config)
    if config.recipe not in RECIPES:
        raise UserError(
            f"config.recipe={config.recipe!r} is not one of {', '.join(RECIPES)}"
            f"{nearest(config.recipe, RECIPES)}"
        )
    recipe = RECIPES[config.recipe]
    if "model.width" in recipe.needs and "width" not in config.model:
        raise UserError(
            f"config.recipe={config.recipe!r} sets config.model.width, which family "
            f"{config.family!r} does not have; use recipe 'fixed' and set what it leaves open"
        )
    if "size" in recipe.needs and (config.size is None or config.size < 1):
        raise UserError(f"config.size is needed by recipe {config.recipe!r}: the width, at least 1")
    _pin(config)
    _fill_vocabulary(config)
    rules.fill(config, recipe.fill)
    needed = [
        key for key in configs.unfilled(config) if key not in ("config.size", "config.budget")
    ]
    if needed:
        raise UserError(f"{', '.join(needed)} must be set: recipe {config.recipe!r} does not")
    return config
