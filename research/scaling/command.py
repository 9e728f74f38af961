"""`python -m research fit`: a law from a table or a run folder, its intervals and its doubts."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from research.errors import UserError, nearest
from research.record import write_json
from research.scaling import laws
from research.scaling.fit import LawFit, fit_law
from research.scaling.frontier import fit_frontier
from research.scaling.objective import KINDS, parse
from research.scaling.isoflop import IsoflopFit, has_budgets, isoflop
from research.scaling.summary import compare_methods, summary
from research.scaling.table import Table, read_file, read_runs

__all__ = ["add_arguments", "run", "summary"]

EXAMPLE = """examples:
  python -m research fit runs/quickstart --law chinchilla --out laws.json
  python -m research fit table.csv --params N --data D --loss L --law chinchilla --out laws.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fit`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add(
        "source", metavar="TABLE", help="a CSV, TSV or Parquet file, or a run folder (runs/<study>)"
    )
    add("--law", default="chinchilla", help=f"{', '.join(laws.LAWS)} or isoflop")
    add("--params", metavar="COLUMN", help="parameters N")
    add("--data", metavar="COLUMN", help="tokens or images D; without it D = C / 6N")
    add("--loss", metavar="COLUMN", help="loss L")
    add("--flops", metavar="COLUMN", help="training FLOPs C; without it C = 6ND")
    add("--group", metavar="COLUMN", help="what the bootstrap resamples (default: each row)")
    add("--where", metavar="EXPRESSION", help="rows to fit, e.g. \"optimizer == 'adamw'\"")
    add("--drop_highest", type=int, default=0, metavar="K", help="leave out the K highest losses")
    add("--part", help="the part of a run folder that heads laws.json (default: the first)")
    add("--objective", default="huber:1e-3", help=f"{', '.join(KINDS)}")
    add("--bootstrap", type=int, default=4000, metavar="DRAWS")
    add("--level", type=float, default=0.95, help="of the intervals")
    add("--seed", type=int, default=0, help="of the bootstrap")
    add("--out", metavar="FILE", help="write the law here as JSON")


def run(args: argparse.Namespace) -> int:
    """Fit, print, and write laws.json; returns 0, also when the law was refused (it says so).

    Raises:
        UserError: arguments or a table that cannot be fitted at all; nothing is written then.
    """
    _check(args)
    tables = _tables(args)
    first = args.part or next(iter(tables))
    results = {}
    for part, table in tables.items():
        try:
            results[part] = _fit(table, args)
        except UserError as error:
            # A small part of a study (a check, a baseline) must not cost the others their laws.
            if part == first:
                raise
            results[part] = [f"refused: {error}"], _nothing(table, args, str(error))
    if args.out:
        content = results[first][1]
        if Path(args.source).is_dir():
            content = {**content, "parts": {part: found for part, (_, found) in results.items()}}
        write_json(args.out, content)
    for part, (lines, _) in results.items():
        print("\n".join(([f"{part}"] if part else []) + lines))
        print()
    if args.out:
        print(f"wrote {args.out}")
    return 0


def _check(args: argparse.Namespace) -> None:
    parse(args.objective)
    names = [*laws.LAWS, "isoflop"]
    if args.law not in names:
        raise UserError(
            f"--law: no law {args.law!r}{nearest(args.law, names)}; one of {', '.join(names)}"
        )
    if not 100 <= args.bootstrap <= 1_000_000:
        raise UserError(f"--bootstrap {args.bootstrap}: expected 100 to 1000000 draws")
    if not 0 < args.level < 1:
        raise UserError(f"--level {args.level:g}: expected a share between 0 and 1, such as 0.95")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: expected 0 or more")
    if args.drop_highest < 0:
        raise UserError(f"--drop_highest {args.drop_highest}: expected 0 or more")
    folder = Path(args.source).is_dir()
    given = {k: getattr(args, k) for k in ("params", "data", "loss", "flops", "group", "where")}
    if folder and any(given.values()):
        option = next(name for name, value in given.items() if value)
        raise UserError(f"--{option}: only for a table; a run folder knows its own columns")
    if not folder:
        if args.part:
            raise UserError("--part: only for a run folder")
        for option in ("params", "loss"):
            if not given[option]:
                raise UserError(f"--{option}: name the column of {args.source} that holds it")


def _tables(args: argparse.Namespace) -> dict[str, Table]:
    if Path(args.source).is_dir():
        tables = read_runs(args.source)
        if args.part and args.part not in tables:
            known = ", ".join(tables)
            raise UserError(
                f"--part: no part {args.part!r} in {args.source}{nearest(args.part, tables)};"
                f" it has {known}"
            )
    else:
        columns = {
            k: getattr(args, k) for k in ("params", "data", "loss", "flops", "group", "where")
        }
        tables = {"": read_file(args.source, **columns)}
    return {part: _drop_highest(table, args.drop_highest) for part, table in tables.items()}


def _drop_highest(table: Table, count: int) -> Table:
    if not count:
        return table
    if count >= len(table):
        raise UserError(f"--drop_highest {count}: {table.source} has {len(table)} rows")
    bound = np.sort(table["L"])[-count]
    return table.select(table["L"] < bound, f"losses of {bound:.6g} and above left out")


def _fit(table: Table, args: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    options: dict[str, Any] = {
        "bootstrap": args.bootstrap,
        "level": args.level,
        "seed": args.seed,
    }
    if args.law == "isoflop":
        valleys = isoflop(table, **options)
        return _isoflop_lines(valleys), _isoflop_json(valleys, table)
    objective = parse(args.objective)
    if args.law == laws.FRONTIER.name:
        fit = fit_frontier(table, objective=objective, **options)
    else:
        fit = fit_law(table, laws.get(args.law), objective=objective, **options)
        fit = _with_valleys(fit, table, options)
    content = fit.to_json()
    content["notes"] = list(table.notes)
    return law_lines(fit), content


def _with_valleys(fit: LawFit, table: Table, options: dict[str, Any]) -> LawFit:
    """Add checks 6 and 7 where the table holds isoFLOP groups."""
    if not has_budgets(table):
        return fit
    valleys = isoflop(table, **options)
    methods = compare_methods(fit, valleys)
    more = valleys.findings + ([methods] if methods else [])
    return replace(fit, findings=sorted([*fit.findings, *more], key=lambda found: found.code))


def _nothing(table: Table, args: argparse.Namespace, reason: str) -> dict[str, Any]:
    """The schema of laws.json for a part that cannot carry the law at all."""
    return {
        "law": args.law,
        "parameters": None,
        "intervals": None,
        "level": args.level,
        "objective": None,
        "num_runs": len(table),
        "convention": table.convention,
        "warnings": [],
        "refused": reason,
        "part": table.part,
    }


def law_lines(fit: LawFit) -> list[str]:
    """The fitted law as an aligned table, then what is refused and every warning, line by line."""
    runs = f"{fit.num_runs} runs"
    if fit.num_groups != fit.num_runs:
        runs += f" in {fit.num_groups} groups"
    lines = [f"{fit.law.formula}   ({runs}, {fit.convention})"]
    if fit.refused:
        lines.append(f"  refused: {fit.refused}")
    elif fit.parameters and fit.intervals:
        lines.append(f"  {'':<6}{'value':>12}  {f'{fit.level:.0%} interval':^25}")
        for name, value in fit.parameters.items():
            low, high = fit.intervals[name]
            note = "" if fit.profiles[name].identified else "  not identified"
            lines.append(f"  {name:<6}{value:>12.6g}  {low:>12.6g} {high:>12.6g}{note}")
        lines.append(
            f"  objective {fit.objective:.10g} ({fit.criterion.name}), noise of log loss {fit.noise:.3g}"
        )
    lines += [f"  warning {line}" for line in fit.warnings]
    return lines


def _isoflop_lines(valleys: IsoflopFit) -> list[str]:
    lines = [f"N_opt ~ C^a, D_opt ~ C^b   ({len(valleys.kept)} of {len(valleys.valleys)} budgets)"]
    if valleys.refused:
        lines.append(f"  refused: {valleys.refused}")
    elif valleys.params_interval and valleys.data_interval:
        pairs = (
            ("a", valleys.params_exponent, valleys.params_interval),
            ("b", valleys.data_exponent, valleys.data_interval),
        )
        for name, value, (low, high) in pairs:
            lines.append(f"  {name:<6}{value:>12.6g}  {low:>12.6g} {high:>12.6g}")
    return lines + [f"  warning {finding.line}" for finding in valleys.findings]


def _isoflop_json(valleys: IsoflopFit, table: Table) -> dict[str, Any]:
    names = ("params_exponent", "data_exponent", "params_coefficient", "data_coefficient")
    intervals = {
        "params_exponent": valleys.params_interval,
        "data_exponent": valleys.data_interval,
    }
    return {
        **valleys.to_json(),
        "law": "isoflop",
        "parameters": None if valleys.refused else {n: getattr(valleys, n) for n in names},
        "intervals": None if valleys.refused else {k: list(v) for k, v in intervals.items() if v},
        "objective": None,
        "num_runs": len(table),
        "convention": table.convention,
        "notes": list(table.notes),
    }
