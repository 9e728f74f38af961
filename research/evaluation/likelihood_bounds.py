"""The likelihood between its bounds: what a family can say of -log p from above and from below.

A family has `bounds(config, params, batch, key, shared) -> {name: nats_B}`, -log p of each example,
and `bound_kinds(config) -> {name: kind}`. What is found once for all examples, such as a
log-partition function, is made by its `before_bounds(config, params, key)` and given as `shared`.
A bound in expectation is one by chance: each score has the 95% interval that its examples give it,
and beside them stands their gap, the least upper bound less the greatest lower one. A family
without bounds is asked for its scores, where these are exact or an upper bound. Where the gap is
below zero by more than chance the bounds cross, which no likelihood can do: it is an error of ours,
and said as one. What both ends share, such as the error of one estimate of log Z for all examples,
is not in these intervals; the family says it by `shared_error(config, shared)`, nats an example.
"""

from types import ModuleType
from typing import Any

import jax
import numpy as np

from research import data, evaluation, families, processes, programs
from research.errors import UserError
from research.evaluation import batch_bits, intervals, validation
from research.evaluation.intervals import Estimate

KINDS = ("exact", "upper bound", "lower bound", "estimate")
GAP = "bounds_gap"


def check(config: Any, spec: dict[str, Any]) -> None:
    """Raise UserError for a family that bounds no likelihood, or kinds that are none."""
    del spec
    if not (kinds := _kinds(config)):
        raise UserError(
            f"config.evaluation.evaluators: 'likelihood_bounds' asks for bounds, and family "
            f"{config.family!r} has neither them nor a score that is one"
        )
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise UserError(f"bound {name!r} is said to be {kind!r}, not one of {', '.join(KINDS)}")


def _kinds(config: Any) -> dict[str, str]:
    """The kind of each bound by its name."""
    family = families.load(config.family)
    if hasattr(family, "bounds"):
        return family.bound_kinds(config)
    return {f"bounds_{name}": each["kind"] for name, each in batch_bits.kinds(config).items()}


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    """Each bound with its kind, and the gap where there are both ends."""
    unit = next(iter(families.load(config.family).score_kinds(config).values()))["unit"]
    unit, kinds = unit if unit.startswith("bits") else "bits/dim", _kinds(config)
    found = {name: {"unit": unit, "kind": kind, "better": "lower"} for name, kind in kinds.items()}
    if _ends(kinds):
        found[GAP] = {"unit": unit, "kind": "estimate", "better": "lower"}
    return found


def _ends(kinds: dict[str, str]) -> tuple[list[str], list[str]] | None:
    """The names of what lies above and of what lies below; None where one of them is missing."""
    above = [name for name, kind in kinds.items() if kind in ("exact", "upper bound")]
    below = [name for name, kind in kinds.items() if kind in ("exact", "lower bound")]
    return (above, below) if above and below and {*above} != {*below} else None


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    """Every bound on `evaluation.examples` validation examples, in bits of one of their parts.

    Raises:
        UserError: when the bounds cross beyond chance.
    """
    family, kinds = families.load(config.family), _kinds(config)
    if not hasattr(family, "bounds"):
        return _scores(config, params)
    shared = _shared(family, config, params)
    nats = _each(family, config, params, shared)
    parts = _parts(config)
    error = family.shared_error(config, shared) if hasattr(family, "shared_error") else 0.0
    bits = {name: each / (np.log(2) * parts) for name, each in nats.items()}
    found = {name: _mean(each) for name, each in bits.items()}
    if ends := _ends(kinds):
        found[GAP] = _gap(bits, *ends, error / (np.log(2) * parts))
    return found


def _scores(config: Any, params: Any) -> dict[str, Estimate]:
    """The scores of a family that are bounds, with the intervals of batches."""
    found, examples = [], 0
    for scores, batch in evaluation.statistics(config, params, validation):
        found.append(scores)
        examples += int(batch["mask"].sum())
    values = {}
    for name in batch_bits.kinds(config):
        totals, counts = ([each[name][of] for each in found] for of in ("total", "count"))
        values[f"bounds_{name}"] = batch_bits.ratio(totals, counts, examples)
    return values


def _shared(family: ModuleType, config: Any, params: Any) -> Any:
    if not hasattr(family, "before_bounds"):
        return None
    return family.before_bounds(config, params, jax.random.key(1))


def _each(family: ModuleType, config: Any, params: Any, shared: Any) -> dict[str, np.ndarray]:
    """Nats of every example by the name of the bound, float64 [examples]."""
    size, program = config.evaluation.batch_size, programs.build(config)
    bounds = jax.jit(lambda *given: family.bounds(config, *given))
    source, found = data.load(config.data, "validation"), []
    for index, batch in enumerate(data.eval_batches(source, size, config.evaluation.examples)):
        rows = batch["mask"] > 0
        placed = processes.place(program.batch, batch, size)
        nats = bounds(params, placed, jax.random.fold_in(jax.random.key(0), index), shared)
        nats = processes.whole(nats)
        found.append({name: np.asarray(each, np.float64)[rows] for name, each in nats.items()})
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def _parts(config: Any) -> int:
    """Dimensions of an image, or predicted tokens of a text."""
    spec = data.outline(config.data)
    return int(np.prod(spec["shape"])) if "shape" in spec else spec["length"]


def _mean(each: np.ndarray, error: float = 0.0) -> Estimate:
    middle = float(each.mean())
    spread = each.var(ddof=1) / len(each) if len(each) > 1 else 0.0
    return intervals.around(middle, float(spread + error**2) ** 0.5, len(each))


def _gap(bits: dict[str, np.ndarray], above: list[str], below: list[str], error: float) -> Estimate:
    """The least upper bound less the greatest lower one, of the same examples."""
    high = min(above, key=lambda name: bits[name].mean())
    low = max(below, key=lambda name: bits[name].mean())
    gap = _mean(bits[high] - bits[low], error)
    if gap.interval[1] < 0:
        raise UserError(
            f"the bounds cross: {high} is {bits[high].mean():.5f} and {low} is "
            f"{bits[low].mean():.5f}, an upper bound below a lower one by {-gap.value:.5f} bits; "
            "this is an error of the program, not of the run"
        )
    return gap
