"""Which network denoises best at equal FLOPs: DiT, U-ViT or U-Net?

Question: on 16x16 glyphs, at three budgets and the sizes about the best of each, how many times the
FLOPs of the others does each network need, in bits and in what is drawn, and does that grow?
Cost: 1.2e13 FLOPs in 32 trials (trunks shared), 25 minutes on two cores beside other work. The runs
are in denoisers.csv.
Expected by the literature: U-ViT a little better than a U-Net (Bao et al. 2023), DiT better than
U-Nets of ADM by FLOPs (Peebles & Xie 2023).
Found:

- A DiT and a U-Net are worth the same: for equal bits a DiT needs .86 [.23, 3.2] of the U-Net's
  FLOPs, for an equal Frechet distance .57 [.27, 1.2]. The U-Net starts behind, 2.25 bits beside
  2.00 at 5e10, and falls faster, of all sizes as C^-.20 [-.39, -.02] beside C^-.100 [-.140, -.060]:
  at 2e11 it is ahead (4 wide, 1.66 beside 1.73), at 8e11 equal (8 wide, 1.60 beside 1.58). By the
  clock of two cores it needs three times as long, as convolutions of 4 to 16 channels run at 1 to
  10 GFLOP/s.
- U-ViT, whose blocks are joined and told the noise by a token alone, needs three times the FLOPs of
  a DiT, 1 / .33 [.22, .48], and draws nothing by 2e11: a Frechet distance of 300 and more where a
  DiT has 63. At 8e11 it has 67 beside 42.
- How a U-Net's norms group channels decides over what it draws. In groups of one channel, which 32
  groups are at such widths, each loses its mean and with it what the background is: images stand
  before greys, a Frechet distance of 420 at 8e11 beside 45 of one group for all channels, at a cost
  in bits that does not say so, 1.68 beside 1.60. Since then `model.group_channels` is 4.

Why not more: one seed; one depth, 2 (of a U-ViT 3); the best U-Net may be narrower than 8 at 8e11;
rates are those of the image ladder, tuned for DiT.

Literature: partly agrees: with Peebles & Xie 2023 in drawings at most, not in bits; disagrees with
Bao et al. 2023, whose U-ViT is at these FLOPs the last of the three.

    python -m research compare experiments/denoisers.csv --arms dit,uvit,unet --params params \
        --data data --flops flops --loss loss
    python -m research compare experiments/denoisers.csv --arms dit,unet --params params \
        --data data --flops flops --loss frechet_unbiased
    python -m research power experiments/denoisers.csv --loss loss --over flops --by arm

At the size of a pod: sizes of `GRID` times 16 and budgets times 65,536 in a copy of this file.
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Networks of a diffusion model"}}
ANSWERS = (
    "compare --arms dit,uvit,unet --params params --data data --flops flops --loss loss",
    "compare --arms dit,unet --params params --data data --flops flops --loss frechet_unbiased",
)
BUDGETS = (5e10, 2e11, 8e11)
# Of the image ladder a U-Net of its plain shape has ten times the parameters of the best DiT.
UNET = {
    "model.network": "unet",
    "model.channel_multipliers": (1, 2),
    "model.blocks_per_level": 1,
}
NETWORKS = {
    "dit": {"model.network": "dit"},
    "uvit": {"model.network": "uvit"},
    "unet": UNET | {"model.norm_groups": 1},
    "unet_apart": UNET | {"model.group_channels": 1},  # each channel has its own norm
}
# Widths of each network by budget, about the best: a U-Net's is that of its first level.
GRID = {
    "dit": {16: BUDGETS[:2], 24: BUDGETS, 32: BUDGETS[1:], 48: BUDGETS[2:]},
    "uvit": {16: BUDGETS[:2], 24: BUDGETS, 32: BUDGETS[1:], 48: BUDGETS[2:]},
    "unet": {4: BUDGETS[:2], 8: BUDGETS, 12: BUDGETS[1:], 16: BUDGETS[2:]},
}


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder."""
    return diffusion_isoflop.get_config(part)


def get_trials(part: str) -> list[dict]:
    """Every network at its widths and their budgets."""
    return [
        {"arm": arm, "size": size, "budget": budget, "seed": 0} | keys
        for arm, keys in NETWORKS.items()
        for size, budgets in GRID[keys["model.network"]].items()
        for budget in budgets
    ]
