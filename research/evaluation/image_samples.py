"""Images drawn from a run by a pinned recipe, and the real ones that they are held to.

Two numbers compare when their signatures are equal: the recipe, the reference images by a hash of
their content, and the features by theirs. A family is asked for its samples a batch at a time, all
of one size, so that there is one program; those with labels or texts get real ones, as often as the
data have them. What a recipe does not say, such as the sampler, is as `config.sampling` says.
"""

import hashlib
import inspect
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from research import config as configs
from research import data, families
from research.errors import UserError
from research.evaluation import image_features
from research.evaluation.image_features import Features, Images
from research.parts import check_choice


class Recipe(NamedTuple):
    """How images are drawn, and what they are held to.

    Attributes:
        samples: how many are drawn, and at most how many held-out images they are beside.
        batch: how many at a time; other batches draw other images.
        references: images of the training data that they are held to; 0: all.
        sampling: keys of `config.sampling` that are pinned, too.
        seed: of labels, of noise, and of which images are chosen.
    """

    samples: int
    batch: int = 256
    references: int = 0
    sampling: tuple[tuple[str, Any], ...] = ()
    seed: int = 0


RECIPES = {
    "images_512": Recipe(512, references=4096),
    "images_2k": Recipe(2048),
    "images_2k_ddim50": Recipe(2048, sampling=(("sampler", "ddim"), ("steps", 50))),
    "images_10k": Recipe(10_240),
}


class Sets(NamedTuple):
    """Features [n, D] of images that were drawn, of the reference, and of held-out images."""

    drawn: NDArray[np.float64]
    reference: NDArray[np.float64]
    held: NDArray[np.float64]
    signature: str


def check(config: Any, spec: dict[str, Any], name: str) -> Features:
    """The features that evaluator `name` is to judge by, if it can.

    Raises:
        UserError: for data or a family without 8-bit images, an unknown recipe, one that pins what
            the family's samplers do not have, or features of other images.
    """
    where = f"config.evaluation.evaluators: {name!r}"
    if not spec.get("discrete"):
        raise UserError(
            f"{where} judges 8-bit images; config.data.name={config.data.name!r} has none"
        )
    check_drawn(config, name)
    features = image_features.load(config.evaluation.features)
    if features.shape not in (None, tuple(spec["shape"])):
        raise UserError(
            f"config.evaluation.features={config.evaluation.features!r} are of images "
            f"{features.shape}; those of {config.data.name} are {tuple(spec['shape'])}"
        )
    return features


def check_drawn(config: Any, name: str) -> None:
    """Raise UserError where evaluator `name` cannot have images that are drawn by the recipe."""
    check_samples(config, name)
    check_choice("evaluation.image_recipe", config.evaluation.image_recipe, RECIPES)
    _pinned(config)


def check_samples(config: Any, name: str) -> None:
    """Raise UserError where evaluator `name` asks for samples of a family that draws none."""
    if not hasattr(families.load(config.family), "sample"):
        raise UserError(
            f"config.evaluation.evaluators: {name!r}: family {config.family!r} draws no samples"
        )


def _pinned(config: Any) -> tuple[Recipe, ConfigDict]:
    """The recipe, and the config with what it pins."""
    recipe = RECIPES[config.evaluation.image_recipe]
    changed = config.copy_and_resolve_references()
    for key, value in recipe.sampling:
        if key not in config.sampling:
            raise UserError(
                f"config.evaluation.image_recipe={config.evaluation.image_recipe!r} sets "
                f"config.sampling.{key}, which family {config.family!r} does not have"
            )
        changed.sampling[key] = value
    return recipe, changed


def sets(config: Any, params: Any) -> Sets:
    """What distances are between: features of drawn, reference and held-out images."""
    features = image_features.load(config.evaluation.features)
    real, held = reference(config), held_out(config)
    images = (drawn(config, params), real, held)
    found = (features.of(each) for each in images)
    checked = map(image_features.finite, found, ("drawn images", "reference images", "held-out"))
    of_drawn, of_real, of_held = checked
    return Sets(of_drawn, of_real, of_held, signature(config, real, features))


def signature(config: Any, real: Images, features: Features) -> str:
    """What two numbers must share to be put on one axis."""
    content = hashlib.sha256(f"{real.shape}".encode() + real.tobytes()).hexdigest()
    recipe = config.evaluation.image_recipe
    return f"recipe:{recipe}|data:{content[:12]}|features:{features.digest[:12]}"


def reference(config: Any) -> Images:
    """Images [n, H, W, C] of the training data, however few of them the run read."""
    recipe = RECIPES[config.evaluation.image_recipe]
    return chosen(_whole(config, "train"), recipe.references, recipe.seed)["image"]


def held_out(config: Any) -> Images:
    """Images that no run trains on, at most as many as are drawn."""
    recipe = RECIPES[config.evaluation.image_recipe]
    found = [chosen(_whole(config, split), 0, 0)["image"] for split in ("validation", "test")]
    images = np.concatenate(found)
    return images[_order(len(images), recipe.samples, recipe.seed)]


def trained_on(config: Any) -> Images:
    """Every image that the run was trained on."""
    return chosen(data.load(config.data, "train"), 0, 0)["image"]


def _whole(config: Any, split: str) -> data.Source:
    """A split of the data, without the cut of a run that reads few of them."""
    settings = config.data.copy_and_resolve_references()
    if "unique" in settings:
        settings.unique = 0
    return data.load(settings, split)


def chosen(source: data.Source, count: int, seed: int) -> dict[str, NDArray]:
    """`count` examples of a split in an order of their own, all in theirs where it is 0."""
    rows = _order(len(source), count, seed) if count else np.arange(len(source))
    return source.gather(rows)


def _order(total: int, count: int, seed: int) -> NDArray[np.integer]:
    return np.random.Generator(np.random.Philox(seed)).permutation(total)[:count]


_DRAWN: dict[str, NDArray] = {}  # the last ones: several evaluators ask for them


def drawn(config: Any, params: Any, text: NDArray | None = None) -> NDArray:
    """uint8 [samples, H, W, C] of the run's family, by the recipe; float32 where the data are.

    Args:
        text: of each image [samples, S], for a family that draws what it reads.

    Raises:
        UserError: when what it gives are images of another type or shape than the data's.
    """
    recipe, config = _pinned(config)
    given = {} if text is None else {"text": text}
    sample = families.load(config.family).sample
    if "label" in inspect.signature(sample).parameters and config.model.get("num_classes"):
        given["label"] = _labels(config, recipe)
    key = _key(config, params, given)
    if key not in _DRAWN:
        found = []
        for index, start in enumerate(range(0, recipe.samples, recipe.batch)):
            rows = np.arange(start, start + recipe.batch) % recipe.samples  # the last one filled up
            own = {name: each[rows] for name, each in given.items()}
            noise = jax.random.fold_in(jax.random.key(recipe.seed), index)
            found.append(np.asarray(sample(config, params, noise, recipe.batch, **own)))
        images = np.concatenate(found)[: recipe.samples]
        spec = data.outline(config.data)
        shape, kind = tuple(spec["shape"]), np.uint8 if spec["discrete"] else np.float32
        if images.dtype != kind or images.shape[1:] != shape:
            raise UserError(
                f"family {config.family!r} draws {images.dtype} {list(images.shape[1:])}; expected "
                f"{'8-bit' if spec['discrete'] else 'float32'} images {list(shape)}"
            )
        _DRAWN.clear()
        _DRAWN[key] = images
    return _DRAWN[key]


def _labels(config: Any, recipe: Recipe) -> NDArray[np.int32]:
    """Labels as often as the training data have them, [samples]."""
    source = _whole(config, "train")
    rows = np.random.Generator(np.random.Philox(recipe.seed)).integers(
        len(source), size=recipe.samples
    )
    return source.gather(rows)["label"]


def _key(config: Any, params: Any, given: dict[str, NDArray]) -> str:
    """What the drawn images are a function of."""
    about = {key: configs.to_plain(config[key]) for key in ("sampling", "data")}
    recipe = (config.evaluation.image_recipe, RECIPES[config.evaluation.image_recipe])
    total = hashlib.sha256(f"{image_features.digest(config, params)} {about} {recipe}".encode())
    for name, each in given.items():
        total.update(name.encode() + np.ascontiguousarray(each).tobytes())
    return total.hexdigest()
