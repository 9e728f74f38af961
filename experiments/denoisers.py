"""Which network denoises best at equal FLOPs: DiT, U-ViT or U-Net?

Question: on 16x16 glyphs, at three budgets and the sizes about the best of each, how many times the
FLOPs of the others does each network need, and does that factor grow?
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Networks of a diffusion model"}}
ANSWERS = ("compare --arms dit,uvit,unet --params params --data data --flops flops --loss loss",)
ARMS = ("dit", "uvit", "unet")
BUDGETS = (1e11, 4e11, 1.6e12)
# Widths of each network by budget: a transformer's width is the size, a U-Net's first level.
GRID = {
    "dit": {16: BUDGETS[:1], 24: BUDGETS[:2], 32: BUDGETS, 48: BUDGETS[1:], 64: BUDGETS[2:]},
    "uvit": {16: BUDGETS[:1], 24: BUDGETS[:2], 32: BUDGETS, 48: BUDGETS[1:], 64: BUDGETS[2:]},
    "unet": {4: BUDGETS[:1], 8: BUDGETS[:2], 12: BUDGETS, 16: BUDGETS[1:], 24: BUDGETS[2:]},
}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder."""
    config = diffusion_isoflop.get_config("images")
    config.part, config.sampling.num = part, 0
    config.evaluation.evaluators = ("validation",)
    return config


def get_trials(part: str) -> list[dict]:
    """Every network at its widths and their budgets."""
    return [
        {"arm": arm, "model.network": arm, "size": size, "budget": budget, "seed": 0}
        for arm, sizes in GRID.items()
        for size, budgets in sizes.items()
        for budget in budgets
    ]
