"""Which ingredients make a small diffusion model good, alone and together?

Question: at equal FLOPs, the optimizer's among them, what is each ingredient of the image ladder
worth: added alone to the ladder of the first laws, and taken alone from today's; what else helps?
Cost: 9.1e13 FLOPs in 300 trials, about 45 minutes on two cores. The runs are in recipe_images.csv.
Expected, as found: bits a dimension, means of three seeds at 1e11 FLOPs and 24 wide / at 4e11 and
32 wide, where the difference of two arms has a standard error of about .008 / .004.

- the first ladder, AdamW: 2.252 / 1.958, today's 1.986 / 1.804: 3.4 times less compute [2.4, 4.7]
  for 1.97 by `compare --arms first,ladder`
- its ingredients, alone: Muon -.224 / -.125, rotary -.027 / -.027, v -> +.054 / -.017, QK-norm and
  an average nothing
- taken from today's: AdamW +.244 / +.128, no Fourier features +.185 / +.092, no rotary +.052 /
  +.038, no NorMuon +.006 / -.002: not seen here
- GELU in place of ReLU^2: -.070 / -.050, the most of all that was tried; it is the default of this
  network since
- better at the larger rung only: four heads, 8 wide there, -.029 (taken since), SwiGLU -.024, a
  bound on low noise -.015, cautious decay -.014, no decay -.012
- so a third rung, 1.6e12 FLOPs and 48 wide, two seeds, on GELU: decay of .03 in place of .1 -.038,
  the default since; cautious decay -.040, and on it heads 8 wide, where they are 16, +.005, a batch
  of 32 +.005, b1 .8 +.024
- worse at both: v-prediction, patches of 4, normal times in log-SNR, cosine, decay .3, rate x .7,
  input rate x .5, momentum .9, average .99
- no matter: RMSNorm, biases, clipping, three Newton-Schulz steps, heads apart, residual scalars,
  warm-up, shape of the cooldown

A batch of 8 is better at the smaller rung and worse at the larger, 32 worse at both and as good at
the third: the batch grows with the budget. A cooldown of .4 is worse at both and .9 at the smaller.
"""

from ml_collections import ConfigDict

from experiments import recipe_text
from research import defaults

PARTS = {
    "images": {
        "title": "Ingredients of a diffusion model",
        "family": "diffusion",
        "data": "glyphs",
        "unit": "bits/dim",
        "data_unit": "images",
    }
}
ANSWERS = ("compare --arms first,ladder --params params --data images --flops flops --loss loss",)
RUNGS = ((24, 3, 1e11), (32, 1, 4e11))  # width, heads as the ladder then had them, and FLOPs
LARGEST = (48, 3, 1.6e12)  # of some arms, with two seeds, on GELU
FIRST = {"train.optimizer": "adamw", "train.clip_norm": 1.0, "model.positions": "none"}
GELU = {"model.activation": "gelu"}
ALONE = {  # added to the first ladder
    "first": {},
    "first+muon": recipe_text.MUON,
    "first+rotary": {"model.positions": "rotary"},
    "first+qk_norm": {"model.qk_norm": True},
    "first+velocity": {"model.prediction": "v"},
    "first+no_average": {"train.ema_decay": 0.0},
}
TOGETHER = recipe_text.BOTH | {  # changed in today's ladder
    "no_rotary": {"model.positions": "none"},
    "qk_norm": {"model.qk_norm": True},
    "rmsnorm": {"model.norm": "rmsnorm"},
    "no_bias": {"model.bias": False},
    "input_x2": {"train.rates.input": 1.0},
    "input_x.5": {"train.rates.input": 0.25},
    "output_x2": {"train.rates.output": 0.4},
    "output_x.5": {"train.rates.output": 0.1},
    "scalar_x.5": {"train.rates.scalar": 0.5},
    "scalar_x2": {"train.rates.scalar": 2.0},
    "batch_8": {"train.batch_size": 8},
    "batch_32": {"train.batch_size": 32},
    "average_0": {"train.ema_decay": 0.0},
    "average_.97": {"train.ema_decay": 0.97},
    "average_.99": {"train.ema_decay": 0.99},
    "heads_8": {"model.num_heads": 4},
    "velocity": {"model.prediction": "v"},
    "velocity_bound": {"model.prediction": "v", "model.loss_weighting": "bound"},
    "low_noise": {
        "model.schedule": "normal",
        "model.gamma_mean": -6.0,
        "model.gamma_std": 6.0,
        "model.loss_weighting": "bound",
    },
    "logit_normal": {"model.schedule": "normal"},
    "cosine": {"model.schedule": "cosine"},
    "no_fourier": {"model.fourier_features": ()},
    "patch_4": {"model.patch_size": 4},
}
AT_LARGEST = {
    "gelu": GELU,
    "gelu+cautious": GELU | {"train.cautious_decay": True},
    "gelu+decay_.03": GELU | {"train.weight_decay": 0.03},
    "gelu+cautious+b1_.8": GELU | {"train.cautious_decay": True, "train.b1": 0.8},
    "gelu+cautious+batch_32": GELU | {"train.cautious_decay": True, "train.batch_size": 32},
    "gelu+cautious+heads_8": GELU | {"train.cautious_decay": True, "model.num_heads": 6},
}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder, as the quickstart has its images."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.recipe, config.sampling.num = part, "image_ladder", 0
    config.size, _, config.budget = RUNGS[0]
    config.model.image_shape = (16, 16, 1)
    config.model.fourier_features = (6, 7)
    config.model.activation = "relu2"  # the ladder's, before what is found here
    config.train.update(batch_size=16, weight_decay=0.1)
    config.evaluation.examples = 512
    return config


def get_trials(part: str) -> list[dict]:
    """Every arm at both rungs, with three seeds, and some at the largest."""
    arms = {name: FIRST | keys for name, keys in ALONE.items()} | TOGETHER
    seeds = recipe_text.SEEDS
    return recipe_text.trials(arms, RUNGS, seeds) + recipe_text.trials(
        AT_LARGEST, (LARGEST,), seeds[:2]
    )
