"""How every verb of the law lab answers: lines for people, or JSON, and perhaps a file."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_SHOWN = 40  # rows of a table that are printed


def add_answer_options(
    parser: argparse.ArgumentParser, out: str | None = "write the result here as JSON"
) -> None:
    """Declare --json and, where `out` says what it writes, --out."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if out:
        parser.add_argument("--out", metavar="FILE", help=out)


def answer(
    args: argparse.Namespace, content: Any, lines: Iterable[str], written: bool = True
) -> None:
    """Print `content` as JSON where --json asks for it, else `lines`, and where --out was written.

    Full precision is in the JSON; lines round.
    """
    if args.json:
        print(json.dumps(content, indent=2))
        return
    print("\n".join(lines))
    if getattr(args, "out", None) and written:
        print(f"wrote {args.out}")


def prediction_lines(
    numbers: Sequence[int],
    columns: Mapping[str, Any],
    predicted: tuple[str, Any],
    interval: Any,
    level: float,
) -> list[str]:
    """Rows, called by their `numbers`: what a law reads, its prediction and a run's interval.

    `columns` maps variables to values [rows], `predicted` is what is predicted and its values
    [rows], `interval` [2, rows] or None; of a long table the first rows.
    """
    names = "".join(f"{name[:12]:>13}" for name in (*columns, predicted[0]))
    within = "" if interval is None else f"{f'{level:.0%} of runs within':>26}"
    said = [f"  {'row':>6}{names}{within}"]
    values = [*columns.values(), predicted[1], *(() if interval is None else interval)]
    for k, number in enumerate(numbers[:MOST_SHOWN]):
        said.append(f"  {number:>6}" + "".join(f"{float(each[k]):>13.6g}" for each in values))
    left = len(numbers) - MOST_SHOWN
    return said + ([f"  and {left} more rows: --out FILE.csv writes all"] if left > 0 else [])
