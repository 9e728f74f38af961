"""How large should a patch be, at each resolution, and does the best one move with compute?

Question: glyphs at 8x8, 16x16 and 32x32 by transformers over patches of 1, 2, 4 and 8 pixels: which
patch is best at a budget, and with which power of compute does the loss fall at each resolution?
Cost: 1.1e13 FLOPs in 54 trials (trunks shared), 23 minutes on two cores beside other work. The runs
are in patches.csv; `best` marks the best of each budget and resolution.
Expected by the literature: smaller patches are better at the same width, DiT/2 by far over /4 and
/8 (Peebles & Xie 2023, figure 6), which is by images read, not by FLOPs.
Found:

- The best patch is 1 at 8x8 and 2 at 16x16, at every budget from 3e10 to 4.8e11 FLOPs. At 32x32 it
  moves: 4 at 3e10 and 1.2e11 (2.22 beside 2.37 bits), 2 at 4.8e11 (1.49 beside 1.59). So 64 patches
  are best at first, whatever the resolution, and 256 once there is compute for them.
- At 16x16 patches of 2 need .12 [.01, .98] of the FLOPs of patches of 4. Patches of 1 have
  5.0 bits at 3e10, after some 60 steps, beside 2.3, and are .13 behind at 4.8e11.
- Patches of 8 learn nothing: 8.4 bits at 32x32 where those of 2 have 1.5. Their 64 numbers are more
  than the networks are wide, and what is predicted is noise (experiments/x0_patches.py); so are the
  16 of patches of 4 in networks 12 wide, 7.2 bits at 16x16 beside 4.7 of networks 16 wide.
- More pixels cost fewer bits each, 2.10, 1.64 and 1.49 at 4.8e11, and at 32x32 the loss still falls
  fast there. Powers of compute of the best patch, -.05, -.13 and -.42, are of three budgets and say
  no more than their order, with intervals of .1 to 1.

Why not more: one seed, two sizes a budget, a batch of 16 for all, so that patches of 1 take few
steps.

Literature: agrees with Peebles & Xie 2023 that a patch should be small, and it does so by FLOPs
where there are enough of them.

    python -m research compare experiments/patches.csv --arms 2,4 --params params --data data \
        --flops flops --loss loss --where "part == 'images_16'"
    python -m research power experiments/patches.csv --loss loss --over flops --by part \
        --where "best == 1"

At the size of a pod: sizes times 16 and budgets times 65,536 in a copy of this file.
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PATCHES = {8: (1, 2, 4), 16: (1, 2, 4), 32: (2, 4, 8)}  # of each resolution
PARTS = {
    f"images_{side}": diffusion_isoflop.PARTS["images"]
    | {"title": f"Patches of {side}x{side} glyphs"}
    for side in PATCHES
}
ANSWERS = (
    "compare --arms 2,4 --params params --data data --flops flops --loss loss"
    " --where \"part == 'images_16'\"",
    "power --loss loss --over flops --by part --where 'best == 1'",
)
# Sizes of each budget, about its best.
SIZES = {3e10: (12, 16), 1.2e11: (16, 24), 4.8e11: (24, 32)}


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
        for budget, sizes in SIZES.items()
        for size in sizes
    ]


def _side(part: str) -> int:
    return int(part.rpartition("_")[2])
