"""Discrete diffusion over tokens: a network that undoes noise of symbols, scored by its bound.

Tokens are those of a text, or the levels of an image's dimensions in raster order. What becomes of
a token is a part, `corruption`; the shares of noise are in `noise_levels`, blocks that come one
after another in `block_order`, how texts are drawn in `unmasking` and `jumping`.

There is one estimator of the bound, with evenly spread times and twice over, so that it says how
noisy it is: weights of 1 / t have a long tail, and with few independent times, or times that leave
out its end, one network can be made to score twice as many bits or half of them.
"""

import functools
import sys
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from research import data
from research.config import frozen
from research.families import autoregressive
from research.families.discrete_diffusion import (
    block_order,
    checks,
    jumping,
    noise_levels,
    unmasking,
)
from research.families.discrete_diffusion.unmasking import UNKNOWN
from research.models import common, pixels
from research.parts import part

# A corruption is a part (`research.parts`) with
#   noisy(config, key, tokens_BxL, symbols, level) -> what becomes of the tokens, [B, L]
#   costs(config, head, params, x_BxLxD, tokens_BxL, read_BxL, symbols, level) -> nats of the bound
#       of each token, [B, L], and its cross-entropy
#   HIDES, TIMED, BLOCKS: whether tokens may be hidden, the network is told of the time, and blocks
#       may have times of their own; SAMPLERS, by which its texts are drawn
CORRUPTIONS = {
    "absorbing": "research.families.discrete_diffusion.absorbing",
    "uniform": "research.families.discrete_diffusion.uniform_noise",
}
# A network is a part with positions(config), nats and logits as one of `autoregressive` has them,
# and build(model, hardware, hides) -> module of (tokens_BxL, where, share_B) -> (x_BxLxD, measures,
# None).
NETWORKS = {"denoiser": "research.models.denoiser"}
PARTS = {"network": NETWORKS, "corruption": CORRUPTIONS}


def default_model() -> ConfigDict:
    """Keys of `config.model` beside the network's."""
    return ConfigDict(
        dict(
            network="denoiser",
            corruption="absorbing",
            vocab_size=placeholder(int),  # None: the data's; of images, their levels
            image_shape=(),  # (height, width, channels); none where the data are tokens
            levels=256,  # of such images
            num_classes=0,  # of images, which the network is given; 0: none
            class_dropout=0.0,  # share of labels hidden in training, for guidance
            block_size=0,  # tokens that come to be together; 0: all
            schedule="linear",  # of noise over time, in training and in drawing
            schedule_power=2.0,  # of "polynomial"
            # What is learned: 1 and 0 is the bound; 0 and 1 weighs hidden tokens alike (Chang
            # 2022, MaskGIT); 1 and 0.01 is the hybrid of D3PM (Austin 2021, equation 5).
            bound_weight=1.0,
            cross_entropy_weight=0.0,
        )
    )


def default_train() -> dict[str, Any]:
    """The optimizer that its recipe is tuned for."""
    return dict(optimizer="muon", clip_norm=0.0)


def default_sampling() -> ConfigDict:
    """Keys of `config.sampling` this family reads."""
    return ConfigDict(
        dict(
            sampler="ancestral",
            steps=0,  # calls of the network; 0: one for each token
            temperature=1.0,
            guidance=1.0,  # times the difference that a class makes; 1: as it is
            choice_noise=0.0,  # of "confidence" and "margin": Gumbel noise, falling to 0
            entropy_bound=0.1,  # nats, of "entropy"
            remask_share=0.1,  # of what may be hidden again, of "remask"
        )
    )


def default_evaluation() -> ConfigDict:
    """The keys of `config.evaluation` this family reads; time_steps 0 is continuous time."""
    return ConfigDict(dict(time_samples=4, time_steps=0))


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError, naming the key, for what cannot be built or does not fit the `spec`."""
    checks.check(config, spec, corruption(config))


def corruption(config: Any) -> ModuleType:
    """What becomes of tokens."""
    return part(sys.modules[__name__], "corruption", config.model)


def head(config: Any) -> ModuleType:
    """The network's module, whose functions read what the network returns."""
    return part(sys.modules[__name__], "network", config.model)


def positions(config: Any) -> int:
    """Positions that the network processes for one example."""
    return head(config).positions(config)


def symbols(config: Any) -> int:
    """How many symbols the data have."""
    found = None if config.model.image_shape else data.vocab_size(config.data)
    return found or config.model.vocab_size


def network(config: Any) -> Any:
    """The Flax module that `config.model` names."""
    hides = corruption(config).HIDES
    model, hardware = FrozenConfigDict(config.model), FrozenConfigDict(config.hardware)
    return head(config).build(model, hardware, hides)


def _inputs(config: Any) -> tuple[Any, ...]:
    """What the network is given, of the right shapes to start it."""
    tokens_BxL = jnp.zeros((1, pixels.length(config)), jnp.int32)
    tokens_BxS, where, _ = block_order.read(config.model, tokens_BxL[:, 0], tokens_BxL, tokens_BxL)
    return tokens_BxS, where, jnp.zeros(1) if corruption(config).TIMED else None


def init(config: Any, key: jax.Array) -> common.Params:
    """Parameters of the network, whose predictions are uniform at first."""
    return common.init(network(config), key, *_inputs(config))


def axes(config: Any) -> common.Params:
    """Logical axes of every parameter."""
    return common.logical_axes(network(config), *_inputs(config))


def denoised(
    config: Any,
    params: common.Params,
    first_B: jax.Array,
    read_BxL: jax.Array,
    text_BxL: jax.Array | None,
    share_B: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What the head reads of each token, [B, L, D], and what is measured; see `block_order.read`.

    Args:
        share_B: of noise, of which the network is told where it is `TIMED`.
    """
    tokens_BxS, where, at = block_order.read(config.model, first_B, read_BxL, text_BxL)
    told = share_B if corruption(config).TIMED else None
    x_BxSxD, measures, _ = common.apply(network(config), params, tokens_BxS, where, told)
    return x_BxSxD[:, at], measures


def window(config: Any, batch: dict) -> tuple[jax.Array, jax.Array]:
    """What stands first in each example, [B], and its tokens, [B, L]."""
    tokens = pixels.tokens(config.model, batch) if config.model.image_shape else batch["tokens"]
    return tokens[:, 0], tokens[:, 1:]


def _costs(
    config: Any,
    params: common.Params,
    given: tuple[jax.Array, jax.Array],
    key: jax.Array,
    level: noise_levels.Level,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Nats of the bound and of the cross-entropy, [B, L], at one time of each block."""
    (first_B, tokens_BxL), of, count = given, corruption(config), symbols(config)
    read_BxL = of.noisy(config, key, tokens_BxL, count, level)
    x_BxLxD, measures = denoised(config, params, first_B, read_BxL, tokens_BxL, level.share[:, 0])
    found = of.costs(config, head(config), params, x_BxLxD, tokens_BxL, read_BxL, count, level)
    return *found, measures


def loss(config: Any, params: common.Params, batch: dict, key: jax.Array, step: jax.Array):
    """Mean nats a token by the two weights of `config.model`, and the penalty that parts ask for.

    It measures the "bound" in bits a token or dimension, of text also the "bits_per_byte". With
    batch["weights"] [B, L] all are means of weight times nats.
    """
    del step
    model, (first_B, tokens_BxL) = config.model, window(config, batch)
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    if model.class_dropout:
        hidden_B = jax.random.bernoulli(drop_key, model.class_dropout, first_B.shape)
        first_B = jnp.where(hidden_B, model.num_classes, first_B)
    blocks = block_order.count(model, tokens_BxL.shape[1])
    times_BxK = noise_levels.stratified(time_key, (blocks, len(first_B))).T
    level = noise_levels.level(model, times_BxK)
    bound_BxL, entropy_BxL, measures = _costs(
        config, params, (first_B, tokens_BxL), noise_key, level
    )
    weights_BxL = batch.get("weights", jnp.ones_like(bound_BxL))
    bound = (bound_BxL * weights_BxL).mean()
    entropy = (entropy_BxL * weights_BxL).mean()
    measures |= {"bound": bound / np.log(2), "cross_entropy": entropy / np.log(2)}
    if data.spells_bytes(config.data):
        spelled = (_spelled(config, batch) * weights_BxL).mean()
        measures["bits_per_byte"] = measures["bound"] / spelled
    total = model.bound_weight * bound + model.cross_entropy_weight * entropy
    return total + measures.pop("penalty", 0.0), measures


def score(config: Any, params: common.Params, batch: dict, key: jax.Array) -> dict[str, Any]:
    """The bound of rows not masked: summed bits, their variance, and of how many bytes or tokens.

    Each block is seen at `evaluation.time_samples` times, evenly spread over shares of noise: the
    continuous bound has no schedule in it. `evaluation.time_steps` > 0 gives the bound of a process
    with that many steps of the schedule. Half of the times have one random offset, half another:
    what the two differ by is how noisy their mean is.
    """
    given, settings = window(config, batch), config.evaluation
    batch_size, length = given[1].shape
    blocks, samples = block_order.count(config.model, length), settings.time_samples
    weights_BxL = jnp.broadcast_to(batch["mask"][:, None], given[1].shape)
    weights_BxL = weights_BxL * batch.get("weights", 1.0)

    def seen(each: tuple[jax.Array, jax.Array]) -> jax.Array:
        times_BxK, key = each
        level = _scored_level(config, times_BxK)
        bound_BxL, *_ = _costs(config, params, given, key, level)
        return (bound_BxL * weights_BxL).sum() / np.log(2)

    offset_key, noise_key = jax.random.split(key)
    shape = (samples // 2, blocks, batch_size)
    times = [noise_levels.stratified(each, shape) for each in jax.random.split(offset_key)]
    times_SxBxK = jnp.concatenate(times).swapaxes(1, 2)
    bits_S = jax.lax.map(seen, (times_SxBxK, jax.random.split(noise_key, samples)))
    first, second = bits_S.reshape(2, -1).mean(1)
    count = (weights_BxL * _spelled(config, batch)).sum()
    variance = jnp.square(first - second) / 4
    return {"bound": {"total": (first + second) / 2, "variance": variance, "count": count}}


def _scored_level(config: Any, times_BxK: jax.Array) -> noise_levels.Level:
    """In continuous time along a straight line, or at the steps of the model's schedule."""
    if steps := config.evaluation.time_steps:
        return noise_levels.level_in_steps(config.model, times_BxK, steps)
    return noise_levels.Level(times_BxK, jnp.ones_like(times_BxK))


def _spelled(config: Any, batch: dict) -> Any:
    """How many bytes each token spells, [B, L], or all alike; 1 where they are no text."""
    return batch["bytes"] if "bytes" in batch else data.bytes_per_token(config.data) or 1


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """What `score` measures, in the unit that an autoregressive network has on these data."""
    unit = autoregressive.unit(config)
    return {"bound": {"unit": unit, "kind": "upper bound", "better": "lower"}}


def activations(config: Any, params: common.Params, batch: dict, key: jax.Array) -> dict:
    """The stream after the last block, [B, S, D], and the logits, [B, L, V], of half noise."""
    (first_B, tokens_BxL), of = window(config, batch), corruption(config)
    half_BxK = jnp.full((len(first_B), block_order.count(config.model, tokens_BxL.shape[1])), 0.5)
    level = noise_levels.Level(half_BxK, jnp.ones_like(half_BxK))
    read_BxL = of.noisy(config, key, tokens_BxL, symbols(config), level)
    tokens_BxS, where, at = block_order.read(config.model, first_B, read_BxL, tokens_BxL)
    told = half_BxK[:, 0] if of.TIMED else None
    found, (x_BxSxD, *_) = common.stream(network(config), params, tokens_BxS, where, told)
    return {"stream": found, "output": head(config).logits(config, params, x_BxSxD[:, at])}


def sample(
    config: Any,
    params: common.Params,
    key: jax.Array,
    num: int,
    label: jax.Array | None = None,
    beginning: np.ndarray | None = None,
) -> np.ndarray:
    """Draw `num` texts of config.data.length tokens, or images, uint8 [num, H, W, C].

    A text's first token is the separator 0 that opens every document, or all of `beginning`
    [num, G], drawn uniformly where the data have such. Images are of the class `label` [num], or of
    one that is drawn uniformly.
    """
    length, shape = pixels.length(config), config.model.image_shape
    label_key, text_key, key = jax.random.split(key, 3)
    if shape:
        first = pixels.classes(config.model, label_key, num) if label is None else label
        given = np.zeros((num, 0), int)
    else:
        if beginning is None and (every := data.beginnings(config.data)) is not None:
            beginning = every[np.asarray(jax.random.randint(text_key, (num,), 0, len(every)))]
        opening = np.zeros((num, 1), int) if beginning is None else beginning
        first, given = opening[:, 0], opening[:, 1:]
    tokens_BxL = np.full((num, length), UNKNOWN)
    tokens_BxL[:, : given.shape[1]] = given
    tokens_BxL = fill(config, params, key, np.asarray(first), tokens_BxL)
    if shape:
        return pixels.images(config.model, tokens_BxL)
    return np.concatenate([np.asarray(first)[:, None], tokens_BxL], 1)[:, :length].astype(np.int32)


def fill(
    config: Any, params: common.Params, key: jax.Array, first_B: np.ndarray, tokens_BxL: np.ndarray
) -> np.ndarray:
    """The tokens, int [B, L], with others in the place of those that are UNKNOWN: infilling.

    Args:
        first_B: what stands before all of them: a token, or the class of an image.
    """
    used = frozen(config, "model", "hardware", "sampling")
    found = _filled(used, symbols(config), params, key, first_B, tokens_BxL)
    return np.asarray(found)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _filled(
    config: Any, count: int, params: common.Params, key: Any, first_B: Any, tokens_BxL: Any
) -> jax.Array:
    settings, length = config.sampling, tokens_BxL.shape[1]

    def log_p(first_B: jax.Array, read_BxL: jax.Array, share: jax.Array) -> jax.Array:
        share_B = jnp.full(len(read_BxL), share)
        read_BxL = jnp.where(read_BxL == UNKNOWN, config.model.vocab_size, read_BxL)
        x_BxLxD, _ = denoised(config, params, first_B, read_BxL, None, share_B)
        return jax.nn.log_softmax(head(config).logits(config, params, x_BxLxD)[..., :count])

    def predict(read_BxL: jax.Array, share: jax.Array) -> jax.Array:
        found = log_p(first_B, read_BxL, share)
        if settings.guidance != 1:
            plain = log_p(jnp.full_like(first_B, config.model.num_classes), read_BxL, share)
            found = plain + settings.guidance * (found - plain)
        return jax.nn.log_softmax(found)

    blocks = block_order.count(config.model, length)
    steps = (settings.steps or length) // blocks
    ends = noise_levels.share(
        config.model.schedule, config.model.schedule_power, jnp.linspace(1.0, 0.0, steps + 1)
    )
    draw = unmasking.draw if corruption(config).HIDES else jumping.draw
    return draw(settings, predict, tokens_BxL, key, blocks, ends)
