"""From how many images on does a diffusion model learn more than to copy them?

Question: DiTs of two sizes read 100, 1,000, 10,000 or all 36,657 glyphs for the same numbers of
steps, a larger one the fewest for longer: how near do their drawings lie to what they read, and
what is their bound on characters that they have not seen?
Cost: 3.6e13 FLOPs in 22 trials (trunks shared), about 22 minutes on two cores beside other work.
The runs are in memorising.csv, with scores of 512 drawings each.
Expected by the literature: networks generalise from a number of images on that grows with their
size (Kadkhodaie et al. 2024), and copy after a time that grows with the number of images, while
good drawings come after one that does not (Bonnaire et al. 2025).
Found:

- Up to 3,000 steps no bound on new characters depends on how many were read: from 100, each read
  480 times, it is within .02 bits of that from all 36,657 at 16 and at 32 wide (1.736 and 1.734,
  1.601 and 1.585), which goes on falling. What is learned in that time is what all glyphs share.
- At 64 wide (167,620 parameters) the bound turns, on 100 images alone: 1.77, 1.55 and 2.14 bits
  after 750, 3,000 and 12,000 steps, 1,920 readings each; on 1,000 images it still falls, 1.77,
  1.50, 1.39. So the time to memorise grows with the number of images, and that to learn does not.
- Copies are few all the same: on 100 images 1.8% [.9, 3.3] of drawings after 12,000 steps, .8%
  after 3,000, .2% after 750, where 8.8% of held-out characters are likenesses by the same
  measure. Drawings lie farther from what was read than held-out characters do, in pixels (.44 of
  pairs are nearer after 12,000 steps, .26 after 750; a half would be even) as they are not yet
  good ones: the bound sees memorising first.

Why not more: one seed; the two smaller networks, 11,956 and 43,876 parameters, may be too small
to know 100 images of 256 pixels by heart in this time.

Literature: agrees with Bonnaire et al. 2025 on the time, and with Kadkhodaie et al. 2024 that
more images are needed the larger the network is, in so far as 100 are enough at 32 wide and not
at 64.

    python -m research power experiments/memorising.csv --loss loss --over steps --by size \
        --where "unique == 100 and steps <= 3000"
    python -m research power experiments/memorising.csv --loss nearest_pixels --over unique \
        --over steps --by size

At the size of a pod: sizes times 16 and steps times 64 in a copy of this file.
"""

from ml_collections import ConfigDict

from experiments import diffusion_isoflop

PARTS = {"images": diffusion_isoflop.PARTS["images"] | {"title": "Few images, read often"}}
ANSWERS = ("power --loss nearest_pixels --over unique --over steps --by size",)
UNIQUE = (100, 1000, 10_000, 36_657)
STEPS = (750, 3000)
FURTHER = (12_000,)  # steps of the largest network on the fewest images


def get_config(part: str) -> ConfigDict:
    """One run of the image ladder, judged by its bound and by what its drawings are near to."""
    config = diffusion_isoflop.get_config("images")
    config.part, config.data.unique = part, 0
    config.evaluation.evaluators = ("validation", "nearest")
    return config


def get_trials(part: str) -> list[dict]:
    """Two sizes on every number of images, and a larger one on few of them for longer."""
    runs = [(size, unique, steps) for size in (16, 32) for unique in UNIQUE for steps in STEPS]
    runs += [(64, unique, steps) for unique in UNIQUE[:2] for steps in (*STEPS, *FURTHER)]
    return [
        {"size": size, "data.unique": unique, "train.steps": steps, "seed": 0}
        for size, unique, steps in runs
    ]
