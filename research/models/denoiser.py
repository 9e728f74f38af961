"""The decoder made to see all of a text at once: what discrete diffusion asks of each position.

Its parameters have the decoder's paths, so that a run may begin with those of an autoregressive
one. Beside them there are only the vector of a hidden token, and what tells it of time and class.
"""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from research import config as configs
from research.errors import UserError
from research.models import decoder, pixels, transformer
from research.models.attention import IN_ORDER, Where
from research.models.common import look_up, parameter
from research.models.condition_embedding import TimeEmbedding
from research.models.decoder import Decoder
from research.parts import Machine, check_choice, layers

PARTS = decoder.PARTS
nats, logits = decoder.nats, decoder.logits
# The decoder's keys that have no sense here: a hidden token has no value and is in no pair.
FIXED = dict(causal=False, value_embeddings=False, bigram_rows=0, ahead=0, ahead_weight=0.0)
ATTENTIONS = ("attention", "latent", "differential")  # mixers that ask who sees whom
TIMES = dict(gamma_min=0.0, gamma_max=1.0)  # the share of noise, as `TimeEmbedding` reads it
CONDITIONS = {  # where time and class go, by the decoder's own name for it
    "first": "first_BxD",  # added to the first position, which all others see
    "adaln": "condition_BxD",  # shifts, scales and gates every branch (Peebles & Xie 2023)
}


def default_model() -> dict[str, Any]:
    """The decoder's keys of `config.model`, and how the network is told of time and class."""
    own = {key: value for key, value in decoder.default_model().items() if key not in FIXED}
    return own | dict(
        condition="first",
        time_features=64,  # sinusoids of the share of noise, where the network is told of it
        shifted=False,  # a token is predicted where the one before it stands, as decoders do
    )


def check(config: ConfigDict) -> None:
    """Raise UserError for a stack or a head that cannot be built."""
    model = config.model
    transformer.check(config)
    check_choice("model.condition", model.condition, CONDITIONS)
    configs.check_ranges(model, "config.model", {"logit_softcap": decoder.RANGES["logit_softcap"]})
    if model.time_features < 2 or model.time_features % 2:
        nearest = max(2, model.time_features // 2 * 2)
        raise UserError(
            f"config.model.time_features={model.time_features} must be even and at least 2; "
            f"nearest valid: {nearest}"
        )
    if model.condition == "adaln" and model.zero_outputs:
        raise UserError(
            "config.model.zero_outputs=True: the gates of config.model.condition='adaln' start at "
            "zero already, and a branch of which both factors are zero never learns"
        )
    length, chunks = pixels.length(config), config.hardware.loss_chunks
    if length % chunks:
        valid = [each for each in range(1, length + 1) if length % each == 0]
        raise UserError(
            f"config.hardware.loss_chunks={chunks} does not divide the {length} tokens that are "
            f"predicted; nearest valid: {min(valid, key=lambda each: abs(each - chunks))}"
        )
    for layer in layers(model) if model.get("block_size") else ():
        if layer.mixer not in ATTENTIONS:
            raise UserError(
                f"config.model.block_size={model.block_size} says who attends to whom, which "
                f"config.model.mixer={layer.mixer!r} does not ask; use one of "
                f"{', '.join(ATTENTIONS)}"
            )


def check_hardware(config: ConfigDict, machine: Machine) -> None:
    """Raise UserError for layers that cannot be run as `config.hardware` asks."""
    transformer.check_hardware(config, machine)
    if config.model.get("block_size") and config.hardware.attention == "splash":
        raise UserError(
            "config.hardware.attention='splash' has no word for blocks that come to be one after "
            f"another, which config.model.block_size={config.model.block_size} has; use chunked"
        )


def positions(config: ConfigDict) -> int:
    """Positions of one example: what stands first, its tokens, and with blocks a copy of them."""
    return 1 + pixels.length(config) * (2 if config.model.get("block_size") else 1)


def build(model: FrozenConfigDict, hardware: FrozenConfigDict, hides: bool) -> "Denoiser":
    """The module of the family discrete_diffusion; `hides` says whether tokens may be hidden."""
    plain = FrozenConfigDict({**model, **FIXED, "num_classes": 0})
    return Denoiser(plain, hardware, model, hides)


class Denoiser(Decoder):
    """What the head reads, [B, L, D], from int tokens [B, L] of which the first is no draft.

    A token `vocab_size` is a hidden one. What stands first is a token, or the class of an image,
    where `num_classes` is none. `share_B` is how much of the text is noise, from 0 to 1, or None.
    """

    given: FrozenConfigDict  # the model with its classes, which the decoder does not see
    hides: bool

    @nn.compact
    def __call__(
        self, tokens_BxL: jax.Array, where: Where = IN_ORDER, share_B: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        model, dtype = self.given, jnp.dtype(self.hardware.compute_dtype)
        told: list[Any] = []
        if share_B is not None:
            times = FrozenConfigDict({**model, **TIMES})
            told.append(TimeEmbedding(times, dtype, name="time")(share_B))
        if model.num_classes:
            told.append(self._class(tokens_BxL[:, :1], dtype)[:, 0])
            tokens_BxL = tokens_BxL.at[:, 0].set(0)
        condition: dict[str, Any] = {CONDITIONS[model.condition]: sum(told)} if told else {}
        return super().__call__(tokens_BxL, where, None, **condition)

    def vectors(self, table_VxD: jax.Array, tokens_BxL: jax.Array, dtype: Any) -> jax.Array:
        """The vector of each token, [B, L, D]; of all that are hidden, one of its own."""
        if not self.hides:
            return look_up(table_VxD, tokens_BxL, dtype)
        width = self.model.width
        normal = nn.initializers.normal(width**-0.5 if self.model.tie_embeddings else 1.0)
        hidden_D = parameter(self, "hidden", normal, ("norm",), (width,)).astype(dtype)
        x_BxLxD = look_up(table_VxD, jnp.minimum(tokens_BxL, len(table_VxD) - 1), dtype)
        return jnp.where((tokens_BxL == len(table_VxD))[..., None], hidden_D, x_BxLxD)

    def _class(self, class_Bx1: jax.Array, dtype: Any) -> jax.Array:
        """The vector of each class, [B, 1, D]; of none, one of its own, where it may be hidden."""
        model, normal = self.given, nn.initializers.normal(1.0)
        axes, rows = ("class", "embed"), (model.num_classes, model.width)
        table = parameter(self, "class", normal, axes, rows)
        x_Bx1xD = look_up(table, jnp.minimum(class_Bx1, model.num_classes - 1), dtype)
        if not model.class_dropout:
            return x_Bx1xD
        none_D = parameter(self, "no_class", normal, ("norm",), (model.width,)).astype(dtype)
        return jnp.where((class_Bx1 == model.num_classes)[..., None], none_D, x_Bx1xD)
