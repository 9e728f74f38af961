"""Does what is predicted, how errors weigh or how noise is spread change the exponent of compute?

Question: diffusion transformers on 16x16 glyphs along the best sizes, fourfold compute twice: is a
choice of prediction, weighting or schedule worth a factor of compute, the same at every budget, or
does the factor grow?
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Choices of a diffusion model"}}
ANSWERS = (
    "compare --arms eps,bound,v,v_of_eps,velocity,edm,cosine,linear,sigmoid,min_snr"
    " --params params --data data --flops flops --loss loss",
)
RUNGS = {5e10: 16, 2e11: 24, 8e11: 40}  # the size of each budget, near its best
# Arms differ from the ladder, eps with unit weight at even log-SNRs, in what is said.
ARMS = {
    "eps": {},
    "bound": {"model.loss_weighting": "bound"},
    "v": {"model.prediction": "v"},
    "v_of_eps": {"model.prediction": "v", "model.loss_weighting": "eps"},
    "velocity": {"model.prediction": "velocity", "model.process": "flow", "model.schedule": "flow"},
    "edm": {"model.prediction": "edm", "model.loss_weighting": "edm", "model.schedule": "normal"},
    "cosine": {"model.schedule": "cosine"},
    "linear": {"model.schedule": "linear"},
    "sigmoid": {"model.loss_weighting": "sigmoid"},
    "min_snr": {"model.loss_weighting": "min_snr"},
}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder."""
    config = diffusion_isoflop.get_config("images")
    config.part, config.sampling.num = part, 0
    config.evaluation.evaluators = ("validation",)
    return config


def get_trials(part: str) -> list[dict]:
    """Every choice at every rung, with two seeds."""
    return [
        {"arm": arm, "size": size, "budget": budget, "seed": seed} | keys
        for arm, keys in ARMS.items()
        for budget, size in RUNGS.items()
        for seed in (0, 1)
    ]
