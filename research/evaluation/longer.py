"""Bits in windows longer than those of training: what positions hold at lengths never seen.

The same text is read at every length of `config.evaluation.lengths`, cut anew into windows:
"longer_512" is what it costs in windows of 512. Of a network that holds it falls with the length,
as more stands before each token; where it rises, the network breaks. Windows of the longest are
scored by octave of position, too: "longer_position_64" is that of positions 64 to 127.

Rotary positions can be scaled after training (Chen et al. 2023; Peng et al. 2024, YaRN), by as many
times as a window is longer: "longer_512_yarn" is that in windows of 512, for each way of
`config.evaluation.scalings`. A position of a learned table that no window of training had is not
trained, so such a network is refused.
"""

import copy
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research import data, families
from research.data.source import Source
from research.errors import UserError
from research.evaluation import by_position, likelihood
from research.models.rotary import SCALINGS
from research.parts import check_choice

TIMES = (1, 2, 4, 8)  # data.length, where no lengths are given
KEY = "config.evaluation.lengths"


def lengths(config: Any) -> tuple[int, ...]:
    """The lengths of windows, the longest last."""
    return tuple(config.evaluation.lengths) or tuple(t * config.data.length for t in TIMES)


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for what has no longer windows, or cannot read them."""
    likelihood.check(config, spec, "longer")
    if "stride" not in spec or {"segments", "positions"} & {*spec["arrays"]}:
        raise UserError(
            "config.evaluation.evaluators: 'longer' cuts a stream of text into windows; "
            f"config.data.name={config.data.name!r} gives examples of one length"
        )
    trained, found = config.data.length, lengths(config)
    if any(type(length) is not int or length < 1 for length in found):
        raise UserError(f"{KEY}={found}: expected numbers of tokens, such as {2 * trained}")
    for short, long in zip(found, found[1:], strict=False):
        if long <= short or long % short:
            raise UserError(
                f"{KEY}={found}: each must be a multiple of the one before, so that all windows "
                f"are of one text; nearest valid to {long}: {max(2, round(long / short)) * short}"
            )
    if "max_length" in config.model and found[-1] > trained:
        raise UserError(
            f"{KEY}={found}: config.model.positions='learned' has no trained vector beyond the "
            f"config.data.length={trained} of training; nearest valid: ({trained},)"
        )
    for way in config.evaluation.scalings:
        check_choice("evaluation.scalings", way, [each for each in SCALINGS if each != "none"])
        if "rotary_scaling" not in config.model:
            raise UserError(
                f"config.evaluation.scalings={config.evaluation.scalings}: no layer has "
                "config.model.positions='rotary', whose positions can be scaled"
            )
    for length in found:
        try:
            families.check(_read_at(config, length), spec)
        except UserError as error:
            raise UserError(f"{KEY}: {length} cannot be read: {error}") from error


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    kind = {"unit": likelihood.unit(config), "kind": "exact", "better": "lower"}
    octaves = [f"longer_position_{first}" for first in by_position.octaves(lengths(config)[-1])]
    return dict.fromkeys([*_readings(config), *octaves], kind)


def _readings(config: Any) -> dict[str, tuple[int, str]]:
    """The length and the scaling, "" for that of the network, of each score of whole windows."""
    found = {f"longer_{length}": (length, "") for length in lengths(config)}
    beyond = [length for length in lengths(config) if length > config.data.length]
    for way in config.evaluation.scalings:
        found |= {f"longer_{length}_{way}": (length, way) for length in beyond}
    return found


def _read_at(config: Any, length: int, way: str = "") -> Any:
    """The config as it is for windows of `length`, with rotary positions scaled in a `way`."""
    changed = copy.deepcopy(config)
    changed.data.length = length
    if way:
        changed.model.rotary_scaling = way
        changed.model.rotary_factor = length / config.data.length
        changed.model.rotary_length = config.data.length
    return changed


def examples(config: Any) -> Source:
    """Validation text in windows of the longest length."""
    return data.load({**config.data, "length": lengths(config)[-1]}, "validation")


def cut(batch: dict, length: int) -> dict:
    """A batch of long windows as one of windows of `length`, in which each token is predicted once.

    "tokens" [B, L + 1] become [B L / length, length + 1].
    """
    tokens_BxL = batch["tokens"]
    count = (tokens_BxL.shape[1] - 1) // length
    place = jnp.arange(count)[:, None] * length + jnp.arange(length + 1)
    pieces = {
        "tokens": tokens_BxL[:, place].reshape(-1, length + 1),
        "mask": jnp.repeat(batch["mask"], count),
    }
    beside = {name: batch[name] for name in ("bytes", "weights") if name in batch}
    return pieces | {name: x_BxL.reshape(-1, length) for name, x_BxL in beside.items()}


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, dict[str, jax.Array]]:
    """{score: {"total": bits, "count": bytes or tokens}} of one batch; those of octaves [octaves]
    under "octaves".
    """
    longest, found = lengths(config)[-1], {}
    batch = {name: batch[name] for name in batch if name != "source"}
    for name, (length, way) in _readings(config).items():
        read, pieces = _read_at(config, length, way), cut(batch, length)
        bits_BxL = likelihood.nats(read, params, pieces) / jnp.log(2.0)
        total = (bits_BxL * likelihood.weights(pieces)).sum()
        found[name] = {"total": total, "count": likelihood.counts(read, pieces).sum()}
    octaves = by_position.update(_read_at(config, longest), params, cut(batch, longest), key)
    return found | {"octaves": octaves}


def finish(config: Any, sums: dict[str, Any]) -> dict[str, float]:
    whole = [float(sums[name]["total"] / sums[name]["count"]) for name in _readings(config)]
    with np.errstate(invalid="ignore"):  # texts that are apart may all be shorter than the window
        octaves_O = sums["octaves"]["total"] / sums["octaves"]["count"]
    return dict(zip(score_kinds(config), [*whole, *map(float, octaves_O)], strict=True))
