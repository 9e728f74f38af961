"""Images drawn from a diffusion model: its network as a sampler asks for it, and the walk."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import FrozenConfigDict

from research import families, levels
from research.config import frozen
from research.errors import UserError
from research.families.diffusion import denoiser, editing, image_conditions, samplers
from research.families.diffusion.guidance import Guidance, along_classifier, push
from research.families.diffusion.process import Process, along
from research.families.diffusion.samplers import Denoise, Denoised
from research.families.diffusion.step_schedules import STEP_SCHEDULES
from research.models import common
from research.models.conditions import Conditions


class Request(NamedTuple):
    """What is asked of images that are drawn together, all in the process's range; None is not.

    Attributes:
        known: what the network is given of them: classes, texts, images beside the noisy one.
        guidance: how strongly they are pushed.
        away_B: from these classes; by default from none, and from no text.
        guide: parameters of another run: a worse network to be pushed away from, or a classifier.
        image_BxHxWxC: which is changed, by as much as the walk is long.
        mask_BxHxWx1: 1 where it is drawn anew.
        small_BxhxwxC: what means of squares are to be.
        to_B: the classes that the image's noise, found by its own, is drawn as.
        minus_BxHxWxC, plus_BxHxWxC: whose noises are taken from the image's and added to it.
    """

    known: Conditions
    guidance: Guidance | None = None
    away_B: Any = None
    guide: Any = None
    image_BxHxWxC: Any = None
    mask_BxHxWx1: Any = None
    small_BxhxwxC: Any = None
    to_B: Any = None
    minus_BxHxWxC: Any = None
    plus_BxHxWxC: Any = None


# What `sample` can be asked beside classes.
REQUESTS = (
    "path",
    "strength",
    *(each for each in Request._fields if each not in ("known", "guidance")),
)
ROOM = 1024  # walks of up to so many log-SNRs are one program
# Keys of config.sampling that a program is given as arguments, or does not need.
WALKED = ("num", "steps", "step_schedule", "rho")
See = Callable[[Array, Array, Array, Conditions], Denoised]  # of (y, gamma_B, guess, known)


def see(config: Any, params: common.Params) -> See:
    """What the network says of y = x / alpha, given what is known."""

    def seen(y: Array, gamma_B: Array, guess: Array, known: Conditions) -> Denoised:
        given = known._replace(gamma_B=gamma_B)
        x0, place, _ = denoiser.look(config, params, y, given, guess)
        return Denoised(x0) if place is None else Denoised(x0, place)

    return seen


def denoise_of(config: Any, params: common.Params, asked: Request, guide: Any = None) -> Denoise:
    """The network as a sampler calls it, guided as `asked`, of which it keeps what is known.

    Args:
        guide: the config of the run whose parameters are asked.guide.
    """
    own = see(config, params)

    def denoise(y: Array, gamma_B: Array, guess: Array) -> Denoised:
        found = _guided(config, own, asked, guide, y, gamma_B, guess)
        # The range that pixels have (Ho 2020).
        return found._replace(x0=jnp.clip(found.x0, -1, 1)) if config.model.discrete else found

    if asked.mask_BxHxWx1 is not None:
        keep = editing.keep_pixels(asked.image_BxHxWxC, asked.mask_BxHxWx1)
        return editing.kept(denoise, keep)
    if asked.small_BxhxwxC is not None:
        factor = config.model.image_shape[0] // asked.small_BxhxwxC.shape[1]
        return editing.kept(denoise, editing.keep_means(asked.small_BxhxwxC, factor))
    return denoise


def _guided(
    config: Any, own: See, asked: Request, guide: Any, y: Array, gamma_B: Array, guess: Array
) -> Denoised:
    """What the network says, pushed as `asked`; classes and their absence are one call of it."""
    known, guidance = asked.known, asked.guidance
    if guidance is None:
        return own(y, gamma_B, guess, known)
    if guide is None:
        given: Any = (y, gamma_B, guess, known)
        others = (y, gamma_B, guess, _away(config, asked))
        both = own(*jax.tree.map(lambda *pair: jnp.concatenate(pair), given, others))
        good, bad = jnp.split(both.x0, 2)
        place = both.place[: len(y)] if isinstance(both.place, Array) else both.place
        return Denoised(push(guidance, good, bad, gamma_B), place)
    found = own(y, gamma_B, guess, known)
    family = families.load(guide.family)
    if hasattr(family, "logits"):

        def log_probability(y: Array) -> Array:
            x_t = y * along(Process().scales(gamma_B)[0], y)
            logits = family.logits(guide, asked.guide, x_t, gamma_B)
            return jnp.take_along_axis(jax.nn.log_softmax(logits), known.label_B[:, None], 1)[:, 0]

        return found._replace(x0=along_classifier(guidance, log_probability, found.x0, y, gamma_B))
    worse = see(guide, asked.guide)(y, gamma_B, guess, known)
    return found._replace(x0=push(guidance, found.x0, worse.x0, gamma_B))


def _away(config: Any, asked: Request) -> Conditions:
    """What guidance pushes away from: another class, or none, and no text."""
    known = asked.known
    if known.label_B is not None:
        none_B = jnp.full_like(known.label_B, config.model.num_classes)
        known = known._replace(label_B=none_B if asked.away_B is None else asked.away_B)
    if known.text_BxS is not None:
        known = known._replace(text_BxS=jnp.zeros_like(known.text_BxS))
    return known


def start(config: Any, noise: Array) -> Array:
    """y where a walk begins, of standard normal noise: N(0, 1) at the variance-preserving scale."""
    last = denoiser.make_schedule(config).gammas[-1]
    return noise * jnp.exp(-0.5 * jax.nn.log_sigmoid(-jnp.float32(last)))


class Walk(NamedTuple):
    """The -log SNRs of a walk, falling, and the same rising; with room, what follows is no part.

    Attributes:
        gammas, backwards: [steps + 1] or more.
        steps: how many are walked.
        whole: whether none were skipped.
    """

    gammas: Array
    backwards: Array
    steps: Array
    whole: Array


def make_walk(config: Any, skipped: int = 0, room: int = ROOM) -> Walk:
    """The walk of `config.sampling` without its first `skipped` steps, in arrays of whole rooms."""
    options = config.sampling
    path = denoiser.make_schedule(config)
    gammas = STEP_SCHEDULES[options.step_schedule](path, options.steps, options)[skipped:]
    more = (0, -len(gammas) % room)
    there, back = (jnp.pad(each, more, mode="edge") for each in (gammas, gammas[::-1]))
    return Walk(there, back, jnp.asarray(len(gammas) - 1), jnp.asarray(not skipped))


@functools.partial(jax.jit, static_argnames=("config", "guide", "filmed"))
def draw(
    config: Any,
    params: common.Params,
    noise: Array,
    key: Array,
    asked: Request,
    walk: Walk,
    guide: Any = None,
    filmed: bool = False,
) -> Array:
    """x_0 of a frozen config [B, H, W, C] from standard normal `noise`.

    Args:
        guide: the frozen config of the run whose parameters are asked.guide.
        filmed: return x_0 as each step saw it, [steps, B, H, W, C], of a walk without room.
    """
    options, denoise = config.sampling, denoise_of(config, params, asked, guide)
    y, image, name = start(config, noise), asked.image_BxHxWxC, options.sampler
    if asked.to_B is not None or asked.plus_BxHxWxC is not None:
        # There and back by the same steps, with no noise of their own (Song 2021, section 4.3).
        name, options = "ddim", FrozenConfigDict({**options, "eta": 0.0, "repeats": 1})

    def noise_of(x0: Array) -> Array:
        return samplers.walk(name, denoise, x0, walk.backwards, walk.steps, key, options)

    if asked.plus_BxHxWxC is not None:
        noises = map(noise_of, (image, asked.minus_BxHxWxC, asked.plus_BxHxWxC))
        y = editing.combined(*noises)
    elif asked.to_B is not None:
        y = noise_of(image)
        other = asked._replace(known=asked.known._replace(label_B=asked.to_B))
        denoise = denoise_of(config, params, other, guide)
    elif image is not None:
        seen = image + jnp.exp(0.5 * walk.gammas[0]) * noise
        if asked.mask_BxHxWx1 is not None:  # where the walk is whole, nothing of a hole is known
            seen = jnp.where((asked.mask_BxHxWx1 > 0) & walk.whole, y, seen)
        y = seen
    if filmed:
        return samplers.run(name, denoise, y, walk.gammas, key, options)[1]
    y = samplers.walk(name, denoise, y, walk.gammas, walk.steps, key, options)
    if asked.mask_BxHxWx1 is None or image is None:
        return y
    return jnp.where(asked.mask_BxHxWx1 > 0, y, image)


def to_pixels(config: Any, x0: Array) -> Array:
    """Images as the data have them: levels, or floats."""
    return levels.nearest(x0, config.model.levels) if config.model.discrete else x0


def sample(
    config: Any,
    params: common.Params,
    key: Array,
    num: int,
    label: Any = None,
    text: Any = None,
    path: bool = False,
    strength: float = 1.0,
    guide: tuple[Any, Any] | None = None,
    **asked: Any,
) -> np.ndarray:
    """Draw images [num, height, width, channels], uint8 if the data are, else float32.

    Args:
        label: classes [num]; drawn uniformly unless given.
        text: tokens of a text [num, S]; by default none.
        path: from one noise to another, along the great circle.
        strength: of the change of an image, the share of the steps that is walked.
        guide: config and parameters of the run that guides.
        asked: more of `Request`, images as the data have them.
    """
    x0 = _drawn(config, params, key, num, label, text, path, strength, guide, asked)
    return np.asarray(to_pixels(config, x0))


def film(config: Any, params: common.Params, key: Array, num: int, **asked: Any) -> np.ndarray:
    """What each step of the same walk saw, [steps, num, height, width, channels]; see `sample`."""
    plain: dict[str, Any] = dict(label=None, text=None, path=False, strength=1.0, guide=None)
    given = {name: asked.pop(name, plain[name]) for name in plain}
    seen = _drawn(config, params, key, num, asked=asked, filmed=True, **given)
    return np.asarray(to_pixels(config, seen))


def _drawn(
    config: Any,
    params: common.Params,
    key: Array,
    num: int,
    label: Any,
    text: Any,
    path: bool,
    strength: float,
    guide: Any,
    asked: dict[str, Any],
    filmed: bool = False,
) -> Array:
    """x_0 of the images [num, H, W, C], or as each step saw it, [steps, num, H, W, C]."""
    label_key, draw_key = jax.random.split(key)
    if label is None:
        label = jax.random.randint(label_key, (num,), 0, max(config.model.num_classes, 1))
    noise_key, walk_key = jax.random.split(draw_key)
    noise = jax.random.normal(noise_key, (num, *config.model.image_shape))
    if path and num > 1:
        noise = editing.between(noise[0], noise[-1], jnp.linspace(0, 1, num))
    params = denoiser.drawn(config, params)
    if hasattr(denoiser.objective(config.model.objective), "sample"):
        _check_map(config, guide, asked, filmed)
        known = _known(config, jnp.asarray(label), text, {})
        used, steps = frozen(config, "model", "hardware"), config.sampling.steps
        return mapped(used, params, noise, walk_key, known, steps)
    request, used = _request(config, jnp.asarray(label), text, guide, asked)
    skipped = config.sampling.steps - round(strength * config.sampling.steps)
    if skipped == config.sampling.steps:
        images = denoiser.pixels(config, jnp.asarray(asked["image_BxHxWxC"]))
        return images[None] if filmed else images
    walk = make_walk(config, skipped, room=1 if filmed else ROOM)
    guiding = None if guide is None else FrozenConfigDict(guide[0].to_dict())
    return draw(used, params, noise, walk_key, request, walk, guiding, filmed)


@functools.partial(jax.jit, static_argnames=("config", "steps"))
def mapped(
    config: Any, params: common.Params, noise: Array, key: Array, known: Conditions, steps: int
) -> Array:
    """y at gamma_min of a frozen config whose objective learned a map, in at most `steps` calls."""
    of = denoiser.objective(config.model.objective)
    return of.sample(config, params, noise, key, known, steps)


def _check_map(config: Any, guide: Any, asked: dict[str, Any], filmed: bool) -> None:
    """Raise UserError for what a map from noise to images, which denoises nothing, cannot do."""
    given = [key for key in asked if asked[key] is not None]
    if given or guide or filmed or config.sampling.guidance != 1:
        raise UserError(
            f"config.model.objective={config.model.objective!r} maps noise to images and denoises "
            "nothing: it has no guidance, edits or films"
        )


def _request(
    config: Any, label_B: Array, text: Any, guide: Any, asked: dict[str, Any]
) -> tuple[Request, FrozenConfigDict]:
    """What is asked, and what of the config decides the program."""
    options = {key: value for key, value in config.sampling.items() if key not in WALKED}
    low, high = options.pop("guidance_interval") or (-np.inf, np.inf)
    scale, rescale = options.pop("guidance"), options.pop("guidance_rescale")
    pushed = Guidance(*map(jnp.float32, (scale, -high, -low, rescale)))
    if scale == 1 and not (guide and hasattr(families.load(guide[0].family), "logits")):
        pushed = None
    images = {key: asked[key] for key in asked if asked[key] is not None}
    for key in ("image_BxHxWxC", "small_BxhxwxC", "minus_BxHxWxC", "plus_BxHxWxC"):
        if key in images:
            images[key] = denoiser.pixels(config, jnp.asarray(images[key]))
    known = _known(config, label_B, text, images)
    request = Request(known, pushed, guide=guide and guide[1], **images)
    used = FrozenConfigDict({**frozen(config, "model", "hardware"), "sampling": options})
    return request, used


def _known(config: Any, label_B: Array, text: Any, images: dict[str, Any]) -> Conditions:
    """What the network is given of images that are asked for, with `images` in its own range."""
    model, num = config.model, len(label_B)
    if text is None and model.text_vocab:
        text = jnp.zeros((num, model.text_length), jnp.int32)
    image = image_conditions.blank(model, num)
    if model.image_condition == "low_resolution" and "small_BxhxwxC" in images:
        image = image_conditions.larger(images["small_BxhxwxC"], model.image_factor)
    if model.image_condition == "around" and "mask_BxHxWx1" in images:
        image = image_conditions.masked(images["image_BxHxWxC"], images["mask_BxHxWx1"])
    label = label_B if model.num_classes else None
    unset: Any = None  # the noise, which changes along a walk
    return Conditions(unset, label, text_BxS=text, image_BxHxWxC=image)
