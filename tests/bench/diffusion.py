"""Images drawn a second and train steps of DiT: `python -m tests.bench.diffusion`.

Where `torch` is installed (requirements-interop.txt) the network as its repository has it, in
PyTorch and with the same parameters, draws and trains in turn with ours (tests/bench/torch_peers),
and so does diffusers' U-Net, where that is installed, of as many parameters as ours.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research import cost, defaults, programs, recipes
from research.families import diffusion
from research.families.diffusion import drawing
from research.models import dit
from research.models.conditions import Conditions
from tests.bench.__main__ import row

BATCH, SIDE, CLASSES = 64, 16, 10


def make_config(steps: int) -> Any:
    """DiT of width 256, depth 6 and patches of 2 on 16x16 images, as its repository trains it."""
    config = defaults.config("diffusion", "glyphs", optimizer="adamw")
    config.recipe = "fixed"
    config.model.update(
        width=256, depth=6, num_heads=8, patch_size=2, image_shape=(SIDE, SIDE, 1),
        num_classes=CLASSES, class_dropout=0.1, positions="none",
    )  # fmt: skip
    config.train.update(
        batch_size=BATCH, steps=1000, learning_rate=1e-4, warmup_steps=20, weight_decay=0.0,
        ema_decay=0.9999,
    )  # fmt: skip
    config.sampling.update(sampler="ddpm", steps=steps)
    return recipes.apply(config)


def make_unet_config() -> Any:
    """A U-Net of DDPM's kind, 64 wide, with attention at 8x8, on 16x16 images."""
    config = defaults.config("diffusion", "glyphs", optimizer="adamw", network="unet")
    config.recipe = "fixed"
    config.model.update(
        width=64, channel_multipliers=(1, 2, 2), blocks_per_level=2, attention_resolutions=(8,),
        head_width=8, norm_groups=32, group_channels=2, time_features=64,
        resample="convolution", told="shift", image_shape=(SIDE, SIDE, 1),
    )  # fmt: skip
    config.train.update(
        batch_size=BATCH, steps=1000, learning_rate=1e-4, warmup_steps=20, weight_decay=0.0,
        ema_decay=0.9999,
    )  # fmt: skip
    return recipes.apply(config)


def make_params(config: Any) -> Any:
    """Parameters of the right shapes, none of them zero."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.02 * generator.normal(size=leaf.shape), jnp.float32),
        jax.eval_shape(lambda: diffusion.init(config, jax.random.key(0))),
    )


def make_peer(config: Any, params: Any) -> Any:
    """The module of PyTorch's networks and ours as one of them; None without PyTorch."""
    try:
        peers: Any = importlib.import_module("tests.bench.torch_peers")
    except ImportError:
        return None
    side = SIDE // config.model.patch_size
    grid = np.array(dit.grid_positions(side, side, config.model.width))
    peer = peers.holding(config.model, params, grid)
    image = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 1)).astype(np.float32)
    given = jnp.array([-5.0, 1.0]), jnp.array([3, 7])
    network, _ = diffusion.denoiser.network(config)
    ours, _ = network.apply({"params": params}, image, Conditions(*given))
    model, torch = config.model, peers.torch
    time_B = 1000 * (given[0] - model.gamma_min) / (model.gamma_max - model.gamma_min)
    with torch.no_grad():
        theirs = peer(
            torch.from_numpy(image.transpose(0, 3, 1, 2).copy()),
            *(torch.from_numpy(np.array(each)) for each in (time_B, given[1])),
        )
    np.testing.assert_allclose(theirs.numpy().transpose(0, 2, 3, 1), ours, atol=1e-3)
    return peers, peer


def make_unet_peer(config: Any) -> Any:
    """diffusers' network of the same shape; None where it or PyTorch is not installed."""
    try:
        peers: Any = importlib.import_module("tests.bench.torch_peers")
        peer = peers.UNet(config.model)
    except ImportError:
        return None
    theirs = sum(leaf.numel() for leaf in peer.parameters())
    ours = sum(cost.ledger(config).params.values())
    assert theirs == ours, f"diffusers' U-Net has {theirs} parameters, ours {ours}"
    return peers, peer


def drawers(config: Any, params: Any, peer: Any) -> list[Callable[[], Any]]:
    """Functions that draw a batch, ours and theirs."""
    label = np.arange(BATCH) % CLASSES

    def ours() -> Any:
        return diffusion.sample(config, params, jax.random.key(0), BATCH, jnp.asarray(label))

    if peer is None:
        return [ours]
    peers, model = peer
    kept = 1 / (1 + np.exp(np.asarray(drawing.make_walk(config, room=1).gammas, np.float64)))
    noise = peers.torch.randn(BATCH, 1, SIDE, SIDE)
    return [ours, lambda: peers.draw(model, noise, peers.torch.from_numpy(label), kept[:-1])]


def trainers(config: Any, peer: Any) -> list[Callable[[], Any]]:
    """Functions that make a train step, ours and theirs."""
    generator, program = np.random.default_rng(0), programs.build(config)
    image = generator.integers(0, 256, (BATCH, SIDE, SIDE, 1), np.uint8)
    label = generator.integers(0, CLASSES, BATCH).astype(np.int32)
    batch = jax.device_put({"image": image, "label": label})
    kept: dict[str, Any] = {"state": program.init(jax.random.key(0)), "step": 0}

    def ours() -> Any:
        kept["state"], metrics = program.step(
            kept["state"], batch, jax.random.key(0), kept["step"], 1e-4
        )
        kept["step"] += 1
        return metrics["loss"].block_until_ready()

    if peer is None:
        return [ours]
    peers, model = peer
    trainer, torch = peers.Trainer(model), peers.torch
    x0 = torch.from_numpy(image.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
    return [ours, lambda: trainer.step(x0, torch.from_numpy(label.astype(np.int64)))]


def in_turn(functions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each, called in turn after a call that is not timed."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 1):
        for function, times in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if repeat:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def _times(seconds: Sequence[float]) -> str:
    others = seconds[1:]
    return f"{others[0] / seconds[0]:.2f} x PyTorch" if others else "torch is not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="of a walk from noise")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    config = make_config(options.steps)
    params = make_params(config)
    peer = make_peer(config, params)
    seconds = in_turn(drawers(config, params, peer), options.repeats)
    name = f"DiT D256 depth 6 patch 2, {SIDE}x{SIDE}, batch {BATCH}"
    row(f"{options.steps} steps, {name}", f"{BATCH / seconds[0]:.2f} images/s")
    row("", _times(seconds), "at least 1.2 x")
    seconds = in_turn(trainers(config, peer), 2 * options.repeats)
    row("train step of the same", f"{BATCH / seconds[0]:.1f} images/s")
    row("", _times(seconds), "at least 1.2 x")
    config = make_unet_config()
    seconds = in_turn(trainers(config, make_unet_peer(config)), 2 * options.repeats)
    name = f"U-Net D64, attention at 8x8, {SIDE}x{SIDE}, batch {BATCH}"
    row(f"train step, {name}", f"{BATCH / seconds[0]:.1f} images/s")
    row("", _times(seconds), "at least 1.0 x")


if __name__ == "__main__":
    main()
