"""What a network is judged by: evaluators, run at the end of a run and, where asked, along it.

`config.evaluation.evaluators` names them, as does `python -m research evaluate` for a run that has
ended. An evaluator is a module of pure functions:

    score_kinds(config) -> {name: {"unit", "kind", "better"}}, the first its main one; kind is
        "exact", "upper bound", "lower bound" or "estimate", better is "lower" or "higher"; "chance"
        beside them is what guessing scores
    update(config, params, batch, key) -> statistics of one batch, a pytree that adds up over
        batches, so that it is the same on one device and on many; compiled
    finish(config, sums) -> {name: value} from the statistics of all batches, on the host

and, where it needs them,

    SPLIT of the run's data, "validation" by default
    examples(config) -> a Source of its own examples (`research.data.source.rows`) in place of it
    measure(config, params) -> {name: value} of what no sum of batches gives, such as samples, on
        the host; it may stand in place of update and finish
    check(config, spec) raises UserError for what it cannot judge
    limits(config) -> {failure: Limit}: where its scores lie unless a run has failed
        (`research.failures`)

A value is a number or, with its 95% interval, `intervals.Estimate`. The first score of the first
evaluator is the run's `score`, which laws are fitted to unless another is named; all are in
`scores`.
"""

import math
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from research import data, optim, parts, processes, programs
from research.errors import UserError
from research.evaluation.intervals import Estimate

EVALUATORS = {
    "validation": "research.evaluation.validation",
    "training": "research.evaluation.training",
    "activations": "research.evaluation.activations",
    "by_position": "research.evaluation.by_position",
    "by_source": "research.evaluation.by_source",
    "calibration": "research.evaluation.calibration",
    "choice": "research.evaluation.choice",
    "clip_score": "research.evaluation.clip_score",
    "codebook": "research.evaluation.codebook",
    "completion": "research.evaluation.completion",
    "disentanglement": "research.evaluation.disentanglement",
    "docstrings": "research.evaluation.docstrings",
    "excess": "research.evaluation.excess",
    "frechet": "research.evaluation.frechet",
    "inception_score": "research.evaluation.inception_score",
    "kernel_distance": "research.evaluation.kernel_distance",
    "likelihood_bounds": "research.evaluation.likelihood_bounds",
    "longer": "research.evaluation.longer",
    "mode_coverage": "research.evaluation.mode_coverage",
    "nearest": "research.evaluation.nearest",
    "ode_likelihood": "research.evaluation.ode_likelihood",
    "overlap": "research.evaluation.overlap",
    "pixel_bound": "research.evaluation.pixel_bound",
    "precision_recall": "research.evaluation.precision_recall",
    "reverse_cross_entropy": "research.evaluation.reverse_cross_entropy",
}
PROTOCOL = ("score_kinds", "update", "finish")

Scores = dict[str, dict[str, Any]]


def load(name: str) -> ModuleType:
    """Return the evaluator `name`: one of EVALUATORS, or the dotted path of any module.

    Raises:
        UserError: for an unknown name, or a module that lacks part of the protocol.
    """
    module = parts.load("evaluation.evaluators", name, EVALUATORS)
    needs = PROTOCOL[:1] if hasattr(module, "measure") else PROTOCOL
    return parts.load("evaluation.evaluators", name, EVALUATORS, needs)


def ask(config: ConfigDict, names: Sequence[str], features: str) -> None:
    """Have a run judged by other evaluators and features than its config says; empty keeps them."""
    config.evaluation.evaluators = tuple(names) or config.evaluation.evaluators
    config.evaluation.features = features or config.evaluation.features


def check(config: ConfigDict, spec: dict[str, Any]) -> None:
    """Raise UserError for evaluators that are unknown, out of step, or measure one thing twice."""
    settings, found = config.evaluation, set()
    if not settings.evaluators:
        raise UserError(
            "config.evaluation.evaluators names none; 'validation' gives a run its score"
        )
    for name in settings.evaluators:
        module = load(name)
        if hasattr(module, "check"):
            module.check(config, spec)
        if twice := found & set(module.score_kinds(config)):
            raise UserError(f"config.evaluation.evaluators: two of them give {min(twice)!r}")
        found |= set(module.score_kinds(config))
    for key, steps in (("every_steps", (settings.every_steps,)), ("steps", settings.steps)):
        for step in steps:
            if type(step) is not int or step < 0 or step % config.log_steps:
                raise UserError(
                    f"config.evaluation.{key}: {step!r} must be a multiple of config.log_steps="
                    f"{config.log_steps}, whose rows the scores are written to"
                )


def due(config: ConfigDict, step: int) -> bool:
    """Whether a run is scored after `step` steps, which need not be its end."""
    every = config.evaluation.every_steps
    return step in config.evaluation.steps or bool(every and step % every == 0)


def row(config: ConfigDict, state: dict[str, Any]) -> dict[str, float]:
    """The scores of a state by the names of a row's columns: "score" is the main one."""
    found = scores(config, optim.evaluated(config, state))
    values = {name: each["value"] for name, each in found.items()}
    main = next(iter(values))
    return {"score": values.pop(main)} | {f"score_{name}": value for name, value in values.items()}


def final(config: ConfigDict, state: dict[str, Any], status: str) -> Scores:
    """The scores of a run that has ended; their values are None unless it finished."""
    if status == "finished":
        found = scores(config, optim.evaluated(config, state))
        if math.isfinite(next(iter(found.values()))["value"]):
            return found
    return {
        name: {"value": None, **kind, "split": _split(module), "examples": 0}
        for module in map(load, config.evaluation.evaluators)
        for name, kind in module.score_kinds(config).items()
    }


def scores(config: ConfigDict, params: Any) -> Scores:
    """Every score of `params`: {name: {"value", "unit", "kind", "better", "split", "examples"}}.

    One that is an estimate of more examples than it saw has its 95% "interval" [low, high] as well.
    """
    found: Scores = {}
    for name in config.evaluation.evaluators:
        found |= evaluate(config, params, name)
    return found


def evaluate(config: ConfigDict, params: Any, name: str = "validation") -> Scores:
    """What evaluator `name` finds on `evaluation.examples` examples, the same for every run."""
    module, values, examples = load(name), {}, 0
    if hasattr(module, "update"):
        sums, examples = _sums(config, params, module)
        values |= module.finish(config, sums)
    if hasattr(module, "measure"):
        values |= module.measure(config, processes.whole(params))
    about = {"split": _split(module), "examples": examples}
    kinds = module.score_kinds(config)
    return {each: {"value": None, **kinds[each], **about} | _plain(values[each]) for each in kinds}


def _sums(config: ConfigDict, params: Any, module: ModuleType) -> tuple[Any, int]:
    """The statistics of an evaluator over all its batches, and of how many examples they are."""
    sums, examples = None, 0
    for found, batch in statistics(config, params, module):
        examples += int(batch["mask"].sum())
        sums = found if sums is None else jax.tree.map(np.add, sums, found)
    return sums, examples


def statistics(config: ConfigDict, params: Any, module: ModuleType) -> Iterator[tuple[Any, dict]]:
    """What an evaluator's `update` gives of each batch, float64, and the batch with its mask."""
    size, program = config.evaluation.batch_size, programs.build(config)
    update = program.judge(module.update)
    own = getattr(module, "examples", None)
    source = own(config) if own else data.load(config.data, _split(module))
    for index, batch in enumerate(data.eval_batches(source, size, config.evaluation.examples)):
        key = jax.random.fold_in(jax.random.key(0), index)
        found = update(params, processes.place(program.batch, batch, size), key)
        yield jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found), batch


def _plain(value: float | Estimate) -> dict[str, Any]:
    if not isinstance(value, Estimate):
        return {"value": float(value)}
    found = {"value": float(value.value), "interval": [*map(float, value.interval)]}
    found |= {} if value.examples is None else {"examples": value.examples}
    return found | ({"signature": value.signature} if value.signature else {})


def _split(module: ModuleType) -> str:
    return getattr(module, "SPLIT", "validation")
