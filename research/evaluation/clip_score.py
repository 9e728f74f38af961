"""How well drawn images fit the names that they were drawn for, by a CLIP that was trained here.

The score of an image and its name is 2.5 max(cosine, 0) of their directions (Hessel 2021, equation
1). `clip_retrieval` is the share of images to which, of all names that were asked for, none is
nearer than their own. Names are those of held-out characters; beside both is what their real images
have. The family's `sample` takes `text`, tokens [n, S] of the data.
"""

import inspect
from typing import Any

import numpy as np
from jax import numpy as jnp
from numpy.typing import NDArray

from research import data, families
from research.errors import UserError
from research.evaluation import image_features, image_samples, intervals
from research.evaluation.intervals import Estimate
from research.families import clip

NAMES = ("clip_score", "clip_retrieval")


def check(config: Any, spec: dict[str, Any]) -> None:
    features = image_samples.check(config, spec, "clip_score")
    if features.directions is None:
        raise UserError(
            f"config.evaluation.features={config.evaluation.features!r} know no text, by which "
            "'clip_score' goes; name a run of family clip"
        )
    if "text" not in inspect.signature(families.load(config.family).sample).parameters:
        raise UserError(
            f"config.evaluation.evaluators: 'clip_score': family {config.family!r} draws nothing "
            "by a text"
        )
    if spec.get("text") != features.text:
        raise UserError(
            f"config.evaluation.features={config.evaluation.features!r} read texts of "
            f"{features.text}; those of {config.data.name} are {spec.get('text')}"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    score = {"unit": "2.5 cosines", "kind": "estimate", "better": "higher"}
    kinds = dict(zip(NAMES, (score, {**score, "unit": "share of images"}), strict=True))
    return {f"{name}{end}": kinds[name] for end in ("", "_real") for name in NAMES}


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    features = image_features.load(config.evaluation.features)
    assert features.directions is not None
    recipe = image_samples.RECIPES[config.evaluation.image_recipe]
    held = data.load(config.data, "validation")
    rows = np.random.Generator(np.random.Philox(recipe.seed)).permutation(len(held))
    real = held.gather(np.resize(rows, recipe.samples))  # again from the first, where there are few
    texts = features.directions(real["text"])
    signature = image_samples.signature(config, real["image"], features)
    images = {"": image_samples.drawn(config, params, real["text"]), "_real": real["image"]}
    values = {}
    for end, each in images.items():
        directions = image_features.finite(features.of(each), "images")
        found = zip(NAMES, scores(directions, texts, real["text"]), strict=True)
        values |= {f"{name}{end}": each._replace(signature=signature) for name, each in found}
    return values


def scores(images: NDArray, texts: NDArray, tokens: NDArray) -> tuple[Estimate, Estimate]:
    """The score and the retrieval of directions of images [n, I] and of their texts [n, I].

    Texts of the same tokens [n, S] are one.
    """
    found = (images @ texts.T).argmax(1)
    right = (tokens[found] == tokens).all(1)
    each = np.asarray(clip.clip_score(jnp.asarray(images), jnp.asarray(texts)))
    return intervals.bootstrap(each), intervals.share(right.sum(), len(images))
