"""What a sweep would cost: each trial's size, data, FLOPs, minutes and memory; runs nothing."""

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from research import cost, data, hardware, programs
from research.dryrun import program
from research.study import Study

PROCESS_BYTES = 5e8  # an interpreter with JAX and its compiler loaded
DISPATCH_SECONDS = 1e-3  # a step of a network of no size: its launch, its batch, its record


class Work(NamedTuple):
    """One train step, read from its program.

    Attributes:
        flops: all that are spent.
        moved: bytes that its products read and write.
        memory: bytes of one worker at most: the state, and what a step has beside it, unfused.
    """

    flops: int
    moved: int
    memory: float


def work(config: ConfigDict) -> Work:
    """Read the train step of `config`."""
    step = cost.step(config)
    memory = program.input_bytes(step) + program.live_bytes(step) + PROCESS_BYTES
    return Work(sum(cost.executed(config).values()), program.product_bytes(step), memory)


class Calibration(NamedTuple):
    """This machine, measured for about five seconds on one core.

    A small network's step is bound by memory, so its time follows the bytes that its products read
    and write, which what lies between them reads and writes too.

    Attributes:
        flops_rate: FLOP/s of a large product.
        bytes_rate: bytes/s of what the products of a real train step read and write.
        compile_seconds: to compile that step.
    """

    flops_rate: float
    bytes_rate: float
    compile_seconds: float

    def step_seconds(self, step: Work) -> float:
        """Predicted seconds of one train step."""
        return DISPATCH_SECONDS + step.flops / self.flops_rate + step.moved / self.bytes_rate


def calibrate(config: ConfigDict, step: Work) -> Calibration:
    """Measure a large product, and the train step of `config`."""
    batch = next(data.batches(data.load(config.data, "train"), config.train.batch_size, 0))
    began = time.perf_counter()
    built = programs.build(config)
    state = built.init(jax.random.key(0))
    arguments = (batch, jax.random.key(0), np.int32(0), np.float32(0))
    state, metrics = jax.block_until_ready(built.step(state, *arguments))
    compiled = time.perf_counter() - began
    times = []
    while sum(times) < 1.0 or len(times) < 3:
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(built.step(state, *arguments))
        times.append(time.perf_counter() - began)
    rate = hardware.product_rate()
    spent = float(np.median(times))
    # Of what is neither launch nor product; at least a tenth, should the large product be no guide.
    moving = max(spent - DISPATCH_SECONDS - step.flops / rate, spent / 10)
    return Calibration(rate, step.moved / moving or 1.0, compiled)


def table(loaded: Study, workers: int) -> str:
    """Return the trials as an aligned table, their totals, and the calibration they rest on."""
    trials = [trial for group in loaded.groups for trial in group]
    shapes = {trial.id: programs.shape(trial.config) for trial in trials}
    config_of = {shapes[trial.id]: trial.config for trial in trials}
    work_of = {shape: work(config) for shape, config in config_of.items()}
    ranked = sorted(trials, key=lambda trial: work_of[shapes[trial.id]].moved)
    middle = ranked[len(ranked) // 2]
    calibration = calibrate(middle.config, work_of[shapes[middle.id]])
    lines = [
        f"{'trial':44s} {'params':>10s} {'data':>17s} {'FLOPs':>9s} {'minutes':>8s} {'memory':>8s}"
    ]
    total_flops, seconds_of = 0.0, []  # the seconds of each group, which one worker runs
    for group in loaded.groups:
        seconds_of.append(0.0)
        for index, trial in enumerate(group):
            config, step = trial.config, work_of[shapes[trial.id]]
            ledger, spec = cost.ledger(config), data.outline(config.data)
            spent = ledger.step_flops * trial.steps_to_run
            scored = 0 if trial.branches else config.evaluation.examples * ledger.score_flops
            # Scoring takes as long for each FLOP as training does.
            steps = trial.steps_to_run + (scored / ledger.step_flops if ledger.step_flops else 0)
            seconds = calibration.step_seconds(step) * steps
            seconds += 0 if index else calibration.compile_seconds
            amount = config.train.steps * config.train.batch_size * spec["amount"]
            lines.append(
                f"{trial.id:44s} {ledger.total_params:>10,} {amount:>10,} "
                f"{spec['unit']} {spent:9.2e} {seconds / 60:8.2f} {step.memory / 2**30:6.2f} G"
            )
            total_flops += spent
            seconds_of[-1] += seconds
    lines += [
        f"{len(loaded.trials)} trials, {total_flops:.2e} FLOPs, {_minutes(seconds_of, workers)}",
        f"one core: {calibration.flops_rate / 1e9:.0f} GFLOP/s in a large product, "
        f"{calibration.bytes_rate / 1e9:.1f} GB/s of what a train step's products read and write; "
        f"it compiles in {calibration.compile_seconds:.1f} s",
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
