"""Do activations stay of one size as a network widens, once a few steps have moved it?

Question: after eight steps at one rate, how does the root mean square of the stream and of the
output of an autoregressive and of a diffusion transformer grow from 32 to 1,024 wide with AdamW,
and to 256 with Muon, in the standard parametrisation and in muP?
Cost: 3.7e12 FLOPs in 80 trials, ten minutes on two cores, most of it compilation. The runs are
in coordinate_check.csv.
Expected, as found: under muP both are flat over 32 times the width with AdamW (powers of the width
within .03 of zero), and over 8 times with Muon, but for the output of its images, which falls
(-.12). In the standard parametrisation AdamW's steps add up coherently over inputs (Yang et al.
2022, appendix D): output as width^.58 on text and ^.81 on images; the stream holds to 128 wide and
then bursts, at 1,024 wide to a thousand times (width^2.3, ^1.9). Muon's stream is flat without muP
(-.04, .01), as its steps are of one spectral norm; its output is not (.34, .60), as the step of the
head is AdamW's. `power experiments/coordinate_check.csv --loss output --over size --where
"part == 'text'"` says so, and draws it with --figure.
Literature: agrees with Yang et al. 2022, appendix D: with AdamW only muP keeps activations of one
size at every width.
"""

import itertools

from ml_collections import ConfigDict

from experiments.transfer import FAMILIES, see
from research import defaults

PARTS = {
    name: {
        "title": f"Activations of {family} transformers over width",
        "family": family,
        "data": data,
        "unit": unit,
        "data_unit": data_unit,
    }
    for name, (family, data, unit, data_unit) in FAMILIES.items()
}
ANSWERS = (
    "power --loss output --over size --where \"part == 'text'\"",
    "power --loss output --over size --where \"part == 'images'\"",
    "power --loss stream --over size --where \"part == 'text'\"",
    "power --loss stream --over size --where \"part == 'images'\"",
)
WIDTHS = (32, 64, 128, 256, 512, 1024)
WIDEST = {"adamw": 1024, "muon": 256}
ARMS = {
    f"{optimizer} {parametrization}": {
        "train.optimizer": optimizer,
        "train.learning_rate": rate,
        "train.parametrization": parametrization,
    }
    for (optimizer, rate), parametrization in itertools.product(
        {"adamw": 0.01, "muon": 0.02}.items(), ("standard", "mup")
    )
}


def get_config(part: str) -> ConfigDict:
    """Eight steps of eight short examples, without warm-up or cooldown, heads 16 wide."""
    about = PARTS[part]
    config = defaults.config(about["family"], about["data"])
    config.part, config.sampling.num = part, 0
    config.base.width, config.base.depth = WIDTHS[0], 2
    config.model.depth = 2
    config.train.batch_size, config.train.steps = 8, 8
    config.train.schedule, config.train.warmup_steps = "constant", 0
    config.evaluation.evaluators = ("activations",)
    config.evaluation.examples, config.evaluation.batch_size = 64, 64
    see(config, length=32)
    return config


def get_trials(part: str) -> list[dict]:
    """Each arm at each width, with two seeds; a wider Muon would take most of the time."""
    return [
        {"arm": arm, **ARMS[arm], "size": width, "model.num_heads": width // 16, "seed": seed}
        for arm, width, seed in itertools.product(ARMS, WIDTHS, (0, 1))
        if width <= WIDEST[ARMS[arm]["train.optimizer"]]
    ]
