"""Does a transformer over large patches of pixels have to predict the image, not the noise?

Question: as a patch gets more numbers than the network is wide, which predictions still learn?
A projection from `width` numbers to those of a patch reaches a subspace of at most `width`
dimensions. Images of few degrees of freedom lie near one, noise in none: so a network of x_0 should
go on learning where one of eps or of v, which have noise in them, must fail (Li & He 2025, "Back to
basics", whose patches have 768 numbers). All weigh errors as those of the velocity of straight
paths, so that only what the network says differs. Images are 32x32 mixtures of four Gaussians of
rank 4 and a noise of .05, of known density; networks are 32 wide on patches of 16, 64, 256 numbers.
Cost: about 4e12 FLOPs in 18 trials, about 15 minutes on two cores. The whole has not been run.
Expected: with patches of 4, half as many numbers as the network is wide, all three learn alike.
With 16, eight times as many, x_0 alone does well: 300 steps of one seed gave .65 bits a dimension
for x_0, 5.51 for eps and 1.38 for v, which is mostly x_0 where there is most noise.
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
