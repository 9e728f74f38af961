"""The options by which every verb of the law lab names a table and its columns."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from research.errors import UserError, nearest
from research.run import storage
from research.scaling.doubt.support import OPTIONS
from research.scaling.table import Table, read_file, read_runs

COLUMNS = ("params", "data", "loss", "flops", "unique", "group", "where")


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


def read_tables(
    args: argparse.Namespace, signed_loss: bool = False, choices: int | None = None
) -> dict[str, Table]:
    """The table that `args` names, as {"": table}, or those of a run folder by part.

    `signed_loss` and `choices` are those of `from_frame`.

    Raises:
        UserError: options that do not go with the source, or a table that cannot be read.
    """
    given: dict[str, Any] = {name: getattr(args, name) for name in COLUMNS}
    if not storage.is_folder(args.source):
        if args.part:
            raise UserError("--part: only for a run folder")
        if not args.loss:
            raise UserError(f"--loss: name the column of {args.source} that holds it")
        given |= {
            "extra": column_pairs(args.column),
            "signed_loss": signed_loss,
            "choices": choices,
        }
        table = read_file(args.source, **given)
        say(note for note in table.notes if note.startswith(table.source))
        return {"": table}
    for name, value in {**given, "column": args.column, "choices": choices}.items():
        if value and name not in ("where", "loss"):
            raise UserError(f"--{name}: only for a table; a run folder knows its own columns")
    tables = read_runs(args.source, args.where, args.loss)
    say(note for table in tables.values() for note in table.notes)
    if args.part and args.part not in tables:
        raise UserError(
            f"--part: no part {args.part!r} in {args.source}{nearest(args.part, tables)};"
            f" it has {', '.join(tables)}"
        )
    return tables


def say(notes: Iterable[str]) -> None:
    """What was read as what, a line each on standard error: the results go to standard output."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def column_pairs(words: list[str]) -> dict[str, str]:
    """Variable -> column, as --column names them.

    Raises:
        UserError: a word that is not NAME=COLUMN, or a name given twice or with an option.
    """
    pairs = {}
    for word in words:
        name, equals, column = word.partition("=")
        if not (name.isidentifier() and equals and column):
            raise UserError(f"--column {word!r}: expected NAME=COLUMN, as in experts=num_experts")
        if name in OPTIONS:
            raise UserError(f"--column {word!r}: {name} is taken: use {OPTIONS[name]}")
        if name in pairs:
            raise UserError(f"--column {word!r}: {name} is taken: it is given twice")
        pairs[name] = column
    return pairs


def add_draw_options(parser: argparse.ArgumentParser, bootstrap: int, level: float) -> None:
    """Declare how intervals are drawn."""
    add = parser.add_argument
    add("--bootstrap", type=int, default=bootstrap, metavar="DRAWS")
    add("--level", type=float, default=level, help="of the intervals")
    add("--seed", type=int, default=0, help="of the bootstrap")


def draw_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords bootstrap, level and seed.

    Raises:
        UserError: one of them out of range.
    """
    if not 100 <= args.bootstrap <= 1_000_000:
        raise UserError(f"--bootstrap {args.bootstrap}: expected 100 to 1000000 draws")
    if not 0 < args.level < 1:
        raise UserError(f"--level {args.level:g}: expected a share between 0 and 1, such as 0.95")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more")
    return {"bootstrap": args.bootstrap, "level": args.level, "seed": args.seed}
