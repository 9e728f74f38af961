"""What does a bit cost a diffusion model, a masked one and an autoregressive one, on the same data?

Question: on the same pixels of glyphs and on the same bytes of Python source, at how many times
the FLOPs does diffusion over patches, or masked diffusion over levels and bytes, reach the bits
of an autoregressive transformer, and does that factor grow?
Cost: 1.8e13 FLOPs in 35 trials (trunks shared), about 22 minutes on two cores beside other work.
The runs are in denoising_or_next.csv.
Expected by the literature: masked diffusion takes some 16 times the compute of autoregression on
text at one exponent (Nie et al. 2024, arXiv 2410.18514: MDMs), and on pixels diffusion is no
worse (Kingma et al. 2021).
Found:

- On pixels masked diffusion takes 6.5 times the FLOPs of autoregression [3.7, 11] at 1.57 bits a
  dimension, and diffusion over patches 10.6 times [6.2, 18] at 1.60.
- On text masked diffusion takes 32 times [9, 110] at 3.2 bits a byte: at 2.4e12 FLOPs it has
  3.01, which autoregression passes at 5e10.
- No factor is seen to shrink with compute. Autoregression's fall is the steeper one at the best
  sizes in text, C^-.121 [-.146, -.096] against C^-.068 [-.10, -.036]; on pixels C^-.10 [-.18,
  -.03] against C^-.060 [-.078, -.042] and C^-.080 [-.11, -.05], which cannot be told apart.
- Diffusion over patches reads 66 times the images [42, 105] for the same bits, as a network over
  64 patches and not 256 pixels is cheaper: it is images that it needs, of which there are few
  here (4.3 passes at most).

Why not more: bits of autoregression are exact and those of the others upper bounds, so that a
part of each factor is the bound's. Text of bytes, windows of 128, one seed, three sizes, budgets
from 1.25e10 to 2.4e12 so that losses meet; the best size is the smallest or largest that was run
in most.

Literature: agrees with Nie et al. 2024 in the order of the factor on text; disagrees with its
being constant, if anything, and with diffusion's lead on pixels, at a millionth of their compute.

    python -m research compare experiments/denoising_or_next.csv --by part --params params \
        --arms pixels_next,pixels_masked,pixels_gaussian --data data --flops flops --loss loss
    python -m research power experiments/denoising_or_next.csv --loss loss --over flops --by part \
        --where "best == 1"

At the size of a pod: sizes times 16 and budgets times 65,536 in a copy of this file.
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
GRID = {16: (5e10, 2e11), 24: (5e10, 2e11), 32: (2e11, 6e11)}
# Of the better family a run with less, of the others one with more, so that their losses meet.
FURTHER = {"next": (16, 1.25e10), "masked": (32, 2.4e12), "gaussian": (32, 2.4e12)}
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
    """Every size at its budgets, and one run more."""
    pairs = [(size, budget) for size, budgets in GRID.items() for budget in budgets]
    pairs.append(FURTHER[part.rpartition("_")[2]])
    return [{"size": size, "budget": budget, "seed": 0} for size, budget in pairs]
