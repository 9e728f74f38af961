"""Parameters and FLOPs of the diffusion Transformer, counted from its shape."""

from typing import Any

from research.cost import Ledger, add, stack


def network(model: Any, image_shape: tuple[int, ...], out_channels: int) -> Ledger:
    """Ledger of `models.dit.DiT` on one image of `image_shape` (height, width, channels).

    The "Gflops" of Peebles & Xie 2023 are multiply-adds, half of these FLOPs.
    """
    height, image_width, channels = image_shape
    width, patch = model.width, model.patch_size
    length = (height // patch) * (image_width // patch)
    patch_in = patch * patch * channels * (1 + 2 * len(model.fourier_features))
    patch_out = patch * patch * out_channels
    time = model.time_features * width + width * width
    labels = model.num_classes + (model.class_dropout > 0) if model.num_classes else 0
    blocks = stack(model, length, modulated=True)
    params = {
        "patches": patch_in * width + width,
        "time": time + 2 * width,
        "embedding": labels * width,
        "modulation": 2 * width * (width + 1),
        "head": width * patch_out + patch_out,
    }
    forward_flops = {
        "patches": 2 * length * patch_in * width,
        "time": 2 * time,
        "modulation": 2 * 2 * width * width,
        "head": 2 * length * width * patch_out,
    }
    return Ledger(
        add(blocks.params, params),
        add(blocks.forward_flops, forward_flops),
        length,
        blocks.idle_params,
    )


def cost(config: Any) -> Ledger:
    """Ledger of one training image, which runs the network once."""
    model = config.model
    return network(model, tuple(model.image_shape), model.image_shape[-1])
