"""Does what is predicted, how errors weigh or how noise is spread change the exponent of compute?

Question: diffusion transformers on 16x16 glyphs along the best sizes, fourfold compute twice: is
a choice of prediction, weighting or schedule worth a factor of compute, in bits and in what is
drawn, the same at every budget, or does the factor grow?
Cost: 1.3e13 FLOPs in 50 trials, about 30 minutes on two cores beside other work, half of it
compiling the arms, and 10 minutes on one for the distances, of 512 images in 16 steps. The rows
are in diffusion_choices.csv.
Expected: what is predicted changes little (Kingma & Gao 2023, arXiv 2303.00848: all are one loss
with other weights), and weights that are made for pictures cost bits, by a factor of compute.
Found: what is predicted hardly matters; weights and schedules do, and bits and pictures rank them
the other way round.

- In bits, eps and v under the weights of eps, over even log-SNRs, need each other's FLOPs times
  .97 [.93, 1.02], v under its own .95 [.64, 1.4], the bound's own weights .99 [.84, 1.2].
  Exponents are -.092 [-.124, -.061] (eps), -.099 (v with weights of eps), -.104 (v) and -.093
  (bound): one law.
- All others are far behind in bits: the velocity of a straight path, at even times, needs 14
  times [4.9, 40] the FLOPs of eps at 2.0 bits, where alone they overlap. For cosine and linear
  schedules, min-SNR, sigmoid and EDM's weights `compare` refuses: with 16 times the FLOPs they
  are still worse than eps with the least, at 8e11 by .9 (linear), 1.0 (cosine), 1.4 (min-SNR),
  1.8 (sigmoid) and 2.5 bits (EDM), as the bound counts noise so faint that they hardly learn it.
  They fall faster, as C^-.12 (cosine) to C^-.17 (linear, velocity), which from so far above is no
  better exponent.
- By the Frechet distance the order is turned round: for what eps draws, EDM needs its FLOPs over
  5.7 [2.4, 14], the velocity of a straight path over 5.5 [2.7, 12], cosine over 4.9 [2.3, 10],
  min-SNR over 3.1 [1.5, 6.4] and sigmoid over 2.1 [1.1, 4.0]. At 8e11 the velocity has 34 and
  sigmoid weights 35, eps 50 and the bound's own 51; v is behind eps, by 1.5 times the FLOPs [1.2,
  1.9].
- Exponents of the distance lie between C^-.19 (bound, cosine) and C^-.35 [-.48, -.22] (sigmoid);
  eps has C^-.21 [-.28, -.14]. Against eps the gain of the velocity and of min-SNR grows with
  compute, by three budgets; that of others cannot be told from a constant factor.

Why not more: one size a budget, which is the best of eps in bits; two seeds, one at 8e11; the
rates and the batch are those of eps.

Literature: agrees with Kingma & Gao 2023 in both, that predictions are interchangeable under one
weighting and that weights, not the bound, make pictures.

    python -m research compare experiments/diffusion_choices.csv --params params --data data \
        --arms eps,bound,v,v_of_eps,velocity --flops flops --loss loss
    python -m research compare experiments/diffusion_choices.csv --params params --data data \
        --arms eps,v,velocity,edm,cosine,sigmoid --flops flops --loss frechet_unbiased
    python -m research evaluate --run runs/diffusion_choices --evaluators frechet --out rows.csv

At the size of a pod: sizes of `RUNGS` times 16 and budgets times 65,536 in a copy of this file.
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Choices of a diffusion model"}}
ANSWERS = (
    "power --loss frechet_unbiased --over flops --by arm",
    "compare --arms eps,v,velocity,edm,cosine,sigmoid"
    " --params params --data data --flops flops --loss frechet_unbiased",
    "compare --arms eps,bound,v,v_of_eps,velocity"
    " --params params --data data --flops flops --loss loss",
)
RUNGS = {5e10: 16, 2e11: 24, 8e11: 32}  # the size of each budget, near its best
SEEDS = {5e10: (0, 1), 2e11: (0, 1), 8e11: (0,)}
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
    """Every choice at every rung, with two seeds where they are cheap."""
    return [
        {"arm": arm, "size": size, "budget": budget, "seed": seed} | keys
        for arm, keys in ARMS.items()
        for budget, size in RUNGS.items()
        for seed in SEEDS[budget]
    ]
