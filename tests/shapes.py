"""Small complete configs, one a family, for tests that need a network and no study.

`init` and `apply` are those of `common`, compiled: op by op they take many times as long.
"""

import jax
from ml_collections import ConfigDict

from research import defaults, recipes
from research.models import common

# Of a decoder, where its parts have these keys.
PLAIN = dict(qk_norm=False, smear=False, zero_outputs=False, positions="rotary", num_heads=2)


def autoregressive(vocab: int = 16, length: int = 8, **model) -> ConfigDict:
    """A two-layer decoder, 16 wide, on a small Markov chain; 8 sequences a batch."""
    config = defaults.config("autoregressive", "markov", optimizer="adamw", **_parts(model))
    config.recipe = "fixed"
    plain = {key: PLAIN[key] for key in PLAIN if key in config.model}
    shape = plain | dict(depth=2, width=16, vocab_size=vocab)
    config.model.update({key: shape[key] for key in shape if key in config.model} | model)
    config.data.update(
        length=length, vocab_size=vocab, order=1, tokens=4_000, validation_tokens=2_000
    )
    return _trained(config)


def diffusion(**model) -> ConfigDict:
    """A two-layer DiT, 16 wide, on a Gaussian mixture of 16x16 floats."""
    config = defaults.config("diffusion", "gaussian_mixture", optimizer="adamw", **_parts(model))
    config.recipe = "fixed"
    config.data.update(resolution=8, images=200, validation_images=64)
    shape = dict(depth=2, width=16, num_heads=2, image_shape=(8, 8, 1), discrete=False)
    shape |= dict(positions="none", activation="relu2")
    kept = {key: value for key, value in shape.items() if key in config.model}
    config.model.update(kept | model)
    return _trained(config)


def discrete_diffusion(vocab: int = 16, length: int = 8, **model) -> ConfigDict:
    """The same decoder, made to see all of a window, on the same chain."""
    config = defaults.config("discrete_diffusion", "markov", optimizer="adamw", **_parts(model))
    config.recipe = "fixed"
    shape = PLAIN | dict(depth=2, width=16, vocab_size=vocab)
    config.model.update({key: shape[key] for key in shape if key in config.model} | model)
    config.data.update(
        length=length, vocab_size=vocab, order=1, tokens=4_000, validation_tokens=2_000
    )
    return _trained(config)


def autoencoder(**model) -> ConfigDict:
    """Convolutions 8 wide to a latent of half the sides, on a Gaussian mixture of 8x8 floats."""
    config = defaults.config("autoencoder", "gaussian_mixture", optimizer="adamw", **_parts(model))
    config.recipe = "fixed"
    config.data.update(resolution=8, images=200, validation_images=64)
    config.model.update(dict(depth=1, width=8, image_shape=(8, 8, 1), discrete=False) | model)
    return _trained(config)


def flow(**model) -> ConfigDict:
    """Layers whose networks are 8 wide, on a Gaussian mixture of 8x8 floats."""
    config = defaults.config("flow", "gaussian_mixture", optimizer="adamw", **_parts(model))
    config.recipe = "fixed"
    config.data.update(resolution=8, images=200, validation_images=64)
    shape = dict(depth=1, width=8, num_heads=2, flow_layers=4, image_shape=(8, 8, 1))
    shape |= dict(discrete=False)
    config.model.update({key: shape[key] for key in shape if key in config.model} | model)
    return _trained(config)


def classic(kind: str, **model) -> ConfigDict:
    """A classic of a few components or states, on the same chain, on floats or on glyphs of 8x8."""
    source = CLASSIC_SOURCES.get(kind, "markov")
    config = defaults.config("classic", source, kind=kind)
    config.recipe = "fixed"
    if source == "markov":
        config.data.update(length=8, vocab_size=16, order=1, tokens=4_000, validation_tokens=2_000)
    elif source == "glyphs":
        config.data.update(resolution=8, fonts=("DejaVuSansDisplay", "STIXGeneralItalic"))
    else:
        config.data.update(resolution=8, images=200, validation_images=64)
    if source != "markov":
        config.model.update(image_shape=(8, 8, 1), discrete=source == "glyphs")
    if kind != "ngram":
        config.model.width = 3
    config.model.update(model)
    return _trained(config)


CLASSIC_SOURCES = {
    "mixture": "gaussian_mixture",
    "ppca": "gaussian_mixture",
    "naive_bayes": "glyphs",
}


def energy(**model) -> ConfigDict:
    """A perceptron on a Gaussian mixture of 8x8 floats, with chains that go on."""
    parts = ("energy", "chain", "objective", "network")
    named = {name: model.pop(name) for name in parts if name in model}
    config = defaults.config("energy", "gaussian_mixture", **named)
    config.recipe = "fixed"
    config.data.update(resolution=8, images=200, validation_images=64)
    shape = dict(depth=1, width=8, image_shape=(8, 8, 1), discrete=False)
    shape |= dict(memory_rows=16, chain_steps=2)
    config.model.update({key: shape[key] for key in shape if key in config.model} | model)
    config.evaluation.score_moves, config.sampling.moves = 2, 2
    return _trained(config)


def gan(**model) -> ConfigDict:
    """Perceptrons on a Gaussian mixture of 8x8 floats."""
    named = {name: model.pop(name) for name in ("objective", "network") if name in model}
    config = defaults.config("gan", "gaussian_mixture", **named)
    config.recipe = "fixed"
    config.data.update(resolution=8, images=200, validation_images=64)
    shape = dict(depth=1, width=8, image_shape=(8, 8, 1), discrete=False, latent_channels=4)
    config.model.update({key: shape[key] for key in shape if key in config.model} | model)
    return _trained(config)


def _parts(model: dict) -> dict[str, str]:
    named = (
        "network", "objective", "mixer", "channel", "attention", "positions", "router", "pattern",
        "corruption",
        "bottleneck", "likelihood", "flow", "dequantisation",
    )  # fmt: skip
    return {key: model[key] for key in named if key in model}


def _trained(config: ConfigDict) -> ConfigDict:
    config.train.update(steps=10, batch_size=8, learning_rate=1e-2, warmup_steps=2, clip_norm=1.0)
    config.evaluation.update(batch_size=8, examples=32)
    config.log_steps = 1
    return recipes.apply(config)


def init(module, key, *inputs):
    """Fresh parameters of a module."""
    return jax.jit(lambda *inputs: common.init(module, key, *inputs))(*inputs)


def apply(module, params, *inputs):
    """What a module makes of its inputs."""
    return jax.jit(lambda params, *inputs: common.apply(module, params, *inputs))(params, *inputs)
