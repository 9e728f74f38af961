"""What does it take to train a diffusion transformer of DiT-XL/2's shape?

Question: on which slice does a step of 256 images fit, how long must it take, and what do the
400,000 steps of the paper cost?
Cost: 7.3e19 FLOPs; at the floor about 17 hours (1,000 minutes) on 8 TPU v5e.
Expected: the paper reaches an FID of 19.5 without guidance after 400,000 steps, on latents of
256x256 ImageNet; on pixels the bound in bits per dimension is the score.
Paper: Peebles & Xie 2023 (arXiv 2212.09748), table 4: 118.6e9 multiply-adds an image and
675,129,632 parameters, of which 294,912 are fixed positions, and 27,668 serve the fourth channel of
latents and the learned variance, which pixels do not have.
Data: ImageNet at 32x32 (Chrabaszcz et al. 2017) in patches of 2x2: 256 positions, as the paper's
latents have. A dry run needs neither the data nor a network.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "pretrain": {
        "title": "DiT-XL/2's shape on ImageNet 32x32",
        "family": "diffusion",
        "data": "imagenet_resized/32x32",
        "unit": "bits/dim",
        "data_unit": "images",
    }
}


def get_config(part: str) -> ConfigDict:
    """DiT-XL/2 on pixels, classes hidden one time in ten."""
    config = defaults.config("diffusion", PARTS[part]["data"], optimizer="adamw")
    config.part, config.recipe = part, "fixed"
    config.model.update(depth=28, width=1152, num_heads=16, activation="gelu", positions="none")
    config.model.update(image_shape=(32, 32, 3), patch_size=2, time_features=256)
    config.model.update(num_classes=1000, class_dropout=0.1)
    config.train.update(steps=400_000, batch_size=256, learning_rate=1e-4, schedule="constant")
    config.train.update(clip_norm=1.0, warmup_steps=0, weight_decay=0.0, b2=0.999, ema_decay=0.9999)
    config.evaluation.update(batch_size=256, examples=4096)
    config.sampling.num = 0
    config.hardware.update(remat="full", unroll=1, attention="chunked", compute_dtype="bfloat16")
    config.hardware.mesh.update(data=1, fsdp=-1)
    return config


def get_trials(part: str) -> list[dict]:
    """One run."""
    return [{}]
