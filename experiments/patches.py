"""How large should a patch be, at each resolution, and does the best one move with compute?

Question: glyphs at 8x8, 16x16 and 32x32 by transformers over patches of 1, 2, 4 and 8 pixels: which
patch is best at a budget, and with which power of compute does the loss fall at each resolution?
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

RESOLUTIONS = (8, 16, 32)
PARTS = {
    f"images_{side}": diffusion_isoflop.PARTS["images"]
    | {"title": f"Patches of {side}x{side} glyphs"}
    for side in RESOLUTIONS
}
ANSWERS = (
    "power --loss loss --over flops --by part --where 'best == 1'",
    "compare --arms 2,4 --params params --data data --flops flops --loss loss"
    " --where \"part == 'images_16'\"",
)
BUDGETS = (5e10, 2e11, 8e11)
SIZES = {5e10: (16, 24), 2e11: (16, 24, 32), 8e11: (24, 32, 48)}
PATCHES = {8: (1, 2, 4), 16: (1, 2, 4), 32: (2, 4, 8)}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder at the part's resolution."""
    side = _side(part)
    config = diffusion_isoflop.get_config("images")
    config.part, config.sampling.num = part, 0
    config.data.resolution, config.model.image_shape = side, (side, side, 1)
    config.evaluation.update(evaluators=("validation",), examples=1024)
    return config


def get_trials(part: str) -> list[dict]:
    """Every patch at two sizes of each budget."""
    return [
        {
            "arm": str(patch),
            "model.patch_size": patch,
            "size": size,
            "budget": budget,
            "seed": 0,
        }
        for patch in PATCHES[_side(part)]
        for budget in BUDGETS
        for size in SIZES[budget]
    ]


def _side(part: str) -> int:
    return int(part.rpartition("_")[2])
