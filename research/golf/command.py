"""`python -m research golf`: seeds of a recipe at fixed FLOPs, tested against the record."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from research.errors import UserError
from research.run import record

CONTEST = "experiments/golf.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", metavar="RECIPE.py", help="a file with get_config(budget)")
    add("--seeds", type=int, default=0, help="runs a budget, from seed 0 on; the contest's or more")
    add("--budget", action="append", default=[], help="of the contest's; again for another")
    add("--record", metavar="FILE", help="rows to hold it against; the contest's by default")
    add("--workdir", default="runs/golf", help="where the runs go, and go on")
    add("--workers", type=int, default=2, help="runs that are trained at a time")
    add("--contest", metavar="FILE", default=CONTEST, help=f"what is fixed; {CONTEST}")


def run(args: argparse.Namespace) -> int:
    """Train what is not trained yet, and print a row a budget in CSV; words go to stderr."""
    from launch import processes
    from research.golf import contest as contests
    from research.golf import proper, verdict
    from research.run import code

    processes.check_arguments(args)
    contest = contests.load(args.contest)
    seeds = args.seeds or contest.seeds
    if seeds < contest.seeds:
        raise UserError(f"--seeds {args.seeds}: the contest asks for {contest.seeds} or more")
    budgets = contests.budgets(contest, args.budget)
    table, there = args.record or contest.records, Path(args.record or contest.records).exists()
    best = verdict.records(verdict.read(contest, table) if there or args.record else [])
    entries = contests.entries(contest, args.recipe, budgets)
    files, name = code.files(args.contest, args.recipe), Path(args.recipe).stem
    about = {"recipe": name, "digest": code.digest(files), "revision": code.revision(files)}
    spec = Path(args.workdir) / f"{name}-{about['digest']}.py"
    contests.write_study(spec, entries, seeds)
    with _words_to_stderr():
        if failed := _train(str(spec), args.workdir, args.workers):
            return failed
    rows = []
    for budget in budgets:
        folder = spec.with_suffix("")
        runs = [folder / f"{contests.name_of(budget)}-seed{seed}" for seed in range(seeds)]
        row = verdict.row(contest, {"date": record.now()[:10], **about}, budget, runs)
        for each, loss in zip(runs, row.values, strict=True):
            if math.isfinite(loss):
                proper.check(each)
        rows.append(row := verdict.judge(contest, row, best.get(budget)))
        said = f"{name} at {contests.name_of(budget)} FLOPs: {row.verdict}"
        print(f"{said}, {row.mean:.4f} +- {row.sd:.4f}: {row.why}", file=sys.stderr)
    print(verdict.lines(rows, header=not there), end="")
    return 0


@contextlib.contextmanager
def _words_to_stderr() -> Iterator[None]:
    """Send what this process and its workers print to stderr: stdout is for the rows."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _train(spec: str, workdir: str, workers: int) -> int:
    from launch import local
    from research import study
    from research.run import storage

    loaded = study.load(spec)
    return local.sweep(loaded, spec, (), storage.path(workdir) / loaded.name, workers)
