"""How many times the compute of the first ladder is today's ladder worth, and does it last?

Question: at equal loss, how many FLOPs does the ladder of the first laws (AdamW) need for one of
today's (recipes.ladder, image_ladder), each at its best width, and does the factor grow or fade?
Cost: 5.9e13 FLOPs in 64 trials (trunks shared), about 15 minutes on two cores. The runs are in
recipe_gain.csv.
Expected, as found: on text the first needs 2.7 times the FLOPs [2.1, 3.6] for 2.13 bits a byte, and
the factor grows, as compute^0.9 [0.7, 1.2] over half a decade; in seconds 1.9 times [1.7, 2.2] for
2.25. On images 5.3 times [1.7, 16] for 1.75 bits a dimension: the losses of both overlap over a
tenth of a decade only, as today's ladder at its least budget is where the first is at four times
that, and the trend is not known; in seconds 1.7 times [1.0, 3.1] for 1.88. The best width of
today's ladder on images is the smallest here, up to 8e11.

    python -m research compare runs/recipe_gain --arms first,ladder
"""

from ml_collections import ConfigDict

from experiments import quickstart, recipe_images, recipe_text

PARTS = {
    "text": recipe_text.PARTS["text"] | {"title": "Text: the first ladder and today's"},
    "images": recipe_images.PARTS["images"] | {"title": "Images: the first ladder and today's"},
}
ANSWERS = (
    "compare --arms first,ladder --params params --data data --flops flops --loss loss"
    " --where \"part == 'text'\"",
    "compare --arms first,ladder --params params --data data --flops flops --loss loss"
    " --where \"part == 'images'\"",
)
WIDTHS = {"text": (32, 48, 64, 96), "images": (24, 32, 48, 64)}
BUDGETS = {"text": (4e11, 8e11, 1.6e12, 3.2e12), "images": (2e11, 4e11, 8e11, 1.6e12)}
FIRST = {
    "text": recipe_text.FIRST,
    "images": recipe_images.FIRST | {"model.activation": "relu2", "train.weight_decay": 0.1},
}


def get_config(part: str) -> ConfigDict:
    """One run of today's ladder, its batch as the recipe has it."""
    config = quickstart.get_config(part)
    config.sampling.num, config.train.batch_size = 0, None
    return config


def get_trials(part: str) -> list[dict]:
    """Both ladders, every width at every budget."""
    return [
        {"arm": arm, "budget": budget, "seed": 0, "size": width} | keys
        for width in WIDTHS[part]
        for arm, keys in (("first", first(part, width)), ("ladder", {}))
        for budget in BUDGETS[part]
    ]


def first(part: str, width: int) -> dict:
    """Keys of the ladder of the first laws, whose heads were 32 wide where they could be."""
    head_dim = 32 if width % 32 == 0 else 16 if width % 16 == 0 else 8
    batch_size = 16 if width < 64 else 8
    return FIRST[part] | {"model.num_heads": width // head_dim, "train.batch_size": batch_size}
