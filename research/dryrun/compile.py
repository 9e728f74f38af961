"""Compile a config's real training step for devices that are not here, and ask what it needs."""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import numpy as jnp
from ml_collections import ConfigDict

from research import cost, data, programs
from research.dryrun.share import local_bytes
from research.errors import UserError

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
AMOUNT = r"([\d.]+)([KMGTP]?)"
# What libtpu and XLA's GPU compiler say of a program that needs more than there is.
REFUSALS = (
    rf"Used {AMOUNT} of {AMOUNT} hbm",
    rf"\({AMOUNT}\) exceeds available HBM \({AMOUNT}\)",
    rf"trying to allocate {AMOUNT}i?B?",
)


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one device's step; bytes.

    Attributes:
        arguments: the state and the batch.
        temporaries: what lives only within the step; None when the compiler refused it.
        peak: arguments, temporaries and results that do not reuse the arguments' place. Of a
            refused program, what the compiler said it needs, or None when it did not say.
        refusal: the compiler's line when it ran out of memory, else "".
        text: the optimised HLO, or None when it cannot be printed.
    """

    arguments: int
    temporaries: int | None
    peak: int | None
    seconds: float
    refusal: str = ""
    text: str | None = None


def step_arguments(config: ConfigDict, program: programs.Programs) -> tuple:
    """Shapes of what the step takes: state, batch, key, step and learning rate."""
    given = cost.inputs(data.outline(config.data), config.train.batch_size)
    batch = programs.laid_out(given["batch"], dict.fromkeys(given["batch"], program.batch))
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    return program.state, batch, given["key"], given["step"], rate


def compile_step(config: ConfigDict, devices: Sequence[Any], fast: bool = False) -> Compiled:
    """Compile the step of `config` for `devices`, which are in the order of its mesh.

    A program that is too large is an answer, not an error.

    Args:
        fast: with fewer optimisations (O1): about four times sooner, memory within a few percent.

    Raises:
        UserError: when the compiler refuses it for another reason.
    """
    began = time.perf_counter()
    program = programs.build(config, devices)
    arguments = step_arguments(config, program)
    known = local_bytes(arguments[:2])
    try:
        with _optimised("O1" if fast else "UNKNOWN"):
            compiled = program.step.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        seconds = time.perf_counter() - began
        message = str(error)
        if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
            raise UserError(f"the compiler refused the step: {message.splitlines()[0]}") from error
        return Compiled(known, None, needed(message), seconds, message.splitlines()[0])
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes + kept
    try:
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError:  # libtpu cannot print some of its own programs
        text = None
    return Compiled(
        memory.argument_size_in_bytes, memory.temp_size_in_bytes, peak, seconds, text=text
    )


@contextlib.contextmanager
def _optimised(level: str) -> Iterator[None]:
    """Compile at this level of optimisation; "UNKNOWN" is the compiler's own."""
    former = jax.config.jax_optimization_level  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_optimization_level", level)
    try:
        yield
    finally:
        jax.config.update("jax_optimization_level", former)


def needed(message: str) -> int | None:
    """Bytes that a compiler's out-of-memory message says the program needs; None if it does not.

    Example: "Used 36.11G of 15.75G hbm" is 36.11 GiB.
    """
    for pattern in REFUSALS:
        if found := re.search(pattern, message):
            return round(float(found[1]) * UNITS[found[2]])
    return None
