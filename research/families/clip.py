"""Images and their names in one space: contrastive pretraining (Radford 2021).

A batch of N images and names is a task: which name is that of an image, and which image is that of
a name. Pairs of one name, such as a character in two fonts, are no mistakes, so that they are left
out of each other's wrong answers. It draws no samples, and judges those of others.
"""

import sys
from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research import levels
from research.errors import UserError
from research.families import classifier
from research.models import common
from research.parts import part

# A network is a part (`research.parts`) with positions(config) and build(model, hardware) -> module
# of (image_BxHxWxC or None, text_BxS or None) -> (image_BxI, text_BxI, scale, measures).
NETWORKS = {"image_text": "research.models.image_text"}
PARTS = {"network": NETWORKS}
SCORE_SCALE = 2.5  # of CLIPScore (Hessel 2021, equation 1)
default_train, default_sampling = classifier.default_train, classifier.default_sampling


def default_model() -> ConfigDict:
    """Keys of `config.model` beside the network's; a study says what its images and names are."""
    return ConfigDict(
        dict(
            network="image_text",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # whole numbers, not floats
            levels=256,  # of them
            text_length=placeholder(int),  # words of a name, padding included
            text_vocab_size=placeholder(int),
        )
    )


def check(config: Any, spec: dict[str, Any]) -> None:
    """Refuse a model that cannot be built or that does not fit the data's `spec`.

    Raises:
        UserError: naming the key and what was expected.
    """
    levels.check(config, spec)
    if "text" not in spec:
        raise UserError(
            f"config.data.name={config.data.name!r} gives images without a text, which family "
            "'clip' reads; glyphs has one with config.data.text='words'"
        )
    for key, of_data in spec["text"].items():
        if config.model[f"text_{key}"] != of_data:
            raise UserError(
                f"config.model.text_{key}={config.model[f'text_{key}']} must be {of_data} for "
                f"{config.data.name}"
            )


def network(config: Any) -> tuple[Any, tuple[jax.Array, jax.Array]]:
    """The Flax module that `config.model` names, and inputs of the right shapes to start it."""
    model = FrozenConfigDict(config.model)
    found = part(sys.modules[__name__], "network", model)
    inputs = jnp.zeros((1, *model.image_shape)), jnp.ones((1, model.text_length), jnp.int32)
    return found.build(model, FrozenConfigDict(config.hardware)), inputs


def init(config: Any, key: jax.Array) -> common.Params:
    """Parameters as a nested dict."""
    module, inputs = network(config)
    return common.init(module, key, *inputs)


def axes(config: Any) -> common.Params:
    """Logical axis names of every parameter, a tree like `init`'s."""
    module, inputs = network(config)
    return common.logical_axes(module, *inputs)


def positions(config: Any) -> int:
    """Positions that the network processes for one pair: patches and words."""
    patches = part(sys.modules[__name__], "network", config.model).positions(config)
    return patches + config.model.text_length


def features(config: Any, params: common.Params, images: jax.Array) -> jax.Array:
    """Directions of images [B, H, W, C] of the data, float32 [B, I] of length 1."""
    return _apply(config, params, levels.scaled(images, config.model.levels), None)[0]


def text_features(config: Any, params: common.Params, text: jax.Array) -> jax.Array:
    """Directions of names, words [B, S], float32 [B, I] of length 1."""
    return _apply(config, params, None, text)[1]


def clip_score(image_BxI: jax.Array, text_BxI: jax.Array) -> jax.Array:
    """How well each image fits its text, 2.5 max(cosine, 0) of directions (Hessel 2021), [B]."""
    return SCORE_SCALE * jnp.maximum((image_BxI * text_BxI).sum(-1), 0)


def _apply(config: Any, params: common.Params, image: Any, text: Any) -> tuple[Any, ...]:
    module, _ = network(config)
    return common.apply(module, params, image, text)


def info_nce(
    similarity_BxB: jax.Array, text_BxS: jax.Array, rows_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Nats and whether the likeliest is right, [2, B]: of names given images, and the reverse.

    Args:
        similarity_BxB: of each image and each text, scaled.
        text_BxS: pairs of equal text are right for one another in what is likeliest, and left out
            of the others' wrong answers in nats.
        rows_B: 1 for a pair, 0 for padding, which is nobody's answer.
    """
    same_BxB = (text_BxS[:, None] == text_BxS[None]).all(-1)
    own_BxB = jnp.eye(len(rows_B), dtype=bool)
    nats, right = [], []
    for logits_BxB in (similarity_BxB, similarity_BxB.T):
        logits_BxB = jnp.where((rows_B[None] > 0) | own_BxB, logits_BxB, -jnp.inf)
        wrong_BxB = jnp.where(same_BxB & ~own_BxB, -jnp.inf, logits_BxB)
        nats.append(jax.nn.logsumexp(wrong_BxB, -1) - jnp.diagonal(logits_BxB))
        found_B = logits_BxB.argmax(-1)
        right.append(jnp.take_along_axis(same_BxB, found_B[:, None], -1)[:, 0])
    return jnp.stack(nats), jnp.stack(right)


def _judged(config: Any, params: Any, batch: dict[str, jax.Array]) -> tuple[Any, ...]:
    """`info_nce` of a batch, its weights of rows, and what the network measures."""
    image, text_BxS = levels.scaled(batch["image"], config.model.levels), batch["text"]
    image_BxI, text_BxI, scale, measured = _apply(config, params, image, text_BxS)
    rows_B = batch.get("mask", jnp.ones(len(text_BxS)))
    return (*info_nce(scale * image_BxI @ text_BxI.T, text_BxS, rows_B), rows_B, scale, measured)


def loss(
    config: Any, params: common.Params, batch: dict[str, jax.Array], key: jax.Array, step: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross-entropy of both directions in nats (Radford 2021, figure 3), and the scale."""
    del key, step
    nats_2xB, right_2xB, _, scale, measured = _judged(config, params, batch)
    penalty = sum(measures.get("penalty", 0.0) for measures in measured)
    return nats_2xB.mean() + penalty, {"accuracy": right_2xB.mean(), "scale": scale}


def score(
    config: Any, params: common.Params, batch: dict[str, jax.Array], key: jax.Array
) -> dict[str, dict[str, jax.Array]]:
    """Bits of the right answer and how often it is the likeliest, among the pairs of a batch."""
    del key
    nats_2xB, right_2xB, rows_B, *_ = _judged(config, params, batch)
    found = {
        "cross_entropy": nats_2xB.mean(0) / jnp.log(2.0),
        "name_retrieval": right_2xB[0],
        "image_retrieval": right_2xB[1],
    }
    return {k: {"total": (rows_B * v_B).sum(), "count": rows_B.sum()} for k, v_B in found.items()}


def score_kinds(config: Any) -> dict[str, dict[str, Any]]:
    """What `score` measures; it depends on how many pairs a batch has."""
    among = config.evaluation.batch_size
    share = {"unit": f"share, among {among}", "kind": "exact", "better": "higher"}
    return {
        "cross_entropy": {"unit": f"bits, among {among}", "kind": "exact", "better": "lower"},
        "name_retrieval": {**share, "chance": 1 / among},
        "image_retrieval": {**share, "chance": 1 / among},
    }
