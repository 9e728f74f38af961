"""How every verb of the law lab answers: aligned tables for people, or JSON, and perhaps a file."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.run.record import write_json, write_text

MOST_SHOWN = 40  # rows of a table of predictions that are printed


def add_answer_options(
    parser: argparse.ArgumentParser, out: str | None = "write the result here as JSON"
) -> None:
    """Declare --json and, where `out` says what it writes, --out."""
    parser.set_defaults(out=None)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if out:
        parser.add_argument("--out", metavar="FILE", help=out)


def answer(
    args: argparse.Namespace,
    content: Any,
    lines: Iterable[str],
    text: str | None = None,
    checksum: bool = False,
) -> None:
    """Write `text`, or else the JSON of `content`, to --out; print that JSON by --json, or `lines`.

    Full precision is in the JSON; lines round.
    """
    if args.out and text is not None:
        write_text(args.out, text)
    elif args.out:
        write_json(args.out, content, checksum=checksum)
    said = [*lines, f"wrote {args.out}"] if args.out else lines
    print(json.dumps(content, indent=2) if args.json else "\n".join(said))


def write_figure(name: str, draw: Callable[[], Any]) -> None:
    """Write the chart that `draw` makes as PNG and SVG of --figure's `name`.

    Raises:
        UserError: a name that is no PNG or SVG.
    """
    from research.report import export  # altair and its kin take a second to load

    path = Path(name)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"--figure {path}: expected a name that ends in .png or .svg")
    export.write_pictures(export.print_spec(export.to_spec(draw())), path.parent, path.stem)


def aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of cells under their `head`: the first to the left, the others to the right.

    A row shorter than the head ends in words, which may be of any length.
    """
    rows = [head, *rows]
    whole = [row for row in rows if len(row) == len(head)]
    first, *widths = (max(map(len, column)) for column in zip(*whole, strict=True))
    cells = ([row[0].ljust(first), *map(str.rjust, row[1:], widths)] for row in rows)
    return [f"  {'  '.join(row)}".rstrip() for row in cells]


def estimates(level: float, rows: Iterable[tuple[str, float, Any, str] | tuple]) -> list[str]:
    """A table of what was found: names, values, intervals (two ends or None), perhaps a remark."""
    shown = [
        (name, f"{value:.6g}", "" if ends is None else f"[{ends[0]:.6g}, {ends[1]:.6g}]", *remark)
        for name, value, ends, *remark in rows
    ]
    head = ["", "value", f"{level:.0%} interval", ""]
    return aligned(head[: len(shown[0])], shown)


def predictions(
    numbers: Sequence[int],
    columns: Mapping[str, Any],
    interval: Any,
    level: float,
) -> list[str]:
    """Rows, called by their `numbers`, of `columns` (name -> [rows]) and a run's interval, if any.

    Of a long table the first rows; `interval` is [2, rows].
    """
    head, values = ["row", *columns], [*columns.values()]
    if interval is not None:
        head, values = [*head, f"{level:.0%} of runs within", ""], [*values, *interval]
    rows = [
        (str(number), *(f"{float(each[k]):.6g}" for each in values))
        for k, number in enumerate(numbers[:MOST_SHOWN])
    ]
    left = len(numbers) - MOST_SHOWN
    more = [f"  and {left} more rows: --out FILE.csv writes all"] if left > 0 else []
    return aligned(head, rows) + more
