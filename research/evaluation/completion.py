"""Completing real functions: bodies of one line, greedily, run against the originals.

Beside the share of functions that do what the original does, which may appear to emerge suddenly
as networks grow, are the smooth scores of the same bodies that Schaeffer et al. (2023) hold against
it: whether each token is the likeliest after the true ones before it, the edit distance of the
completion, and the likelihood of the true body.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research.data import source
from research.errors import UserError
from research.evaluation import bodies, greedy, intervals, likelihood, prompts

SPLIT = "validation and test"
END = "\n"


def check(config: Any, spec: dict[str, Any]) -> None:
    likelihood.check(config, spec, "completion", ("network", "head", "drawn_from"))
    likelihood.check_text(config, "completion")
    if config.data.length <= bodies.LONGEST:
        raise UserError(
            f"config.data.length={config.data.length} is too short for evaluator 'completion', "
            f"whose bodies have up to {bodies.LONGEST} bytes; nearest valid: {bodies.LONGEST + 1}"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    share = {"unit": "share of functions", "kind": "exact", "better": "higher"}
    return {
        "completion": share,
        "completion_forced": share,
        "completion_distance": {"unit": "bytes to edit", "kind": "exact", "better": "lower"},
        "completion_likelihood": {"unit": "bits/byte", "kind": "exact", "better": "lower"},
    }


def examples(config: Any) -> source.Source:
    """The true bodies: "tokens" [L + 1]; "weights" [L], 1 on a body and its end; "spelled"."""
    found = [(each.prompt, each.line + END) for each in bodies.runnable(config)]
    tokens, weights = prompts.windows(found, config.data.length, prompts.encoder(config))
    spelled = np.array([len(line.encode()) for _, line in found], np.float32)  # bytes
    arrays = {"tokens": tokens, "weights": weights, "spelled": spelled}
    return source.rows("validation", arrays)


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, jax.Array]:
    """{"bits", "bytes", "forced", "count"} of the true bodies of one batch."""
    del key
    logits_BxLxV = likelihood.logits(config, params, batch)
    target_BxL, weight_BxL = batch["tokens"][:, 1:], likelihood.weights(batch)
    chosen_BxL = jnp.take_along_axis(logits_BxLxV, target_BxL[..., None], -1)[..., 0]
    nats_BxL = jax.nn.logsumexp(logits_BxLxV, -1) - chosen_BxL
    missed_BxL = (logits_BxLxV.argmax(-1) != target_BxL) & (batch["weights"] > 0)
    return {
        "bits": (nats_BxL * weight_BxL).sum() / jnp.log(2.0),
        "bytes": (batch["mask"] * batch["spelled"]).sum(),
        "forced": (batch["mask"] * ~missed_BxL.any(1)).sum(),
        "count": batch["mask"].sum(),
    }


def finish(config: Any, sums: dict[str, Any]) -> dict[str, Any]:
    return {
        "completion_forced": intervals.share(sums["forced"], sums["count"]),
        "completion_likelihood": float(sums["bits"] / sums["bytes"]),
    }


def measure(config: Any, params: Any) -> dict[str, intervals.Estimate]:
    """What the network writes in place of the bodies: how far it is from them, and what it does."""
    asked = prompts.spread(bodies.runnable(config), config.evaluation.examples)
    texts = [each.prompt for each in asked]
    written = greedy.complete(config, params, texts, bodies.LONGEST + 1, END.encode())
    lines = [text.decode(errors="replace").partition(END)[0] for text in written]
    return judged(asked, lines)


def judged(asked: list[bodies.Body], lines: list[str]) -> dict[str, intervals.Estimate]:
    """The scores of `lines` in place of the bodies that were asked for."""
    right = bodies.right(asked, lines)
    pairs = zip(asked, lines, strict=True)
    distances = np.array([distance(each.line.encode(), line.encode()) for each, line in pairs])
    return {
        "completion": intervals.share(sum(right), len(right)),
        "completion_distance": intervals.bootstrap(distances),
    }


def distance(one: bytes, other: bytes) -> int:
    """The fewest bytes to insert, delete or replace from one to the other (Levenshtein 1966)."""
    above = list(range(len(other) + 1))
    for row, left in enumerate(one, start=1):
        now = [row]
        for column, right in enumerate(other, start=1):
            replaced = above[column - 1] + (left != right)
            now.append(min(above[column] + 1, now[-1] + 1, replaced))
        above = now
    return above[-1]
