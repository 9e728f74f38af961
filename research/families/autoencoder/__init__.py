"""Autoencoders: images to a small latent and back, learned by the code length of both together.

    -log p(x) <= E[-log p(x | latent)] + what the latent costs

is a true bound on levels, whose likelihood given the latent sums to one (`pixel_likelihood`). The
latent costs its divergence from a normal prior ("kl"), or log2 of the number of codes a place
("vq", "fsq"), whose prior is uniform. What a model of latents reads, `encode`, has mean 0 a channel
and deviation 1: by running statistics that no gradient moves, which lie with the parameters. One
deviation serves all channels (Rombach et al. 2022, appendix G), lest a channel that holds nothing
become as loud as the others.
"""

import functools
import math
from typing import Any

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from research import levels, optim
from research.config import frozen
from research.errors import UserError
from research.failures import Limit
from research.families.autoencoder import coding
from research.families.autoencoder.coded import active_units, perplexity
from research.families.autoencoder.coding import (
    PARTS,
    axes,
    bottleneck,
    init,
    latent_shape,
    network,
    symbols,
)
from research.parts import check_choice

__all__ = ["PARTS", "axes", "init", "latent_shape", "symbols"]
REQUESTS = ("image_BxHxWxC", "strength", "minus_BxHxWxC", "plus_BxHxWxC", "path")
PIXELS = ("likeliest", "drawn")


def default_model() -> ConfigDict:
    """Keys of `config.model` beside those of its parts."""
    return ConfigDict(
        dict(
            network="conv_autoencoder",
            bottleneck="kl",
            likelihood="pixel",  # of an image given its latent
            objective="bound",
            image_shape=placeholder(tuple),  # (height, width, channels)
            discrete=True,  # whole numbers, not floats
            levels=256,  # of them
            num_classes=0,  # 0: no label is given to the networks
            statistics_decay=0.99,  # a step, of the latent's mean and deviation
        )
    )


def default_train() -> dict[str, Any]:
    """No decay of weights, on which the latent's size and with it every cost depends."""
    return dict(weight_decay=0.0)


def default_sampling() -> dict[str, Any]:
    """Its key of `config.sampling`."""
    return dict(pixels="likeliest")  # of an image given its latent; or "drawn" from the likelihood


def default_evaluation() -> dict[str, Any]:
    """Its key of `config.evaluation`."""
    return dict(importance_samples=64)  # of each image's latent, of `bounds`


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for what the data's `spec` does not fit."""
    model, samples = config.model, config.evaluation.importance_samples
    levels.check(config, spec)
    if model.num_classes not in (0, spec["num_classes"]):
        raise UserError(
            f"config.model.num_classes={model.num_classes} must be 0 or {spec['num_classes']}, "
            f"the classes of {config.data.name}"
        )
    if not 0 <= model.statistics_decay < 1:
        raise UserError(
            f"config.model.statistics_decay={model.statistics_decay} must be at least 0 and below 1"
        )
    if (size := math.prod(latent_shape(config))) > (most := math.prod(model.image_shape)):
        raise UserError(
            f"config.model.bottleneck={model.bottleneck!r}: a latent of {latent_shape(config)} has "
            f"{size} numbers, more than the {most} of the image"
        )
    if samples < 1:
        raise UserError(f"config.evaluation.importance_samples={samples} must be at least 1")
    check_choice("sampling.pixels", config.sampling.pixels, PIXELS)


def positions(config: ConfigDict) -> int:
    """Positions that the networks process for one image."""
    return network(config).positions(config)


def _loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """`loss`, with what `moved` is told among its metrics."""
    rows = len(batch["image"])
    nats, coded, judged = coding.objective(config).value(config, params, batch, key, step)
    a_dim = np.log(2) * batch["image"][0].size
    latent, found = jax.lax.stop_gradient(coded.latent_BxHxWxC), coded.found
    statistics = {"mean": latent.mean((0, 1, 2)), "square": jnp.square(latent).mean((0, 1, 2))}
    metrics = {
        "bound": (judged["reconstruction"] + coded.nats_B).mean() / a_dim,
        "rate": coded.nats_B.mean() / a_dim,
        "error": judged["error"].mean(),
    }
    if "share" in found:
        metrics["perplexity"] = perplexity(found["share"])
    if coded.shift_BxHxWxC is not None and rows > 1:
        metrics["active_units"] = active_units(coded.shift_BxHxWxC)
    return nats / a_dim, metrics | {"found": {"statistics": statistics, "bottleneck": found}}


def loss(
    config: ConfigDict, params: Any, batch: dict, key: Array, step: Array
) -> tuple[Array, dict[str, Any]]:
    """Bits a dimension of the reconstruction and of what the bottleneck charges in training.

    The metric "bound" is the variational bound in any case, "rate" the part of the latent, and
    "active_units" how many numbers of the latent tell images of the batch apart.
    """
    value, metrics = _loss(config, params, batch, key, step)
    del metrics["found"]
    return value, metrics


def update(
    config: ConfigDict, state: dict, batch: dict, key: Array, step: Array, rate: Array
) -> tuple[dict, dict]:
    """One gradient step; then statistics and codes go where the batch moves them."""
    before, model = state["params"], config.model
    state, metrics = optim.update(_loss, config, state, batch, key, step, rate)
    found, now = metrics.pop("found"), dict(state["params"])
    # The first batch counts whole, the next by half: a mean, until there is more than is kept.
    weight = jnp.maximum(1 - model.statistics_decay, 1 / (step + 1))
    now["statistics"] = jax.tree.map(
        lambda old, new: old + weight * (new - old), before["statistics"], found["statistics"]
    )
    if hasattr(bottleneck(config), "moved"):
        given = (before["bottleneck"], now["bottleneck"], found["bottleneck"])
        now["bottleneck"] = bottleneck(config).moved(model, *given, jax.random.fold_in(key, 1))
    return {**state, "params": now}, metrics


def score(config: ConfigDict, params: Any, batch: dict, key: Array) -> dict:
    """The bound of the rows not masked, its part of the latent, and the squared error.

    One sample of each image's latent is seen. Deterministic given `key`.
    """
    coded, judged = coding.once(config, params, batch, key)
    rows_B = batch.get("mask", jnp.ones(len(batch["image"])))
    dims = rows_B.sum() * batch["image"][0].size
    bits = {
        "bound": judged["reconstruction"] + coded.nats_B,
        "rate": coded.nats_B,
    }
    found = {
        name: {"total": (rows_B * nats_B).sum() / np.log(2), "count": dims}
        for name, nats_B in bits.items()
    }
    return found | {"error": {"total": (rows_B * judged["error"]).sum(), "count": rows_B.sum()}}


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """What `score` measures: of floats the bound is of a density."""
    del config
    bits = {"unit": "bits/dim", "kind": "upper bound", "better": "lower"}
    error = {"unit": "squared error", "kind": "exact", "better": "lower"}
    return {"bound": bits, "rate": bits | {"kind": "estimate"}, "error": error}


def limits(config: ConfigDict) -> dict[str, Limit]:
    """A posterior that is the prior, or one code at all places, tells no image from another."""
    if symbols(config):
        means = "the codebook has collapsed, all places have one code"
        return {"codebook_collapse": Limit("perplexity", means, low=1.01)}
    means = "the posterior has collapsed, no number of the latent depends on the image"
    return {"posterior_collapse": Limit("active_units", means, low=1)}


def bounds(
    config: ConfigDict, params: Any, batch: dict, key: Array, shared: Any
) -> dict[str, Array]:
    """Upper bounds of -log p of each image, nats [B]; the tighter one has several samples."""
    del shared
    if symbols(config):
        coded, judged = coding.once(config, params, batch, key)
        return {"elbo": judged["reconstruction"] + coded.nats_B}
    samples = config.evaluation.importance_samples
    weights_KxB, _, _ = coding.weighed(config, params, batch, key, samples)
    return {"elbo": -weights_KxB.mean(0), "iwae": -coding.averaged(weights_KxB)}


def bound_kinds(config: ConfigDict) -> dict[str, str]:
    """The kinds of `bounds`."""
    return dict.fromkeys(["elbo"] if symbols(config) else ["elbo", "iwae"], "upper bound")


def _deviation(statistics: dict[str, Array]) -> Array:
    variance = (statistics["square"] - jnp.square(statistics["mean"])).mean()
    return jnp.sqrt(jnp.maximum(variance, 1e-12))


def encode(
    config: ConfigDict,
    params: Any,
    image: Array,
    key: Array | None = None,
    label_B: Array | None = None,
) -> Array:
    """The latent of images, float32 [B, h, w, C], of mean 0 a channel and deviation 1.

    It is the posterior's mean, or with `key` a sample of it; where there are codes, what is snapped
    to them.
    """
    h_BxHxWxI = coding.encoded(config, params, image, label_B)
    with jax.named_scope("bottleneck"):
        of = params.get("bottleneck")
        latent = bottleneck(config).read(config.model, of, h_BxHxWxI, key)
    return (latent - params["statistics"]["mean"]) / _deviation(params["statistics"])


def decode(
    config: ConfigDict, params: Any, latent_BxHxWxC: Array, label_B: Array | None = None
) -> Array:
    """The most likely image of a latent as `encode` gives it, [B, H, W, C], uint8 or float32."""
    return _shown(config, params, _read(config, params, latent_BxHxWxC), label_B)


def _read(config: ConfigDict, params: Any, latent_BxHxWxC: Array) -> Array:
    """What the decoder reads of a latent as `encode` gives it."""
    statistics = params["statistics"]
    latent = latent_BxHxWxC * _deviation(statistics) + statistics["mean"]
    with jax.named_scope("bottleneck"):
        return bottleneck(config).snapped(config.model, params.get("bottleneck"), latent)


def codes(config: ConfigDict, params: Any, image: Array, label_B: Array | None = None) -> Array:
    """The number of each place's code, int32 [B, h, w], of a bottleneck that has codes."""
    h_BxHxWxI = coding.encoded(config, params, image, label_B)
    of, model, own = bottleneck(config), config.model, params.get("bottleneck")
    with jax.named_scope("bottleneck"):
        return of.codes(model, own, of.read(model, own, h_BxHxWxI, None))


def decode_codes(
    config: ConfigDict, params: Any, code_BxHxW: Array, label_B: Array | None = None
) -> Array:
    """The most likely image of each array of codes, as `decode` gives it."""
    read = bottleneck(config).looked_up(config.model, params.get("bottleneck"), code_BxHxW)
    return _shown(config, params, read, label_B)


def _shown(
    config: ConfigDict,
    params: Any,
    read: Array,
    label_B: Array | None = None,
    key: Array | None = None,
) -> Array:
    """The most likely image of what the decoder reads, or with `key` a sample of the likelihood."""
    model, of = config.model, coding.likelihood(config)
    said = coding.decoded(config, params, read, label_B)
    if key is None:
        image = of.location(model, said)
    else:
        image = of.drawn(model, params.get("likelihood"), said, key)
    return levels.nearest(image, model.levels) if model.discrete else image


def latent_nats(
    config: ConfigDict, params: Any, image: Array, key: Array, label_B: Array | None = None
) -> tuple[Array, Array]:
    """A sample of each latent as `encode` gives it, and E[log q(latent | x) - log p(x | latent)].

    With -log p(latent) of any model of such latents, or a bound of it, that is a bound of
    -log p(x), in nats of an image [B]. Where there are codes their numbers take its place.
    """
    batch = {"image": image, "label": label_B}
    coded, judged = coding.once(config, params, batch, key)
    if coded.code_BxHxW is not None:
        return coded.code_BxHxW, judged["reconstruction"]
    scale, mean = _deviation(params["statistics"]), params["statistics"]["mean"]
    density_B = coded.density_B + coded.latent_BxHxWxC[0].size * jnp.log(scale)
    return (coded.latent_BxHxWxC - mean) / scale, judged["reconstruction"] + density_B


def _latent(config: Any, params: Any, key: Array, num: int, label_B: Any, asked: dict) -> Array:
    """Latents as `encode` gives them, of the images or the path that are asked for."""
    if "plus_BxHxWxC" in asked:
        of = (asked[f"{name}_BxHxWxC"] for name in ("image", "minus", "plus"))
        init, minus, plus = (encode(config, params, each, None, label_B) for each in of)
        return init - minus + plus
    if "image_BxHxWxC" in asked:
        new = jnp.square(asked["strength"])
        kept = encode(config, params, asked["image_BxHxWxC"], None, label_B)
        noise = jax.random.normal(key, kept.shape)
        return jnp.sqrt(1 - new) * kept + jnp.sqrt(new) * noise
    of, (height, across, _) = bottleneck(config), latent_shape(config)
    ends = of.drawn(config.model, params.get("bottleneck"), key, (2, height, across))
    turn_N = jnp.linspace(0, jnp.pi / 2, num)[:, None, None, None]
    raw = jnp.cos(turn_N) * ends[:1] + jnp.sin(turn_N) * ends[1:]
    return (raw - params["statistics"]["mean"]) / _deviation(params["statistics"])


@functools.partial(jax.jit, static_argnums=(0, 3))
def _draw(
    config: Any, params: Any, key: Array, num: int, label_B: Array | None, asked: dict
) -> Array:
    of, model, (height, across, _) = bottleneck(config), config.model, latent_shape(config)
    own, places = params.get("bottleneck"), (num, height, across)
    pixels = jax.random.fold_in(key, 1) if config.sampling.pixels == "drawn" else None
    if model.num_classes and label_B is None:
        label_B = jax.random.randint(jax.random.fold_in(key, 2), (num,), 0, model.num_classes)
    if asked:
        read = _read(config, params, _latent(config, params, key, num, label_B, asked))
    elif symbols(config):
        code_BxHxW = jax.random.randint(key, places, 0, symbols(config))
        read = of.looked_up(model, own, code_BxHxW)
    else:
        read = of.drawn(model, own, key, places)
    return _shown(config, params, read, label_B, pixels)


def sample(
    config: ConfigDict,
    params: Any,
    key: Array,
    num: int,
    label: np.ndarray | None = None,
    path: bool = False,
    **asked: Any,
) -> np.ndarray:
    """Images of latents from the prior, [num, H, W, C], uint8 if the data are, else float32.

    Args:
        label: the class of each, [num]; where there are classes and none is given, any of them.
        path: whether they lie on a quarter of a circle between two latents of the prior; each of a
            normal prior is then a draw of it, too.
        asked: `image_BxHxWxC`, whose latents are drawn anew by a share of `strength` of their
            deviation; or these less those of `minus_BxHxWxC`, and those of `plus_BxHxWxC` added.

    Raises:
        UserError: for a path between codes.
    """
    if path and symbols(config):
        raise UserError(
            f"--interpolate: config.model.bottleneck={config.model.bottleneck!r} draws codes, "
            "between which there is no path; 'kl' and 'ladder' have one"
        )
    used = frozen(config, "model", "hardware", "sampling")
    asked = asked | ({"path": path} if path else {})
    return np.asarray(_draw(used, params, key, num, label, asked))
