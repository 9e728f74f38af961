"""What does it take to train a diffusion transformer of 7 billion parameters?

Question: does DiT's shape carry to the size of today's language models, and on which slice?
Cost: 3.0e21 FLOPs for 400,000 steps of 256 images; at the floor about a day (1,330 minutes) on 256
TPU v5e.
Expected: no paper trains this shape on these data. Diffusion transformers follow a power law in
compute (Liang et al. 2024, reproduced by experiments/papers/liang2024.py): a ladder of smaller runs
should fix it before this one is paid for.
Paper: the shape follows Peebles & Xie 2023 (arXiv 2212.09748), wider and with heads of 128.
Data: ImageNet at 64x64 (Chrabaszcz et al. 2017) in patches of 2x2: 1,024 positions.
"""

from ml_collections import ConfigDict

from experiments import dit_xl

PARTS = {
    "pretrain": dit_xl.PARTS["pretrain"]
    | {"title": "A DiT of 7B on ImageNet 64x64", "data": "imagenet_resized/64x64"}
}
get_trials = dit_xl.get_trials


def get_config(part: str) -> ConfigDict:
    """A DiT 4,096 wide and 23 deep."""
    config = dit_xl.get_config(part)
    config.data.name = PARTS[part]["data"]
    config.model.update(depth=23, width=4096, num_heads=32, image_shape=(64, 64, 3))
    return config
