"""What is refused of a config of discrete diffusion, in one line, before anything is compiled."""

import math
from types import ModuleType
from typing import Any

from research import config as configs
from research.errors import UserError
from research.families.discrete_diffusion import noise_levels
from research.models import pixels
from research.parts import check_choice

RANGES = {
    "sampling": {
        "steps": (0, math.inf),
        "temperature": (0, math.inf),
        "choice_noise": (0, math.inf),
        "entropy_bound": (0, math.inf),
        "remask_share": (0, 1 + 1e-9),
    },
    "evaluation": {"time_samples": (2, math.inf), "time_steps": (0, math.inf)},
    "model": {
        "bound_weight": (0, math.inf),
        "cross_entropy_weight": (0, math.inf),
        "class_dropout": (0, 1),
    },
}


def check(config: Any, spec: dict[str, Any], corruption: ModuleType) -> None:
    """Raise UserError for a model that cannot be built or that does not fit the data's `spec`."""
    for section, ranges in RANGES.items():
        configs.check_ranges(config[section], f"config.{section}", ranges)
    pixels.check_data(config, spec)
    _check_model(config, corruption)
    _check_blocks(config, corruption)
    _check_sampling(config, corruption)
    if config.evaluation.time_samples % 2:
        raise UserError(
            f"config.evaluation.time_samples={config.evaluation.time_samples} must be even: two "
            "halves say how noisy the score is; nearest valid: "
            f"{config.evaluation.time_samples + 1}"
        )
    if {"segments", "positions"} & {*spec.get("arrays", ())}:
        raise UserError(
            f"config.data.name={config.data.name!r} packs several texts into one example, which "
            "see each other here; use data whose windows are of one text, or 'autoregressive'"
        )


def _check_model(config: Any, corruption: ModuleType) -> None:
    model = config.model
    check_choice("model.schedule", model.schedule, noise_levels.SCHEDULES)
    if model.schedule_power <= 0:
        raise UserError(f"config.model.schedule_power={model.schedule_power} must be positive")
    if not model.bound_weight + model.cross_entropy_weight:
        raise UserError(
            "config.model.bound_weight=0.0 and cross_entropy_weight=0.0 leave nothing to learn; "
            "1.0 and 0.0 learn the bound"
        )
    if model.class_dropout and not model.num_classes:
        raise UserError(
            f"config.model.class_dropout={model.class_dropout} must be 0 for a model without "
            "classes"
        )
    if model.get("condition") == "adaln" and not (corruption.TIMED or model.num_classes):
        raise UserError(
            f"config.model.condition='adaln' has nothing to tell: corruption "
            f"{model.corruption!r} needs no time and there are no classes; use 'first'"
        )


def _check_blocks(config: Any, corruption: ModuleType) -> None:
    size, length = config.model.block_size, pixels.length(config)
    if not size:
        return
    if not corruption.BLOCKS:
        raise UserError(
            f"config.model.block_size={size} gives each block a time of its own, which corruption "
            f"{config.model.corruption!r} cannot tell the network; use 0, or 'absorbing'"
        )
    if size < 0 or length % size:
        raise UserError(
            f"config.model.block_size={size} does not divide the {length} tokens of an example; "
            f"nearest valid: {_nearest(size, length)}, or 0 for one block"
        )


def _nearest(number: int, length: int) -> int:
    """The divisor of `length` that is nearest to a number."""
    valid = [each for each in range(1, length + 1) if length % each == 0]
    return min(valid, key=lambda each: abs(each - number))


def _check_sampling(config: Any, corruption: ModuleType) -> None:
    settings, model, length = config.sampling, config.model, pixels.length(config)
    check_choice("sampling.sampler", settings.sampler, corruption.SAMPLERS)
    if settings.guidance != 1 and not model.class_dropout:
        raise UserError(
            f"config.sampling.guidance={settings.guidance} needs a network that knows images "
            "without a class: set config.model.class_dropout, 0.1 for example, or guidance=1.0"
        )
    if not settings.steps:
        return
    if settings.sampler == "entropy":
        raise UserError(
            f"config.sampling.steps={settings.steps}: sampler 'entropy' finds their number by "
            "config.sampling.entropy_bound; use steps=0"
        )
    blocks = length // (model.block_size or length)
    if corruption.HIDES and settings.steps > length:
        raise UserError(
            f"config.sampling.steps={settings.steps} are more than the {length} tokens that "
            f"appear, at least one a step; use {length}, or 0"
        )
    if settings.steps % blocks:
        nearest = max(1, round(settings.steps / blocks)) * blocks
        raise UserError(
            f"config.sampling.steps={settings.steps} must be a multiple of the {blocks} blocks, "
            f"which are drawn one after another; nearest valid: {nearest}"
        )
