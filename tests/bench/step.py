"""One train step on random tokens, timed in windows, in this process or in one pinned to a core.

`setup(arguments(argv))`, then `window(seconds)` any number of times: so that a harness can
interleave it with somebody else's model. `python -m tests.bench.step --core 0` does that on
request: it prints `ready`, then answers each line of input, a start time and seconds.
"""

import argparse
import os
import sys
import time
from typing import Any

STATE: dict[str, Any] = {}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the shape; the default is the small one."""
    parser = argparse.ArgumentParser()
    shape = {"width": 128, "depth": 4, "heads": 4, "length": 128, "batch": 32, "vocab": 256}
    for name, value in shape.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--unroll", type=int, default=0, help="deepest stack unrolled; 0: the default"
    )
    parser.add_argument("--activation", default="relu2")
    parser.add_argument("--core", type=int, help="pin this process to a core")
    return parser.parse_args(argv)


def config(shape: argparse.Namespace) -> Any:
    """The complete config of an autoregressive run of this shape."""
    from research import defaults, recipes

    tree = defaults.config("autoregressive", "python_stdlib", optimizer="adamw")
    tree.recipe = "fixed"
    tree.model.update(
        width=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        vocab_size=shape.vocab,
        activation=shape.activation,
        qk_norm=False,
        smear=False,
    )
    tree.train.clip_norm = 1.0
    tree.data.length = shape.length
    tree.train.update(batch_size=shape.batch, steps=1000, learning_rate=1e-3, warmup_steps=20)
    tree.hardware.unroll = shape.unroll or tree.hardware.unroll
    return recipes.apply(tree)


def setup(shape: argparse.Namespace) -> None:
    """Compile the step and run it until it is warm."""
    import jax
    import numpy as np

    from research import programs, runtime

    runtime.keep_memory()
    program = programs.build(config(shape))
    generator = np.random.default_rng(0)
    size = (shape.batch, shape.length + 1)
    batches = [
        jax.device_put({"tokens": generator.integers(0, shape.vocab, size, np.int32)})
        for _ in range(4)
    ]
    state = program.init(jax.random.key(0))
    STATE.update(program=program, state=state, batches=batches, done=0, key=jax.random.key(0))
    STATE.update(tokens=shape.batch * shape.length)
    for _ in range(3):
        _step()
    jax.block_until_ready(STATE["loss"])


def _step() -> None:
    done = STATE["done"]
    STATE["state"], metrics = STATE["program"].step(
        STATE["state"], STATE["batches"][done % 4], STATE["key"], done, 1e-3
    )
    STATE.update(done=done + 1, loss=metrics["loss"])


def window(seconds: float) -> float:
    """Tokens a second over about `seconds`, waiting for the device once every few steps."""
    start, steps, burst = time.perf_counter(), 0, 1
    while True:
        for _ in range(burst):
            _step()
        STATE["loss"].block_until_ready()
        steps += burst
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return steps * STATE["tokens"] / elapsed
        burst = max(1, min(8, int((seconds - elapsed) * steps / elapsed)))


def main() -> None:
    shape = arguments()
    if shape.core is not None:
        os.sched_setaffinity(0, {shape.core})  # before JAX counts the cores
    setup(shape)
    print("ready", flush=True)
    for line in sys.stdin:
        start, seconds = map(float, line.split())
        time.sleep(max(0.0, start - time.time()))
        print(window(seconds), flush=True)


if __name__ == "__main__":
    main()
