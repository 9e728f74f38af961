"""A bound of the bits of images, in pixels, by a family that has learned their latents alone.

    -log p(x) <= E[-log p(x | latent) + log q(latent | x) - log p(latent)]

by the frozen autoencoder (`research.latents`), and by the family's own score of the latent: its
likelihood or its bound. So what was learned of latents can be held against what was learned of
pixels. One sample of each image's latent is seen.
"""

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np

from research import data, families, latents, processes, programs
from research.errors import UserError
from research.evaluation import batch_bits


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for data that are no latents, or a family whose score bounds nothing."""
    del spec
    if not hasattr(_source(config), "of_latents"):
        raise UserError(
            f"config.evaluation.evaluators: 'pixel_bound' reads latents; config.data.name="
            f"{config.data.name!r} gives none, latent_images and latent_codes do"
        )
    batch_bits.check(config, "pixel_bound")


def _source(config: Any) -> ModuleType:
    return data.sources.load(config.data.name)


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """The bound; of images of floats it is one of their density."""
    del config
    return {"pixel_bound": {"unit": "bits/dim", "kind": "upper bound", "better": "lower"}}


def measure(config: Any, params: Any) -> dict[str, float]:
    """The bound on `evaluation.examples` validation images."""
    program, size = programs.build(config), config.evaluation.batch_size
    name = next(iter(batch_bits.kinds(config)))
    score = program.judge(families.load(config.family).score)
    encode = functools.partial(latents.run, "latent_nats", config.data.run, config.data.sha256)
    bits = dims = 0.0
    for index, batch in enumerate(_images(config)):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        latent, rest_B = jax.tree.map(np.asarray, encode(batch["image"], keys[0]))
        read = _source(config).of_latents(config.data, latent, batch["label"])
        read = processes.place(program.batch, read | {"mask": batch["mask"]}, size)
        bits += float(score(params, read, keys[1])[name]["total"])
        bits += float((rest_B * batch["mask"]).sum()) / np.log(2)
        dims += float(batch["mask"].sum()) * batch["image"][0].size
    return {"pixel_bound": bits / dims}


def _images(config: Any) -> Iterator[dict[str, Any]]:
    """Batches of the images whose latents the validation data are."""
    own = latents.settings(config.data.run, config.data.sha256).data
    own.folder = config.data.folder
    settings = config.evaluation
    return data.eval_batches(data.load(own, "validation"), settings.batch_size, settings.examples)
