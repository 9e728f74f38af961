"""Multiple choice about held-out functions of the standard library, four options a question.

Two tasks: which body belongs to a signature with its docstring, and which name to a docstring. The
right option is the function's own; the wrong ones are the nearest in length of other functions of
the same files. The network chooses the option of the highest likelihood per byte after the prompt
(Brown et al. 2020, section 2.4). A share has its 95% interval; guessing scores a quarter.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from research.data import source
from research.errors import UserError
from research.evaluation import functions, intervals, likelihood, prompts
from research.evaluation.functions import Function

OPTIONS = 4
SHORTEST, LONGEST = 16, 96  # bytes of a body that is asked for
TASKS = ("choice_body", "choice_name")

Question = tuple[str, list[str], int]  # a prompt, the options, and which is right


def check(config: Any, spec: dict[str, Any]) -> None:
    likelihood.check(config, spec, "choice")
    likelihood.check_text(config, "choice")
    if config.data.length < LONGEST:
        raise UserError(
            f"config.data.length={config.data.length} is too short for evaluator 'choice', whose "
            f"options have up to {LONGEST} bytes; nearest valid: {LONGEST}"
        )


def score_kinds(config: Any) -> dict[str, dict[str, Any]]:
    kind = {"unit": "share of questions", "kind": "exact", "better": "higher"}
    return {task: {**kind, "chance": 1 / OPTIONS} for task in TASKS}


def examples(config: Any) -> source.Source:
    """Questions: "tokens" [options, L + 1], "weights" [options, L], "bytes" [options] that an
    option has, "answer" and "task"."""
    found, encode = functions.held_out(config), prompts.encoder(config)
    tasks = [bodies(found), names(found)]
    windows = [
        prompts.windows([(prompt, option) for option in options], config.data.length, encode)
        for questions in tasks
        for prompt, options, _ in questions
    ]
    spelled = [[len(o.encode()) for o in q[1]] for questions in tasks for q in questions]
    arrays = {
        "tokens": np.stack([tokens for tokens, _ in windows]),
        "bytes": np.array(spelled, np.float32),
        "weights": np.stack([weights for _, weights in windows]),
        "answer": np.array([q[2] for questions in tasks for q in questions], np.int32),
        "task": np.repeat(np.arange(len(tasks)), [len(each) for each in tasks]).astype(np.int32),
    }
    return source.rows("validation", arrays)


def bodies(found: list[Function]) -> list[Question]:
    """Which body belongs to a signature, and to the docstring where there is one."""
    fit = [f for f in found if SHORTEST <= len(f.indented.encode()) <= LONGEST]
    return _questions(fit, lambda f: f.prompt, lambda f: f.indented)


def names(found: list[Function]) -> list[Question]:
    """Which name belongs to the first line of a docstring that does not say it."""
    fit = [
        f
        for f in found
        if f.docstring.strip()
        and not f.name.startswith("__")
        and not re.search(rf"\b{f.name}\b", f.docstring)
    ]
    return _questions(
        fit, lambda f: f"# {f.docstring.splitlines()[0]}\ndef ", lambda f: f.name + "("
    )


def _questions(
    found: list[Function], prompt: Callable[[Function], str], option: Callable[[Function], str]
) -> list[Question]:
    """A question for each function, with the wrong options nearest in length to the right one."""
    known = sorted({option(each) for each in found}, key=lambda text: (len(text), text))
    if len(known) < OPTIONS:
        raise UserError(
            f"config.data.files: evaluator 'choice' finds {len(known)} options in the validation "
            f"files of python_stdlib, and needs {OPTIONS}"
        )
    # Each place is right equally often, so that no order of the options pays.
    places = np.random.default_rng(0).permutation(np.arange(len(found)) % OPTIONS)
    questions = []
    for each, place in zip(found, map(int, places), strict=True):
        right = option(each)
        others = [text for text in known if text != right]
        wrong = sorted(others, key=lambda text: abs(len(text) - len(right)))[: OPTIONS - 1]
        questions.append((prompt(each), [*wrong[:place], right, *wrong[place:]], place))
    return questions


def update(config: Any, params: Any, batch: dict, key: Any) -> dict[str, jax.Array]:
    """{"right", "count"} of one batch, questions by task."""
    del key
    nats = functools.partial(_nats_per_byte, config, params)
    # One option after another: an evaluation batch is what fits into memory.
    each = [jnp.moveaxis(batch[name], 1, 0) for name in ("tokens", "weights", "bytes")]
    nats_OxB = jax.lax.map(nats, each)
    right_B = nats_OxB.argmin(0) == batch["answer"]
    of_BxT = batch["mask"][:, None] * (batch["task"][:, None] == jnp.arange(len(TASKS)))
    return {"right": right_B @ of_BxT, "count": of_BxT.sum(0)}


def _nats_per_byte(config: Any, params: Any, option: list[jax.Array]) -> jax.Array:
    tokens_BxL, weights_BxL, bytes_B = option
    nats_BxL = likelihood.nats(config, params, {"tokens": tokens_BxL})
    return (nats_BxL * weights_BxL).sum(1) / bytes_B


def finish(config: Any, sums: dict[str, Any]) -> dict[str, intervals.Estimate]:
    return {
        task: intervals.share(right, count)
        for task, right, count in zip(TASKS, sums["right"], sums["count"], strict=True)
    }
