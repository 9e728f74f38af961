"""How few steps does each solver need, and does a one-step model catch up?

Question: images of one diffusion model on 16x16 glyphs, by each solver in 2 to 64 calls of the
network, and of models of the same size and training FLOPs that are made for few steps: what is the
Frechet distance of each?
"""

from ml_collections import ConfigDict

from experiments import sampling_compute

PARTS = {
    "denoising": sampling_compute.PARTS["images"] | {"title": "A diffusion model, by solver"},
    "few_steps": sampling_compute.PARTS["images"]
    | {"title": "Models that are made for few steps", "unit": "energy distance"},
}
ANSWERS = ("power --loss frechet --over sample_flops --by sampler --where \"part == 'denoising'\"",)
SIZE, BUDGET = 32, 8e11
STRAIGHT = {"model.process": "flow", "model.prediction": "velocity", "model.schedule": "flow"}
ARMS = {
    "denoising": {"denoising": {}},
    "few_steps": {
        "consistency": {"model.objective": "consistency"},
        "mean_flow": {"model.objective": "mean_flow"} | STRAIGHT,
    },
}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder that is told classes."""
    config = sampling_compute.get_config("images")
    config.part = part
    return config


def get_trials(part: str) -> list[dict]:
    """Each kind of model, with two seeds."""
    return [
        {"arm": arm, "size": SIZE, "budget": BUDGET, "seed": seed} | keys
        for arm, keys in ARMS[part].items()
        for seed in sampling_compute.SEEDS
    ]
