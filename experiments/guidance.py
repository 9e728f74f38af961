"""How much guidance does a model of each size want, and what does it trade?

Question: of class-conditional DiTs on 16x16 glyphs along the best sizes, guided by 1 (not at all)
to 6: how do precision, recall and the Frechet distance move, and does the best strength move with
size?
"""

from experiments import sampling_compute

PARTS = {"images": sampling_compute.PARTS["images"] | {"title": "Guidance by size"}}
ANSWERS = ("power --loss frechet --over guidance --over flops --where 'guidance >= 2'",)
get_config = sampling_compute.get_config


def get_trials(part: str) -> list[dict]:
    """Three rungs, with two seeds."""
    rungs = [(1e11, 24), (4e11, 32), (1.6e12, 48)]
    return [
        {"size": size, "budget": budget, "seed": seed}
        for budget, size in rungs
        for seed in sampling_compute.SEEDS
    ]
