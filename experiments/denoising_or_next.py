"""What does a bit cost a diffusion model, a masked one and an autoregressive one, on the same data?

Question: on the same pixels of glyphs and on the same bytes of Python source, at how many times the
FLOPs does diffusion over patches, or masked diffusion over levels and bytes, reach the bits of an
autoregressive transformer, and does that factor grow?
"""

from ml_collections import ConfigDict

from research import defaults

FAMILIES = {
    "next": "autoregressive",
    "masked": "discrete_diffusion",
    "gaussian": "diffusion",
}
PARTS = {
    f"{data}_{name}": {
        "title": f"{title} {where}",
        "family": FAMILIES[name],
        "data": source,
        "unit": unit,
        "data_unit": data_unit,
    }
    for data, source, unit, data_unit, where, names in (
        ("pixels", "glyphs", "bits/dim", "images", "on 16x16 glyphs", tuple(FAMILIES)),
        ("text", "python_stdlib", "bits/byte", "tokens", "on Python source", ("next", "masked")),
    )
    for name, title in (
        ("next", "Autoregression"),
        ("masked", "Masked diffusion"),
        ("gaussian", "Diffusion"),
    )
    if name in names
}
ANSWERS = (
    "compare --by part --arms pixels_next,pixels_masked,pixels_gaussian"
    " --params params --data data --flops flops --loss loss",
    "compare --by part --arms text_next,text_masked"
    " --params params --data data --flops flops --loss loss",
)
BUDGETS = (1e11, 2e11, 4e11, 8e11, 1.6e12)
GRID = {16: BUDGETS[:3], 32: BUDGETS[1:], 48: BUDGETS[2:]}
BATCH = {"pixels": 16, "text": 8}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder of its family, all with the same data and batch."""
    about, kind = PARTS[part], part.partition("_")[0]
    config = defaults.config(about["family"], about["data"])
    config.part, config.sampling.num = part, 0
    config.train.batch_size = BATCH[kind]
    config.evaluation.examples = 1024
    if kind == "pixels":
        config.data.resolution, config.model.image_shape = 16, (16, 16, 1)
    if about["family"] == "diffusion":
        config.recipe, config.model.fourier_features = "image_ladder", (6, 7)
    return config


def get_trials(part: str) -> list[dict]:
    """Every size at its budgets."""
    return [
        {"size": size, "budget": budget, "seed": 0}
        for size, budgets in GRID.items()
        for budget in budgets
    ]
