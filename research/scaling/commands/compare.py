"""`python -m research compare`: how many times the FLOPs of B does A need for the same loss."""

import argparse
from pathlib import Path

from research.errors import UserError, nearest
from research.run import storage
from research.scaling.commands.answer import add_answer_options, aligned, answer
from research.scaling.commands.options import add_column_options, read_tables, share
from research.scaling.compare.arms import Refused, split
from research.scaling.compare.restate import exponents
from research.scaling.compare.tuning import tune
from research.scaling.compare.verdict import Comparison, Multiplier, against_first, corrected
from research.scaling.table import Table

EXAMPLE = """examples:
  python -m research compare runs/recipe_text --arms base,muon --out compare.json
  python -m research compare a.csv b.csv --flops C --loss L --out compare.json
  python -m research compare runs/quickstart --conventions
  python -m research compare arms.csv --by optimizer --arms adamw,muon --flops C --loss L \\
      --params N --json

The multiplier is the FLOPs of the first arm over those of the other at equal loss, each at the best
of the sizes that were run: above 1 the other arm is the better one, and C FLOPs of it are worth
m(C) C of the first. Its exponent in C says whether it grows. Runs of one size, budget and seed in
both arms are pairs, whose shared noise drops out. Arms are values of config.arm, of --by COLUMN, or
the parts of a study. With --tuned learning_rate, runs of a cell that differ in it are tries: the
best one counts, and the best loss of k tries is said with bands.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `compare`."""
    add = parser.add_argument
    add("sources", nargs="+", metavar="TABLE", help="two tables, or one table or run folder")
    add("--arms", metavar="A,B[,C]", help="which arms: the first is held against each other")
    add("--by", metavar="COLUMN", help="the column that names arms (default: arm)")
    add_column_options(parser)
    add("--flops", metavar="COLUMN", help="training FLOPs C; without it C = 6ND")
    add("--score", metavar="NAME", help="of a run folder: the score that is the loss")
    add("--part", help="one part of a run folder (default: each that has the arms)")
    add(
        "--conventions",
        nargs="*",
        metavar="NAME",
        help="of a run folder: how the exponent of N_opt moves with what N and C count (default:"
        " all; groups of parameters are named as in blocks+head)",
    )
    add("--tuned", metavar="COLUMNS", help="hyper-parameters tried: each cell counts at its best")
    add("--level", type=share("--level", 0.95), default=0.95, help="of the intervals")
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and write compare.json; where all is refused that is written, and exit 2.

    Raises:
        UserError: arguments or tables that cannot be used; nothing is written then.
        Refused: no two arms can be held against each other.
    """
    if args.conventions is not None:
        return _conventions(args)
    parts, found = [], []
    columns = [name.strip() for name in (args.tuned or "").split(",") if name.strip()]
    for part, arms in _arms(args).items():
        tuned = tune(arms, columns, args.level) if columns else None
        each = against_first(tuned.arms if tuned else arms, args.level, tuned)
        parts, found = [*parts, *[part] * len(each)], [*found, *each]
    found = corrected(found)
    rows = [{"part": part, **each.to_json()} for part, each in zip(parts, found, strict=True)]
    refused = [each.refused for each in found]
    lines = [line for part, each in zip(parts, found, strict=True) for line in _lines(part, each)]
    content = found[0].to_json() | ({"comparisons": rows} if len(rows) > 1 else {})
    if all(refused):
        if args.json or args.out:
            answer(args, content, [])
        raise Refused("; ".join(dict.fromkeys(map(str, refused))))
    answer(args, content, lines)
    return 0


def _conventions(args: argparse.Namespace) -> int:
    """Print the exponent of N_opt under each convention of N and C.

    Raises:
        UserError: not one run folder, or none that can be read.
    """
    if len(args.sources) > 1 or not storage.is_folder(args.sources[0]):
        raise UserError(f"--conventions: expected one run folder, got {' '.join(args.sources)}")
    rows = exponents(args.sources[0], args.conventions, bootstrap=400, level=args.level)
    head = ("part", "N counts", "C counts", "N_opt ~ C^a", f"{args.level:.0%} interval")
    cells = [
        (row["part"] or "", row["size"], row["compute"], f"refused: {row['refused']}")
        if row["refused"]
        else (
            *(row["part"] or "", row["size"], row["compute"], f"{row['exponent']:.3f}"),
            f"[{row['low']:.3f}, {row['high']:.3f}]",
        )
        for row in rows
    ]
    answer(args, {"exponents": rows}, aligned(head, cells))
    return 0


def _arms(args: argparse.Namespace) -> dict[str, dict[str, Table]]:
    """The arms of each part, by name; a table has one part, called "".

    Raises:
        UserError: arms that are not there, or options that do not go together.
    """
    names = [name.strip() for name in (args.arms or "").split(",") if name.strip()]
    if len(args.sources) > 2:
        raise UserError(f"{len(args.sources)} tables: expected two, or one with --arms A,B")
    if args.arms is not None and len(names) < 2:
        raise UserError(f"--arms {args.arms}: expected two names or more, such as base,muon")
    if len(set(names)) < len(names):
        raise UserError(f"--arms {args.arms}: a name stands there twice; expected different arms")
    if len(args.sources) == 2:
        return {"": _two_tables(args, names)}
    if not names:
        raise UserError(
            f"{args.sources[0]}: name two arms of it with --arms A,B, or a second table"
        )
    tables = _read(args, args.sources[0])
    if args.part:
        tables = {args.part: tables[args.part]}
    column = args.by or "arm"
    if args.by is None and all(name in tables for name in names):
        return {"": {name: tables[name] for name in names}}
    having = {
        part: table
        for part, table in tables.items()
        if column in table.frame and set(names) & set(table.frame[column].astype(str))
    }
    if not having:
        known = [str(v) for t in tables.values() if column in t.frame for v in t.frame[column]]
        known = sorted({*known, *(tables if args.by is None else ())} - {""})
        if any(column in table.frame for table in tables.values()) and known:
            hint = f"{nearest(names[0], known)}; it has {', '.join(known)}"
            raise UserError(f"--arms: no {column} {names[0]!r} in {args.sources[0]}{hint}")
        having = tables
    return {part: split(table, column, names) for part, table in having.items()}


def _two_tables(args: argparse.Namespace, names: list[str]) -> dict[str, Table]:
    for option in ("by", "part"):
        if getattr(args, option):
            raise UserError(f"--{option}: only for one table that holds both arms")
    if not names:
        names = [Path(source).stem for source in args.sources]
        if names[0] == names[1] and args.sources[0] != args.sources[1]:
            names = args.sources
    if len(names) != 2:
        raise UserError(f"--arms {args.arms}: {len(names)} names for two tables")
    if names[0] == names[1]:
        names = [names[0], f"{names[1]} again"]
    tables = [_read(args, source) for source in args.sources]
    for source, found in zip(args.sources, tables, strict=True):
        if len(found) > 1:
            raise UserError(
                f'{source} has parts {", ".join(found)}: --where "part == ..." picks one'
            )
    return {name: next(iter(found.values())) for name, found in zip(names, tables, strict=True)}


def _read(args: argparse.Namespace, source: str) -> dict[str, Table]:
    folder = storage.is_folder(source)
    if args.score and not folder:
        raise UserError(f"--score: only for a run folder; --loss names the column of {source}")
    loss = args.score or args.loss if folder else args.loss
    given = argparse.Namespace(**{**vars(args), "source": source, "loss": loss, "group": None})
    return read_tables(given)


def _lines(part: str, found: Comparison) -> list[str]:
    """A comparison as a table: a row a resource, then its warnings."""
    named = f"{part}: " * bool(part) + " over ".join(found.names)
    if found.flops is None:
        return [f"{named}: refused: {found.refused}"]
    how = "paired" if found.paired else "not paired"
    least, most = found.flops.losses
    said = [
        f"{named} at equal loss, from {most:.4g} down to {least:.4g}"
        f" (p = {found.p_value:.2g}, {how})"
    ]
    head = ("", "times", f"{found.level:.0%} interval", "at loss", "exponent", "", "")
    resources = {"FLOPs": found.flops, **found.others}
    said += aligned(head, [_row(name, value) for name, value in resources.items()])
    if set(found.flops.value) == {1.0}:
        said.append("  both arms are the same runs")
    said += [f"  warning {finding.line}" for finding in found.findings]
    return said + (_tuning(found) if found.tuned else [])


def _tuning(found: Comparison) -> list[str]:
    """The expected best of both arms after all their tries, and where bands part, cell by cell."""
    assert found.tuned is not None
    said = []
    for cell, curves in found.tuned.curves.items():
        best = ", ".join(
            f"{name} {curves[name].expected[0]:.4g} untuned, {curves[name].expected[-1]:.4g} after"
            f" {curves[name].tries[-1]} tries"
            for name in found.names
        )
        said.append(f"  {cell}: {best}")
        tries = found.tuned.helps[cell][found.names[1]]
        shown = f"of {tries[0]} to {tries[-1]} tries" if tries else "of no number of tries"
        said.append(f"    {found.names[1]} is shown to be better at the best {shown}")
    return said


def _row(name: str, found: Multiplier | str) -> tuple[str, ...]:
    if isinstance(found, str):
        return name, f"refused: {found}"
    value, low, high = found.value
    row = (name, f"{value:.3g}", f"[{low:.3g}, {high:.3g}]", f"{found.at_loss:.4g}")
    if found.trend is None:
        return (*row, "", "", "")
    exponent, low, high = found.trend
    return (*row, f"{exponent:.2g}", f"[{low:.2g}, {high:.2g}]", found.says)
