"""Docstrings from code: the first line of a held-out function's docstring, written greedily.

The prompt is the function without its docstring, and then its signature once more, as if it were
documented now. What follows the opening quotes is held against the true line by BLEU, chrF, ROUGE-L
and, where nltk has WordNet, METEOR (`research.evaluation.sequences`).
"""

import re
from typing import Any

from research.errors import UserError
from research.evaluation import functions, greedy, likelihood, prompts, sequences
from research.evaluation.intervals import Estimate

SHORTEST, LONGEST = 16, 72  # bytes of a line that is asked for
QUOTES = '"""'
METRICS = {
    "docstring_bleu": ("BLEU", sequences.bleu),
    "docstring_chrf": ("chrF", sequences.chrf),
    "docstring_rouge": ("ROUGE-L F1", sequences.rouge),
    "docstring_meteor": ("METEOR", sequences.meteor),
}


def check(config: Any, spec: dict[str, Any]) -> None:
    sequences.check_installed()
    likelihood.check(config, spec, "docstrings", ("drawn_from",))
    likelihood.check_text(config, "docstrings")
    if config.data.length <= LONGEST:
        raise UserError(
            f"config.data.length={config.data.length} is too short for evaluator 'docstrings', "
            f"whose lines have up to {LONGEST} bytes; nearest valid: {LONGEST + 1}"
        )


def score_kinds(config: Any) -> dict[str, dict[str, str]]:
    there = [name for name in METRICS if name != "docstring_meteor" or sequences.has_wordnet()]
    kind = {"kind": "exact", "better": "higher"}
    return {name: {"unit": METRICS[name][0], **kind} for name in there}


def questions(config: Any) -> list[tuple[str, str]]:
    """(prompt, the line that is wanted) of functions whose docstring begins with a fit line."""
    found = []
    for each in functions.held_out(config):
        line = each.docstring.partition("\n")[0]
        if SHORTEST <= len(line.encode()) <= LONGEST and each.quoted.startswith(QUOTES):
            found.append((f"{each.head}\n{each.indented}\n{each.head}\n    {QUOTES}", line))
    return found


def measure(config: Any, params: Any) -> dict[str, Estimate]:
    """The scores of what the network writes for as many functions as examples are asked for."""
    asked = prompts.spread(questions(config), config.evaluation.examples)
    texts = [prompt for prompt, _ in asked]
    written = greedy.complete(config, params, texts, LONGEST + 1, b"\n")
    lines = [re.split(f"\n|{QUOTES}", text.decode(errors="replace"))[0] for text in written]
    wanted = [line for _, line in asked]
    return {name: METRICS[name][1](lines, wanted) for name in score_kinds(config)}
