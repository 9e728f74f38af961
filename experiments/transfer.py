"""Does the best learning rate of a small model serve a larger one, a deeper one and a longer run?

Question: how far does the best rate of an autoregressive and of a diffusion transformer move, in
factors of two, over 16 times the width, 8 times the depth and 16 times the horizon: with AdamW in
the standard parametrisation, in muP and in CompleteP, and with Muon, whose steps are spectral?
Cost: 5.7e13 FLOPs in 722 trials, about 25 minutes on two cores, two thirds of it 256 wide.
Expected: over width the best rate falls as 1 / width with AdamW, by four factors of two, and stays
under muP within one (Yang et al. 2022); Muon's stays within one without (Jordan et al. 2024). Over
depth it falls by about a factor of two with AdamW and stays under CompleteP (Dey et al. 2025). Over
horizons it falls as steps^-.32 (Bjorck et al. 2024), by 1.3 factors of two, for either optimizer.
Two public sweeps disagree on whether muP wins. What is found is said by `transfer runs/transfer`
with `--over size`, `--over model.depth` and `--over train.steps`.
"""

import itertools
import math

from ml_collections import ConfigDict

from research import defaults

FAMILIES = {
    "text": ("autoregressive", "python_stdlib", "bits/byte", "tokens"),
    "images": ("diffusion", "glyphs", "bits/dim", "images"),
}
AXES = ("width", "depth", "horizon")
PARTS = {
    f"{name}_{axis}": {
        "title": f"Best rates of {family} transformers over {axis}",
        "family": family,
        "data": data,
        "unit": unit,
        "data_unit": data_unit,
    }
    for name, (family, data, unit, data_unit) in FAMILIES.items()
    for axis in AXES
}
WIDTHS, DEPTHS = (16, 32, 64, 128, 256), (2, 4, 8, 16)
SMALL = {"width": 16, "depth": 32, "horizon": 16}  # widths: the smallest, or that of a part
STEPS = {"text": 128, "images": 256}  # of all runs but those over horizons
HORIZONS = (0.5, 1, 2, 4, 8)  # times these
ADAMW = {"train.optimizer": "adamw"}
ARMS = {
    "adamw": ADAMW,
    "mup": ADAMW | {"train.parametrization": "mup"},
    "completep": ADAMW | {"train.parametrization": "completep"},
    # Three steps are as good as five in recipe_text.csv, and most of what a wide Muon costs here.
    "muon": {"train.optimizer": "muon", "train.newton_schulz_steps": 3},
}
# Where rates are centred at the small end, and how that is expected to move by arm and axis.
CENTRES = {"text": {"adamw": 2**-4, "muon": 0.08}, "images": {"adamw": 2**-5, "muon": 0.04}}
POWERS = {
    "width": {"adamw": -1.0, "mup": 0.0, "muon": 0.0},
    "depth": {"adamw": -0.5, "completep": 0.0, "muon": 0.0},
    "horizon": {"adamw": -0.32, "muon": -0.32},
}


def get_config(part: str) -> ConfigDict:
    """One run at the small end, with one cooldown for every optimizer: that of the ladder."""
    about, (name, axis) = PARTS[part], part.split("_")
    config = defaults.config(about["family"], about["data"])
    config.part, config.sampling.num = part, 0
    config.evaluation.examples = 512
    config.base.width, config.base.depth = SMALL[axis], DEPTHS[0]
    config.train.batch_size, config.train.steps = 8, STEPS[name]
    config.train.decay_shape, config.train.decay_fraction = "linear", 0.6
    if name == "text":
        config.data.length = 64
    else:
        config.recipe = "image_ladder"
        config.model.image_shape, config.model.patch_size = (16, 16, 1), 4
        config.model.fourier_features = (6, 7)
    return config


def get_trials(part: str) -> list[dict]:
    """Each arm at each place of the axis, at rates by factors of two around the expected best."""
    name, axis = part.split("_")
    places = {"width": [w / WIDTHS[0] for w in WIDTHS], "depth": [d / DEPTHS[0] for d in DEPTHS]}
    cells = itertools.product(POWERS[axis], places.get(axis, HORIZONS))
    return [
        {
            "arm": arm,
            **ARMS[arm],
            **_shape(name, axis, times),
            "train.learning_rate": rate,
            "seed": seed,
        }
        for arm, times in cells
        for rate in _rates(name, axis, arm, times)
        for seed in range(_seeds(name, axis, times))
    ]


def _seeds(name: str, axis: str, times: float) -> int:
    """One where a run costs most; four where one pair left valleys that are no valleys."""
    if axis == "width" and times > 4:
        return 1
    return 4 if (name, axis) == ("text", "horizon") else 2


def _shape(name: str, axis: str, times: float) -> dict:
    """The network and the steps of a run at so many times the small end."""
    width = round(SMALL[axis] * (times if axis == "width" else 1))
    return {
        "size": width,
        "model.depth": round(DEPTHS[0] * (times if axis == "depth" else 1)),
        "model.num_heads": width // 16,
        "train.steps": round(STEPS[name] * (times if axis == "horizon" else 1)),
    }


def _rates(name: str, axis: str, arm: str, times: float) -> list[float]:
    """Factors of two of where the best is expected, and at any rate the best of the small end.

    Over width there is one more above, as the best rate may fall by less than it should where
    tables and head matter; the widest networks, which cost the most, have it with AdamW alone. Two
    arms of text have it too, and the widest Muon of images one below: the best was at the edge.
    """
    small = CENTRES[name].get(arm, CENTRES[name]["adamw"] / 2)
    small /= SMALL[axis] / WIDTHS[0] if arm != "muon" else 1
    centre = small * 2.0 ** round(POWERS[axis][arm] * math.log2(times))
    more = axis == "width" and (arm == "adamw" or times <= 4)
    more |= name == "text" and arm in ("mup", "completep")
    less = (name, axis, arm, times) == ("images", "width", "muon", 16)
    offsets = range(-3 if less else -2, 4 if more else 3)
    return sorted({small, *(centre * 2.0**offset for offset in offsets)})
