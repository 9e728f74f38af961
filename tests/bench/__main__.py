"""`make bench`: how fast this machine trains and draws, each row beside its goal. No tests here.

make bench                      # a few minutes
make bench ARGS='--seconds 20'  # longer windows, for a busy machine
make bench ARGS=--sweep         # also what sharing saves a sweep (tens of minutes)
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
from jax import numpy as jnp

from launch import processes
from tests.bench import step

SMALL = ["--width=128", "--depth=4", "--heads=4", "--length=128", "--batch=32"]
LARGE = ["--width=256", "--depth=6", "--heads=8", "--length=256", "--batch=16"]


def flops_per_token(shape: argparse.Namespace) -> float:
    """Forward and backward FLOPs a token, by the project's own ledger."""
    from research import cost

    return cost.ledger(step.config(shape)).step_flops / (shape.batch * shape.length)


def matrix_product(size: int = 2048) -> Callable[[float], float]:
    """Return a function that measures FLOPs a second of a float32 product of square matrices."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()

    def window(seconds: float) -> float:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            product(a, a).block_until_ready()
            count += 1
        return 2 * size**3 * count / (time.perf_counter() - start)

    return window


def row(what: str, measured: str, goal: str = "") -> None:
    print(f"{what:58} {measured:>30}   {goal}", flush=True)


def train_step(argv: list[str], seconds: float, goal: str = "") -> None:
    """Time one shape, its windows in turn with the matrix product's, and print both."""
    shape = step.arguments(argv)
    step.setup(shape)
    product = matrix_product()
    pairs = [(step.window(1.0), product(0.3)) for _ in range(max(3, round(seconds)))]
    rate = statistics.median(tokens for tokens, _ in pairs)
    useful = flops_per_token(shape)
    share = statistics.median(tokens * useful / flops for tokens, flops in pairs)
    name = f"D{shape.width} depth {shape.depth} length {shape.length} batch {shape.batch}"
    row(f"train step, {name}", f"{rate:,.0f} tokens/s")
    row("", f"{rate * useful / 1e9:.1f} useful GFLOP/s")
    row("", f"{share:.0%} of the matrix product", goal)


def pinned_workers(argv: list[str], seconds: float) -> None:
    """Time one worker a core, all at once, as a sweep runs them."""
    cores = sorted(os.sched_getaffinity(0))
    flags = f"{os.environ.get('XLA_FLAGS', '')} {processes.THREADS}".strip()
    environment = {**os.environ, "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.step", *argv, f"--core={core}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for core in cores
    ]
    try:
        for worker in workers:
            if _read(worker) != "ready":
                raise SystemExit("a worker did not start")
        totals = []
        for _ in range(max(3, round(seconds))):
            start = time.time() + 0.05
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(f"{start} 1.0\n")
                worker.stdin.flush()
            totals.append(sum(float(_read(worker)) for worker in workers))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    rate = statistics.median(totals)
    row(f"{len(cores)} pinned workers together, D128", f"{rate:,.0f} tokens/s")
    useful = flops_per_token(step.arguments(argv))
    row("", f"{rate * useful / 1e9:.1f} useful GFLOP/s")


def _read(worker: subprocess.Popen) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def compile_seconds(depth: int) -> float:
    """Seconds to trace, lower and compile the step of a scanned network, nothing cached."""
    from research import programs

    shape = step.arguments([*SMALL, f"--depth={depth}", "--unroll=1"])
    jax.clear_caches()
    programs._build.cache_clear()
    start = time.perf_counter()
    program = programs.build(step.config(shape))
    tokens = jax.ShapeDtypeStruct((shape.batch, shape.length + 1), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    index = jax.ShapeDtypeStruct((), jnp.int32)
    key = jax.eval_shape(jax.random.key, 0)
    program.step.lower(program.state, {"tokens": tokens}, key, index, number).compile()
    return time.perf_counter() - start


def compile_times(repeats: int = 3) -> None:
    """Compile depths 4 and 24 in turn and print the ratio of the fastest."""
    compile_seconds(2)
    times = [(compile_seconds(4), compile_seconds(24)) for _ in range(repeats)]
    shallow, deep = (min(column) for column in zip(*times, strict=True))
    row("compile, layers scanned, depth 24 : depth 4", f"{deep:.2f} s : {shallow:.2f} s")
    row("", f"{deep / shallow:.2f} x", "at most 1.30 x")


def sweep() -> None:
    """Run the quickstart's text part as a sweep, then its trials one by one with no sharing."""
    from research import study

    config = "experiments/quickstart.py:text"
    python = [sys.executable, "-m", "research"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "ISOFLOP_DATA": str(folder / "data")}

        def seconds(command: list[str], **variables: str) -> float:
            start = time.perf_counter()
            quiet = subprocess.DEVNULL
            subprocess.run(command, check=True, env=environment | variables, stdout=quiet)
            return time.perf_counter() - start

        seconds([*python, "data", "python_stdlib", "--folder", str(folder / "data")])
        workdir = str(folder / "sweep")
        together = seconds(
            [*python, "sweep", "--config", config, "--workdir", workdir, "--workers", "2"]
        )
        alone = 0.0
        for trial in study.load(config).trials:
            keys = {key: trial.config[key] for key in ("size", "budget", "seed")}
            flags = [f"--config.{key}={value}" for key, value in keys.items()]
            workdir = str(folder / "alone" / trial.id)
            command = [*python, "train", "--config", config, "--workdir", workdir, *flags]
            alone += seconds(command, JAX_ENABLE_COMPILATION_CACHE="false")
    row("text sweep : its trials one by one, nothing shared", f"{together:.0f} s : {alone:.0f} s")
    row("", f"{together / alone:.2f} x", "at most 0.33 x")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each row that is timed")
    parser.add_argument("--sweep", action="store_true", help="the sweep's row too")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    product = statistics.median(matrix_product()(0.3) for _ in range(5))
    row("matrix product, 2048 x 2048, float32", f"{product / 1e9:.0f} GFLOP/s")
    train_step(SMALL, options.seconds)
    train_step(LARGE, options.seconds, "at least 55%")
    pinned_workers(SMALL, options.seconds)
    compile_times()
    # In a process of its own, where each core may be a device.
    subprocess.run([sys.executable, "-m", "tests.bench.decode"], check=True)
    if options.sweep:
        sweep()


if __name__ == "__main__":
    main()
