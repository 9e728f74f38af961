"""Does the best learning rate of a small model serve a larger one, a deeper one and a longer run?

Question: how far does the best rate of an autoregressive and of a diffusion transformer move, in
factors of two, over 16 times the width, 8 times the depth and 16 times the horizon: with AdamW in
the standard parametrisation, in muP and in CompleteP, and with Muon, whose steps are spectral?
Cost: 6.3e13 FLOPs in 833 trials, about 40 minutes on two cores. The runs are in transfer.csv.
Expected, as found: by `transfer transfer.csv --loss loss --rate rate --over size --where "part ==
'images_width'"` and the like, in factors of two from the smallest to the largest, 95% intervals.

- Over width AdamW's best rate falls as 1 / width (Yang et al. 2022): text by 2.9 [2.2, 3.5] of 3,
  width^-.96; images by 2.9 [2.0, 3.9] of 4, ^-.73. Under muP it stays on images, +.1 [-.2, .4];
  on text valleys are too flat to say more than -.6 [-2.8, 1.6]. Muon's, without muP, falls by
  .6 [-.1, 1.3] and .8 [.0, 1.5], and the small end's rate costs it .8% and .7% at the large one.
- muP wins, by more the wider: at 256 wide its best loss is 1.8% below that of the standard
  parametrisation on text and 6.3% on images, and AdamW without it stops improving at 64 wide. Muon
  without it is 14% below on text and 3.8% on images (muP's AdamW is lower still by 2.6%).
- Over depth AdamW's best rate falls on text by 1.8 [-.4, 3.9], and its loss does not fall; on
  images, whose gates start at zero, it stays, -.1 [-.8, .6], as with CompleteP (Dey et al. 2025),
  whose losses are lower at 16 layers by 3.5% and .1%. CompleteP's best rates on text cannot be told
  from these runs. Muon's stays: -.2 [-.7, .3] and -.2 [-.5, .1].
- Over horizons it falls, and faster than steps^-.32 (Bjorck et al. 2024): Muon's as ^-.50 [-.59,
  -.42] and ^-.55 [-.74, -.35], AdamW's on images as ^-.41 [-.61, -.22]. AdamW's on text cannot be
  told: its losses have two dips at 16 wide, and seeds differ in which is lower.
Literature: partly: AdamW's rate over width, muP on images and CompleteP on images are as published;
over horizons rates fall faster than in Bjorck et al. 2024, and on text muP's valleys are too flat.
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
ANSWERS = (
    "transfer --loss loss --rate rate --over size --where \"part == 'text_width'\"",
    "transfer --loss loss --rate rate --over size --where \"part == 'images_width'\"",
    "transfer --loss loss --rate rate --over depth --where \"part == 'text_depth'\"",
    "transfer --loss loss --rate rate --over depth --where \"part == 'images_depth'\"",
    "transfer --loss loss --rate rate --over steps --where \"part == 'text_horizon'\"",
    "transfer --loss loss --rate rate --over steps --where \"part == 'images_horizon'\"",
)
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
    see(config, length=64)
    return config


def see(config: ConfigDict, length: int) -> None:
    """Set what an example is: `length` bytes of text, or a glyph of 16 patches."""
    if config.family == "autoregressive":
        config.data.length = length
    else:
        config.recipe = "image_ladder"
        config.model.image_shape, config.model.patch_size = (16, 16, 1), 4
        config.model.fourier_features = (6, 7)


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
