"""A family that draws its training images again, or noise, by label or by text; nothing learns."""

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import data


def default_model():
    """share: of samples that are copies, the others are noise."""
    return ConfigDict({"share": 1.0, "num_classes": 0})


def init(config, key):
    return {"scale": jnp.ones(())}


def loss(config, params, batch, key, step):
    return params["scale"] ** 2, {}


def score(config, params, batch, key):
    rows = batch["mask"].sum()
    return {"level": {"total": params["scale"] * rows, "count": rows}}


def score_kinds(config):
    return {"level": {"unit": "1", "kind": "exact", "better": "lower"}}


def sample(config, params, key, num, label=None, text=None):
    split = "train" if text is None else "validation"
    found = data.load(config.data, split).gather(np.arange(len(data.load(config.data, split))))
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    rows = draw.integers(len(found["image"]), size=num)
    if text is not None:
        rows = np.array([np.flatnonzero((found["text"] == each).all(1))[0] for each in text])
    elif label is not None:
        rows = np.array([draw.choice(np.flatnonzero(found["label"] == each)) for each in label])
    images = found["image"][rows]
    noise = draw.random(num) >= config.model.share
    images = images.copy()
    images[noise] = draw.integers(0, 256, images[noise].shape)
    return images
