"""`python -m research reproduce`: published results against ours, line by line, pass or fail."""

import argparse

from research.errors import UserError
from research.scaling.commands.answer import add_answer_options, aligned, answer
from research.scaling.reproduce import Line, Reproduction, load, names, reproduce, title

EXAMPLE = """examples:
  python -m research reproduce
  python -m research reproduce hoffmann2022
  python -m research reproduce besiroglu2024 --data svg_extracted_data.csv

Without NAME: the papers, and the data each wants. Exit code 0 when every line passes, 1 when one
fails, 2 when it could not be tried.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `reproduce`."""
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="a file of experiments/papers/, without .py")
    add("--data", metavar="PATH", help="the paper's table, or a folder that holds it")
    add_answer_options(parser, out=None)


def run(args: argparse.Namespace) -> int:
    """Print a paper's lines, or the papers; returns 1 when a line failed.

    Raises:
        UserError: an unknown paper, or data that are missing or cannot be read.
    """
    if args.name is None:
        if args.data is not None:
            raise UserError(f"--data: name the paper too; one of {', '.join(names())}")
        papers = {name: load(name) for name in names()}
        content = [{"paper": n, "title": title(p), "data": p.DATA} for n, p in papers.items()]
        shown = [f"{n:<17}{title(p)}\n{'':<17}data: {p.DATA or 'none'}" for n, p in papers.items()]
        answer(args, content, shown)
        return 0
    result = reproduce(args.name, args.data)
    answer(args, result.to_json(), lines(result))
    return 0 if result.passed else 1


def lines(result: Reproduction) -> list[str]:
    """The table of lines, what was learned, and how many passed."""
    head = ("", "published", "ours", "difference", "allowed", "verdict")
    said = [f"{result.name}: {result.title}", *aligned(head, map(_row, result.lines))]
    said += [f"{line.name}: {line.note}" for line in result.lines if line.note]
    passed = sum(line.passed for line in result.lines)
    return [*said, f"learned: {result.learned}", f"{passed} of {len(result.lines)} lines pass"]


def _row(line: Line) -> tuple[str, ...]:
    published, ours = (
        value if isinstance(value, str) else f"{value:.9g}" for value in (line.published, line.ours)
    )
    gap = "" if line.difference is None else f"{line.difference:+.2g}"
    allowed = ""
    if line.tolerance is not None:
        allowed = f"within {line.tolerance:.2g}"
    elif line.interval is not None:
        allowed = f"{line.interval[0]:.5g} to {line.interval[1]:.5g}"
    return line.name, published, ours, gap, allowed, "pass" if line.passed else "FAIL"
