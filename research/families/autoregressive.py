"""Autoregressive networks over tokens: exact likelihood, one symbol after another.

Symbols are those of a text, levels of a sound, or levels of the dimensions of an image in raster
order (`research.models.pixels`).
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

from research import mesh
from research.data import beginnings, bytes_per_token, spells_bytes, vocab_size
from research.errors import UserError
from research.families.objectives import OBJECTIVES, Task
from research.models import common, pixels
from research.models.attention import IN_ORDER, Where
from research.parts import part
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine, Network
from research.sampling.generate import generate

# A network is a part (`research.parts`) with
#   build(model, hardware) -> module of (tokens_BxL, where, cache) -> (x_BxLxD, measures, cache)
#   nats(config, params, x_BxLxD, targets_BxL) and logits(config, params, x_BxLxD), its head
#   positions(config), and empty_cache(model, hardware, batch, length) if it has a cache
NETWORKS = {
    "decoder": "research.models.decoder",
    "pixelcnn": "research.models.pixelcnn",
    "gated_pixelcnn": "research.models.gated_pixelcnn",
    "pixelrnn": "research.models.pixelrnn",
    "wavenet": "research.models.wavenet",
    "patches": "research.models.patches",
    "encoder_decoder": "research.models.encoder_decoder",
}
PARTS = {"network": NETWORKS, "objective": OBJECTIVES}


def default_model() -> ConfigDict:
    """Keys of `config.model` beside the network's."""
    return ConfigDict(
        dict(
            network="decoder",
            objective="next_token",
            documents_apart=False,  # texts of one window do not see each other
            vocab_size=placeholder(int),  # None: the data's; of images, their levels
            image_shape=(),  # (height, width, channels); none where the data are tokens
            levels=256,  # of such images
            num_classes=0,  # of images, which the network is given; 0: none
        )
    )


def default_train() -> dict[str, Any]:
    """The optimizer that its recipe is tuned for."""
    return dict(optimizer="muon", clip_norm=0.0)


def default_sampling() -> ConfigDict:
    """Keys of `config.sampling` this family reads."""
    return ConfigDict(dict(temperature=1.0))


def check(config: ConfigDict, spec: dict) -> None:
    """Raise UserError for what the data's `spec` does not fit."""
    model = config.model
    if config.sampling.temperature < 0:
        raise UserError(
            f"config.sampling.temperature={config.sampling.temperature} must not be negative"
        )
    _check_objective(config)
    pixels.check_data(config, spec)
    extra, symbols = extra_tokens(config), spec.get("vocab_size", 0)
    if extra and model.vocab_size < symbols + extra:
        raise UserError(
            f"config.model.vocab_size={model.vocab_size} is too small for the {symbols} symbols of "
            f"{config.data.name} and the {extra} of config.model.objective={model.objective!r}"
        )


def _check_objective(config: ConfigDict) -> None:
    """Raise UserError for a network that cannot do what the objective asks."""
    model, of = config.model, objective(config)
    key = f"config.model.objective={model.objective!r}"
    causal = getattr(of, "CAUSAL", True)
    if model.objective != "next_token" and "causal" not in model:
        raise UserError(f"{key} needs a network of attention, not {model.network!r}")
    if model.get("causal", True) != causal:
        raise UserError(f"{key} needs config.model.causal={causal}")
    if not (causal and hasattr(head(config), "empty_cache")) and model.objective != "next_token":
        if config.sampling.get("num", 0):
            raise UserError(
                f"{key} with config.model.network={model.network!r} draws no text from its "
                "beginning: set config.sampling.num=0"
            )
    if model.get("ahead", 0) and model.objective != "next_token":
        raise UserError(f"{key} predicts no further ahead: config.model.ahead must be 0")


def objective(config: ConfigDict) -> ModuleType:
    """What is read and predicted of a window."""
    return part(sys.modules[__name__], "objective", config.model)


def extra_tokens(config: ConfigDict) -> int:
    """Tokens of the objective's own, whose numbers come after the data's."""
    return getattr(objective(config), "EXTRA", 0)


def whole(config: ConfigDict) -> bool:
    """Whether the tokens of a prompt see one another, so that it has to be read at once."""
    return getattr(objective(config), "WHOLE", False)


def head(config: ConfigDict) -> ModuleType:
    """The network's module, whose functions read what the network returns."""
    return part(sys.modules[__name__], "network", config.model)


def positions(config: ConfigDict) -> int:
    """Positions that the network processes for one example."""
    return head(config).positions(config)


def network(config: ConfigDict) -> Any:
    """The Flax module that `config.model` names."""
    return _network(head(config), FrozenConfigDict(config.model), FrozenConfigDict(config.hardware))


@functools.lru_cache
def _network(of: ModuleType, model: FrozenConfigDict, hardware: FrozenConfigDict) -> Any:
    return of.build(model, hardware)


def _example(config: ConfigDict) -> jax.Array:
    return jnp.zeros((1, pixels.length(config)), jnp.int32)


def init(config: ConfigDict, key: jax.Array) -> common.Params:
    """Parameters of the decoder."""
    return common.init(network(config), key, _example(config))


def axes(config: ConfigDict) -> common.Params:
    """Logical axes of every parameter."""
    return common.logical_axes(network(config), _example(config))


def cross_entropy(
    config: ConfigDict, params: common.Params, tokens: jax.Array, where: Where = IN_ORDER
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Nats of each of tokens[:, 1:] given the ones before it, [B, L], and what is measured."""
    found = _nats(config, params, Task(tokens[:, :-1], tokens[:, 1:], where))
    return found[0], found[1]


def _nats(
    config: ConfigDict, params: common.Params, task: Task
) -> tuple[jax.Array, dict[str, Any], list[jax.Array]]:
    """Nats of each target, [B, L], what is measured, and those of targets further ahead."""
    x_BxLxD, measures, _ = common.apply(network(config), params, task.read_BxL, task.where)
    ahead, nats = measures.pop("ahead", []), head(config).nats
    further = [
        nats(config, params, x, jnp.roll(task.targets_BxL, -steps, 1))
        for steps, x in enumerate(ahead, start=1)
    ]
    return nats(config, params, x_BxLxD, task.targets_BxL), measures, further


def tokens_of(config: ConfigDict, batch: dict) -> jax.Array:
    """Tokens [B, L + 1] of a batch, whose first is only read."""
    return pixels.tokens(config.model, batch) if config.model.image_shape else batch["tokens"]


def places(config: ConfigDict, batch: dict) -> Where:
    """Positions and segments of the tokens that are read, where texts are to be apart.

    A text begins with the separator 0 that ends the one before.
    """
    if not config.model.documents_apart or "segments" in batch:
        return Where(batch.get("positions"), batch.get("segments"))
    begins_BxL = batch["tokens"][:, :-1] == 0
    index = jnp.arange(begins_BxL.shape[1])
    first_BxL = jax.lax.cummax(jnp.where(begins_BxL, index, 0), axis=1)
    return Where(index - first_BxL, jnp.cumsum(begins_BxL, 1))


def _window(config: ConfigDict, batch: dict) -> tuple[jax.Array, Where, int]:
    """What an objective is told: tokens, where they stand, and how many the data have."""
    return tokens_of(config, batch), places(config, batch), vocab_size(config.data) or 0


def loss(config: ConfigDict, params: common.Params, batch: dict, key: jax.Array, step: jax.Array):
    """Mean nats a token of the batch, and the penalty that parts ask for.

    With batch["weights"] [B, L] it is the mean of weight times nats, not divided by the batch's
    own weights, so that micro-batches add up to the batch. Of text it also measures the
    "bits_per_byte", by the bytes of the batch (of each micro-batch, then their mean).
    """
    del step
    task = objective(config).task(config, *_window(config, batch), key)
    nats_BxL, measures, further = _nats(config, params, task)
    weights = _weights(batch, task)
    nats_BxL = nats_BxL if weights is None else nats_BxL * weights
    if spells_bytes(config.data):
        bytes_BxL = _spelled(config, batch, task) * jnp.ones_like(nats_BxL)
        bytes_BxL = bytes_BxL if weights is None else bytes_BxL * weights
        measures["bits_per_byte"] = nats_BxL.sum() / bytes_BxL.sum() / jnp.log(2.0)
    total = nats_BxL.mean() + measures.pop("penalty", 0.0)
    for steps, nats in enumerate(further, start=1):
        nats *= _reached(task.where, nats.shape[1], steps)
        nats = nats if weights is None else nats * jnp.roll(weights, -steps, 1)
        measures[f"ahead_{steps}"] = nats.mean()
        total += config.model.ahead_weight / len(further) * nats.mean()
    return total, measures


def _reached(where: Where, length: int, steps: int) -> jax.Array:
    """Whether the target `steps` further ahead is in the window, and in the same text: [L] or
    [B, L].
    """
    inside = jnp.arange(length) < length - steps
    if where.segments is None:
        return inside
    return inside & (where.segments == jnp.roll(where.segments, -steps, 1))


def score(config: ConfigDict, params: common.Params, batch: dict, key: jax.Array) -> dict:
    """Bits of the batch, and of how many bytes or tokens; batch["weights"] weigh both."""
    del key
    tasks = objective(config).scored(config, *_window(config, batch))
    return {name: _scored(config, params, batch, task) for name, task in tasks.items()}


def _scored(config: ConfigDict, params: common.Params, batch: dict, task: Task) -> dict[str, Any]:
    nats_BxL, _, _ = _nats(config, params, task)
    mask_BxL = jnp.broadcast_to(batch["mask"][:, None], nats_BxL.shape)
    weights = _weights(batch, task)
    mask_BxL = mask_BxL if weights is None else mask_BxL * weights
    count = (mask_BxL * _spelled(config, batch, task)).sum()
    return {"total": (nats_BxL * mask_BxL).sum() / jnp.log(2.0), "count": count}


def _weights(batch: dict, task: Task) -> jax.Array | None:
    """What the predictions weigh by the data and by the task, [B, L]; None where all weigh 1."""
    own = task.weights_BxL
    if "weights" not in batch:
        return own
    of_data = _of_targets(batch["weights"], task, 1.0)
    return of_data if own is None else own * of_data


def _spelled(config: ConfigDict, batch: dict, task: Task) -> Any:
    """How many bytes each target spells: [B, L], or for all; 1 where they are no text."""
    each = bytes_per_token(config.data) or 1
    if "bytes" in batch:
        return _of_targets(batch["bytes"], task, 0)
    return each if task.origin_BxL is None else each * (task.origin_BxL > 0)


def _of_targets(column_BxL: jax.Array, task: Task, none: float) -> jax.Array:
    """What stands in a column of the window's predicted tokens for each target, else `none`."""
    if task.origin_BxL is None:
        return column_BxL
    found = jnp.take_along_axis(column_BxL, jnp.maximum(task.origin_BxL - 1, 0), 1)
    return jnp.where(task.origin_BxL > 0, found, none)


def score_kinds(config: ConfigDict) -> dict[str, dict[str, str]]:
    """Likelihood, in the `unit` of the data; as the objective says."""
    of, units = objective(config), getattr(objective(config), "UNITS", {})
    return {
        name: {
            "unit": f"{unit(config)} {units.get(name, '')}".rstrip(),
            "kind": kind,
            "better": "lower",
        }
        for name, kind in of.KINDS.items()
    }


def unit(config: ConfigDict) -> str:
    """Bits of what: of bytes where the source says how many a token spells, else of tokens.

    Those of an image at fewer levels than it has are of another image, as the unit says.
    """
    if config.model.image_shape:
        fewer = config.model.vocab_size < config.model.levels
        return f"bits/dim of {config.model.vocab_size} levels" if fewer else "bits/dim"
    if "rate" in config.data:
        return "bits/sample"
    return "bits/byte" if spells_bytes(config.data) else "bits/token"


def activations(config: ConfigDict, params: common.Params, batch: dict, key: jax.Array) -> dict:
    """The stream after the last block, [B, L, D], and the logits, [B, L, V], of a batch."""
    del key
    tasks = objective(config).scored(config, *_window(config, batch))
    task = next(iter(tasks.values()))
    x_BxLxD, (read_BxLxD, *_) = common.stream(network(config), params, task.read_BxL, task.where)
    return {"stream": x_BxLxD, "output": head(config).logits(config, params, read_BxLxD)}


def sample(
    config: ConfigDict,
    params: common.Params,
    key: jax.Array,
    num: int,
    label: jax.Array | None = None,
    beginning: np.ndarray | None = None,
) -> np.ndarray:
    """Draw `num` sequences of config.data.length tokens, at config.sampling.temperature.

    The first token is the separator 0 that opens every document, or all of `beginning` [num, G],
    drawn uniformly where the data have such. Of images it is their class, `label` [num] or drawn
    uniformly, and what is returned are the images, uint8 [num, H, W, C].
    """
    length, shape = pixels.length(config), config.model.image_shape
    if shape and label is None:
        key, label_key = jax.random.split(key)
        label = pixels.classes(config.model, label_key, num)
    first = np.zeros((num, 1), int) if label is None else np.asarray(label)[:, None]
    if beginning is None and (every := beginnings(config.data)) is not None:
        key, text_key = jax.random.split(key)
        beginning = every[np.asarray(jax.random.randint(text_key, (num,), 0, len(every)))]
    if beginning is not None:
        first = beginning
    engine = Engine(drawn_from(config, params, num), num, length + bool(shape))
    count, drawing = engine.length - first.shape[1], Drawing(config.sampling.temperature)
    rows = generate(engine, first.tolist(), count, drawing, seed=int(jax.random.bits(key)))
    tokens_BxL = np.array([row.tokens for row in rows], np.int32)
    if shape:
        return pixels.images(config.model, tokens_BxL)
    return np.concatenate([first.astype(np.int32), tokens_BxL], 1)


def follow(
    config: ConfigDict,
    params: common.Params,
    tokens_BxL: jax.Array,
    positions_BxL: jax.Array,
    cache: Any,
    every: bool = False,
    prompt: bool = False,
) -> tuple[jax.Array, Any]:
    """Logits of the token after the last of the next ones, [B, V], or after `every`; and the cache.

    Tokens of a `prompt` see one another where the objective has a prefix. A network without a
    cache of its own is run on all tokens so far, which are kept by position.
    """
    own = hasattr(head(config), "empty_cache")
    if own:
        where = Where(positions_BxL, open=positions_BxL >= 0 if prompt and whole(config) else None)
        x_BxLxD, _, cache = common.apply(network(config), params, tokens_BxL, where, cache)
    else:
        rows_Bx1 = jnp.arange(len(tokens_BxL))[:, None]
        at = jnp.where(positions_BxL < 0, cache.shape[1], positions_BxL)  # of padding: nowhere
        cache = cache.at[rows_Bx1, at].set(tokens_BxL, mode="drop")
        x_BxLxD, _, _ = common.apply(network(config), params, cache)
        x_BxLxD = x_BxLxD[rows_Bx1, positions_BxL]
    logits = head(config).logits(config, params, x_BxLxD if every else x_BxLxD[:, -1:])
    return (logits if every else logits[:, 0]), cache


def empty(config: ConfigDict, batch: int, length: int, dtype: Any = None, padding: int = 0) -> Any:
    """What `follow` keeps of `length` positions before the first; see `empty_cache`."""
    if not hasattr(head(config), "empty_cache"):
        return jnp.zeros((batch, pixels.length(config)), jnp.int32)
    return head(config).empty_cache(config.model, config.hardware, batch, length, dtype, padding)


def drawn_from(config: ConfigDict, params: common.Params, rows: int = 1) -> Network:
    """The network as an engine of `research.sampling` asks for it, laid out for so many `rows`."""
    devices = mesh.for_rows(config.hardware.mesh, rows)
    of, grid = head(config), mesh.make(config.hardware.mesh, devices)
    params = jax.device_put(params, mesh.shardings(grid, axes(config), params))
    # A guess is checked with the prompt's last token, which the others would have had to see.
    forgets = hasattr(of, "forgets") and of.forgets(config.model, config.hardware)
    forgets = forgets and not whole(config)
    return Network(
        config=config,
        grid=grid,
        params=of.apart(config.model, params) if hasattr(of, "apart") else params,
        follow=follow,
        empty=empty,
        rewound=of.rewound if forgets else None,
        vocab_size=config.model.vocab_size,
        readable=max(config.model.vocab_size, config.model.num_classes),
        symbols=vocab_size(config.data) or config.model.vocab_size,
        whole=whole(config),
    )
