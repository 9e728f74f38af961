"""Does a transformer over large patches of pixels have to predict the image, not the noise?

Question: as a patch gets more numbers than the network is wide, which predictions still learn?
A projection from `width` numbers to those of a patch reaches a subspace of at most `width`
dimensions. Images of few degrees of freedom lie near one, noise in none.
Cost: 4.0e12 FLOPs in 18 trials, 7 minutes on two cores beside other work. The runs are in
x0_patches.csv; `excess` is above the known entropy, -2.2451 [-2.2471, -2.2430] bits a dimension.
Expected by Li & He 2025 ("Back to basics", patches of 768 numbers): a network of x_0 goes on
learning where one of eps or of v, which have noise in them, must fail.
Found:

- It does. Images are 32x32 mixtures of four Gaussians of rank 4 with a noise of .05, networks are
  32 wide, and all weigh errors as those of the velocity of straight paths.
- Over patches of 16 numbers, half the width, eps and v are alike, .95 and .94 bits above the truth,
  and x_0 is behind, 1.25.
- Over patches of 64, twice the width, x_0 stays where it was, 1.30, while v has 2.5 and eps 4.9.
  Over 256, eight times the width, it is 1.62, 3.6 and 7.7. The squared error of eps stays at .58
  and .89, where .5 and .875 of its dimensions are out of reach.
- So excess bits grow with a patch's side as side^.19 [.07, .30] of x_0, side^.96 [.62, 1.30] of v,
  which is mostly x_0 where there is most noise, and side^1.5 [.8, 2.2] of eps.
- Seeds differ by .02 bits of eps and v, .12 of x_0; what a larger patch saves is compute, twelve
  times from 4 to 16, for the same steps.

Why not more: one width, one source, 600 steps; rates were not tuned for each.

Literature: agrees with Li & He 2025: beyond the width x_0 alone learns. That it is not the best
below is not in their claim.

    python -m research power experiments/x0_patches.csv --loss excess --over patch --by arm

At the size of a pod: a resolution of 256 and a width of 512 in a copy of this file.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "mixture": {
        "title": "Predictions by the size of a patch",
        "family": "diffusion",
        "data": "gaussian_mixture",
        "unit": "bits/dim",
        "data_unit": "images",
    }
}
ANSWERS = ("power --loss excess --over patch --by arm",)
PATCHES = (4, 8, 16)
PREDICTIONS = ("x0", "eps", "v")
SEEDS = (0, 1)


def get_config(part: str) -> ConfigDict:
    """One run of a fixed shape: patches and predictions are the axes."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"], optimizer="adamw")
    config.part, config.recipe, config.sampling.num = part, "fixed", 16
    config.data.update(resolution=32, noise=0.05, images=10_000, validation_images=1_000)
    config.model.update(
        image_shape=(32, 32, 1), discrete=False, depth=2, width=32, num_heads=2, process="flow",
        loss_weighting="velocity", gamma_min=-6.0, gamma_max=6.0,
    )  # fmt: skip
    config.train.update(
        steps=600, batch_size=64, learning_rate=3e-3, warmup_steps=30, weight_decay=0.0,
        clip_norm=1.0,
    )  # fmt: skip
    config.evaluation.examples = 512
    return config


def get_trials(part: str) -> list[dict]:
    """Every prediction on every patch, with two seeds."""
    return [
        {
            "arm": prediction,
            "model.prediction": prediction,
            "model.patch_size": patch,
            "size": patch,
            "seed": seed,
        }
        for patch in PATCHES
        for prediction in PREDICTIONS
        for seed in SEEDS
    ]
