"""The options that verbs of the law lab share: a table and its columns, a fitted law, the draws."""

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from research.errors import UserError, nearest
from research.run import storage
from research.run.record import read_json
from research.scaling import laws
from research.scaling.table import Table, asked, read_file, read_frame, read_runs
from research.scaling.table.cells import number_of
from research.scaling.table.columns import LARGEST, OPTIONS

COLUMNS = ("params", "data", "loss", "flops", "unique", "group", "where")


def within(
    option: str,
    kind: Callable[[str], float | None],
    holds: Callable[[float], bool],
    expected: str,
) -> Callable[[str], Any]:
    """A `type` of argparse: what `kind` reads, where it `holds`; else a UserError."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise UserError(f"{option} {text}: expected {expected}")
        return value

    return read


def amount(option: str) -> Callable[[str], float]:
    """A `type` of argparse: a count as people write it, 163e6 or 163M."""
    expected = f"a positive number up to {LARGEST:g}, such as 1e21 or 163M"
    return within(option, number_of, lambda value: 0 < value <= LARGEST, expected)


def at_least(option: str, low: int) -> Callable[[str], int]:
    """A `type` of argparse: a whole number from `low` up."""
    return within(option, int, lambda value: value >= low, f"{low} or more")


def share(option: str, example: float) -> Callable[[str], float]:
    """A `type` of argparse: a number between 0 and 1."""
    expected = f"a share between 0 and 1, such as {example:g}"
    return within(option, float, lambda value: 0 < value < 1, expected)


def add_arm_options(parser: argparse.ArgumentParser, figure: str) -> None:
    """Declare what verbs that go arm by arm share; `figure` says what --figure draws."""
    add = parser.add_argument
    add("--by", default="arm", metavar="COLUMN", help="the column that names arms (default: arm)")
    add("--level", type=share("--level", 0.95), default=0.95, help="of the intervals")
    add("--figure", metavar="FILE", help=f"{figure}: PNG and SVG of that name")


def pairs(option: str, words: Iterable[str], kind: str, example: str) -> dict[str, str]:
    """Name -> what stands after it, of words NAME=`kind`.

    Raises:
        UserError: a word that is not so, or a name given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, value = map(str.strip, word.partition("="))
        if not (name.isidentifier() and value):
            raise UserError(f"{option} {word!r}: expected NAME={kind}, as in {example}")
        if name in found:
            raise UserError(f"{option} {word!r}: {name} is taken: it is given twice")
        found[name] = value
    return found


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Declare TABLE, its columns, and which rows and part of it to take."""
    add = parser.add_argument
    add(
        "source",
        metavar="TABLE",
        help="a table (CSV, Markdown, JSON lines, Parquet; - is standard input), or a run folder",
    )
    add_column_options(parser)
    add("--flops", metavar="COLUMN", help="training FLOPs C, exact or nominal; without it C = 6ND")
    add("--group", metavar="COLUMN", help="what the bootstrap resamples (default: each row)")
    add("--part", help="one part of a run folder")


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """Declare the columns of the variables of laws, and which rows to take."""
    add = parser.add_argument
    add("--params", metavar="COLUMN", help="parameters N")
    add("--data", metavar="COLUMN", help="tokens or images D")
    add("--loss", metavar="COLUMN", help="loss L; of a run folder the name of a score")
    add("--unique", metavar="COLUMN", help="unique tokens or images U, where data repeat")
    add(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="another variable of the law, e.g. experts=num_experts; may be repeated",
    )
    add("--where", metavar="EXPRESSION", help="rows to take, e.g. \"optimizer == 'adamw'\"")


def column_pairs(args: argparse.Namespace) -> dict[str, str]:
    """Variable -> column, as --column names them.

    Raises:
        UserError: as `pairs`, or a variable that has an option of its own.
    """
    found = pairs("--column", args.column, "COLUMN", "experts=num_experts")
    for name, column in found.items():
        if name in OPTIONS:
            raise UserError(f"--column '{name}={column}': {name} is taken: use {OPTIONS[name]}")
    return found


def read_tables(
    args: argparse.Namespace, signed_loss: bool = False, choices: int | None = None
) -> dict[str, Table]:
    """The table that `args` names, as {"": table}, or those of a run folder, --part first.

    `signed_loss` and `choices` are those of `from_frame`.

    Raises:
        UserError: options that do not go with the source, or a table that cannot be read.
    """
    given: dict[str, Any] = {name: getattr(args, name) for name in COLUMNS} | {"choices": choices}
    if storage.is_folder(args.source):
        for name, value in {**given, "column": args.column}.items():
            if value and name not in ("where", "loss"):
                raise UserError(f"--{name}: only for a table; a run folder knows its own columns")
        tables = read_runs(args.source, args.where, args.loss)
        if args.part:
            tables = {args.part: _part(args.part, tables, args.source), **tables}
    elif args.part:
        raise UserError("--part: only for a run folder")
    elif not args.loss:
        raise UserError(f"--loss: name the column of {args.source} that holds it")
    else:
        extra = column_pairs(args)
        tables = {"": read_file(args.source, extra=extra, signed_loss=signed_loss, **given)}
    say(note for table in tables.values() for note in table.notes)
    return tables


def read_rows(
    path: str, where: str | None, numbers: dict[str, str] | None = None, added: Iterable[str] = ()
) -> pd.DataFrame:
    """The rows of a table that --where takes, whose index numbers them in the file from 0.

    Raises:
        UserError: as `read_frame` and `asked`, or a column that has the name of one to be `added`.
    """
    frame, notes = asked(read_frame(path), numbers or {}, path, where=where)
    for name in added:
        if name in frame:
            raise UserError(f"{path}: has a column {name!r} already; rename it")
    say(notes)
    return frame


def _part(part: str, parts: Any, source: str) -> Any:
    known = list(parts) if isinstance(parts, dict) else []
    if part not in known:
        has = ", ".join(known) or "none"
        raise UserError(f"--part: no part {part!r} in {source}{nearest(part, known)}; it has {has}")
    return parts[part]


def say(notes: Iterable[str]) -> None:
    """What was read as what, a line each on standard error: the results go to standard output."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def add_draw_options(parser: argparse.ArgumentParser, bootstrap: int, level: float) -> None:
    """Declare how intervals are drawn."""
    add, most = parser.add_argument, 1_000_000
    draws = within("--bootstrap", int, lambda n: 100 <= n <= most, f"100 to {most} draws")
    add("--bootstrap", type=draws, default=bootstrap, metavar="DRAWS")
    add("--level", type=share("--level", 0.95), default=level, help="of the intervals")
    add("--seed", type=at_least("--seed", 0), default=0, help="of the bootstrap")


def draw_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords bootstrap, level and seed."""
    return {"bootstrap": args.bootstrap, "level": args.level, "seed": args.seed}


def add_law_options(parser: argparse.ArgumentParser, does: str) -> None:
    """Declare LAWS.json, whose law it holds, the law's variables and --anyway."""
    add = parser.add_argument
    add("laws", metavar="LAWS.json", help="what `fit --out` wrote")
    add("--law", metavar="FILE.py", help="the file of the law, where it is your own")
    add(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="the law's other variables"
    )
    add("--part", help="the part of a study's laws.json (default: its first)")
    add("--anyway", action="store_true", help=f"{does} even where check 13 says not to extrapolate")


def law_options(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The JSON of the law that `args` name, the file's own or a part's, and own and anyway.

    Only the file that --law names is ever run.

    Raises:
        UserError: a file that cannot be read, a part it has not, or no such law.
    """
    content = read_json(args.laws)
    if args.part is not None:
        parts = content.get("parts") if isinstance(content, dict) else None
        content = _part(args.part, parts, args.laws)
    return content, {"own": laws.get(args.law) if args.law else None, "anyway": args.anyway}


def settings(args: argparse.Namespace) -> dict[str, str]:
    """Variable -> what --set says of it.

    Raises:
        UserError: as `pairs`.
    """
    return pairs("--set", args.set, "VALUE", "granularity=8")


def setting(name: str) -> Callable[[str], float]:
    """A `type` for a value of --set, of either sign."""
    expected = f"a number of at most {LARGEST:g}"
    return within(f"--set {name}", number_of, lambda value: abs(value) <= LARGEST, expected)
