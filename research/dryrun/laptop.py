"""What a sweep would cost: each trial's size, data, FLOPs, minutes and memory; runs nothing."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax import numpy as jnp

from research import cost, data, programs
from research.study import Study, Trial

PROCESS_BYTES = 5e8  # an interpreter with JAX and its compiler loaded


@dataclass(frozen=True)
class Calibration:
    """This machine, measured for about five seconds on one core.

    Attributes:
        product_rate: FLOP/s of the products of each width.
        share: FLOP/s of one real train step over the product rate of its width.
        compile_seconds: to compile that step.
    """

    product_rate: dict[int, float]
    share: float
    compile_seconds: float

    def seconds(self, width: int, flops: float) -> float:
        """Predicted seconds of `flops` useful FLOPs in a network `width` wide."""
        return flops / (self.product_rate[width] * self.share)


def calibrate(trials: list[Trial]) -> Calibration:
    """Measure the products of every width, and one step of the cheapest trial."""
    rates = {width: _product_rate(width) for width in {_width(trial) for trial in trials}}
    cheapest = min(trials, key=lambda trial: _step_flops(trial))
    config = cheapest.config
    batch = next(data.batches(data.load(config.data, "train"), config.train.batch_size, 0))
    began = time.perf_counter()
    program = programs.build(config)
    state = program.init(jax.random.key(0))
    arguments = (batch, jax.random.key(0), np.int32(0), np.float32(0))
    state, metrics = jax.block_until_ready(program.step(state, *arguments))
    compiled = time.perf_counter() - began
    times = []
    while sum(times) < 1.0 or len(times) < 3:
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(program.step(state, *arguments))
        times.append(time.perf_counter() - began)
    rate = _step_flops(cheapest) / float(np.median(times))
    # A family that counts no FLOPs is predicted to take no time.
    return Calibration(rates, rate / rates[_width(cheapest)] or 1.0, compiled)


def _product_rate(width: int, seconds: float = 0.2) -> float:
    product = jax.jit(lambda x, w: x @ w)
    x, w = jnp.ones((2048, width)), jnp.ones((width, 4 * width))
    product(x, w).block_until_ready()
    times = []
    while sum(times) < seconds:
        began = time.perf_counter()
        product(x, w).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * 2048 * width * 4 * width / float(np.median(times))


def _width(trial: Trial) -> int:
    return trial.config.model.get("width") or 64  # of a network that does not say


def _step_flops(trial: Trial) -> int:
    return cost.ledger(trial.config).step_flops


def memory_bytes(trial: Trial) -> float:
    """Rough peak of one worker: state, gradients and the activations a backward pass keeps."""
    config = trial.config
    ledger, model = cost.ledger(config), config.model
    copies = 4 + (1 if config.train.ema_decay else 0)  # parameters, gradients, two moments
    positions = config.train.batch_size // config.hardware.accumulation * ledger.tokens
    # Of a network without such parts, a layer of its width.
    per_position = (10 + 2 * model.get("mlp_ratio", 0)) * _width(trial)
    per_position += 2 * model.get("num_heads", 0) * ledger.tokens
    activations = positions * per_position * model.get("depth", 1)
    return 4 * (copies * ledger.total_params + activations) + PROCESS_BYTES


def table(loaded: Study, workers: int) -> str:
    """Return the trials as an aligned table, their totals, and the calibration they rest on."""
    trials = [trial for group in loaded.groups for trial in group]
    calibration = calibrate(trials)
    lines = [
        f"{'trial':44s} {'params':>10s} {'data':>17s} {'FLOPs':>9s} {'minutes':>8s} {'memory':>8s}"
    ]
    total_flops, seconds_of = 0.0, []  # the seconds of each group, which one worker runs
    for group in loaded.groups:
        seconds_of.append(0.0)
        for index, trial in enumerate(group):
            config = trial.config
            ledger = cost.ledger(config)
            spent = _step_flops(trial) * trial.steps_to_run
            scored = 0 if trial.branches else config.evaluation.examples * ledger.score_flops
            seconds = calibration.seconds(_width(trial), spent + scored)
            seconds += 0 if index else calibration.compile_seconds
            examples = config.train.steps * config.train.batch_size
            spec = data.outline(config.data)
            amount = examples * spec["amount"]
            lines.append(
                f"{trial.id:44s} {ledger.total_params:>10,} {amount:>10,} "
                f"{spec['unit']} {spent:9.2e} {seconds / 60:8.2f} "
                f"{memory_bytes(trial) / 2**30:6.2f} G"
            )
            total_flops += spent
            seconds_of[-1] += seconds
    rates = ", ".join(f"{w}: {r / 1e9:.0f}" for w, r in sorted(calibration.product_rate.items()))
    lines += [
        f"{len(loaded.trials)} trials, {total_flops:.2e} FLOPs, {_minutes(seconds_of, workers)}",
        f"one core: products by width {rates} GFLOP/s; a train step reaches "
        f"{calibration.share:.0%} of that and compiles in {calibration.compile_seconds:.1f} s",
        "FLOPs are what each run itself spends; a trial that branches off a trunk pays its "
        "cooldown only",
    ]
    return "\n".join(lines)


def _minutes(seconds: Sequence[float], workers: int) -> str:
    """What groups of so many seconds each take together: a core each, and no less than the longest.

    More workers than cores share the cores, and more than groups find nothing to do.
    """
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    able = min(workers, cores, len(seconds))
    spent = max(sum(seconds) / able, max(seconds))
    note = ""
    if able < workers:
        why = f"{cores} cores" if able == cores else f"{len(seconds)} groups of trials"
        note = f" (no faster than with {able}: {why})"
    return f"{spent / 60:.1f} minutes with {workers} workers{note}"
