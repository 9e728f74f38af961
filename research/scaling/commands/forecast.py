"""`python -m research forecast`: say what larger runs will score before they begin, and keep it."""

import argparse
from pathlib import Path

from research import study
from research.errors import UserError
from research.run import storage
from research.scaling import forecast_run as forecasts
from research.scaling.table import read_runs

EXAMPLE = """examples:
  python -m research sweep --config experiments/quickstart.py
  python -m research forecast experiments/quickstart_far.py --by runs/quickstart
  python -m research sweep --config experiments/quickstart_far.py
  python -m research forecast experiments/quickstart_far.py --score

The runs of STUDY are to come; those of the folder --by are there, and a law is fitted to each of
its parts of the same name. What it says goes to WORKDIR/STUDY/forecasts.jsonl, each line chained to
the one before by its hash, before the run may begin. --score prints what became of them, as a
table in Markdown: a run that fails or has no end is a miss, as one outside its interval is. Commit
the file, or keep the last hash: lines cut off its end are seen by nothing else.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `forecast`."""
    add = parser.add_argument
    add("study", metavar="STUDY", help="experiments/NAME.py, or NAME.py:part, of runs to come")
    add("--by", metavar="FOLDER", help="the folder of smaller runs that the law is fitted to")
    add("--budget", metavar="C", type=float, help="of the trials to forecast (default: all)")
    add("--law", choices=forecasts.LAWS, help="default: the first that is not refused")
    add("--workdir", metavar="WORKDIR", default="runs", help="where the study's folder is")
    add("--score", action="store_true", help="say what became of the forecasts")


def run(args: argparse.Namespace) -> int:
    """Forecast and write, or score and print.

    Raises:
        UserError: no such trials or parts, a run that has begun or is no larger, no law, or a
            ledger that was changed.
    """
    title = Path(args.study.partition(":")[0]).stem
    folder = storage.path(args.workdir) / title
    if args.score:
        for option in ("by", "budget", "law"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option}: forecasts are what they are; --score only reads them")
        found = forecasts.outcomes(folder)
        print(f"{table(found)}\n{_head([each.said for each in found])}")
        return 0
    if args.by is None:
        raise UserError("--by: name the folder of smaller runs, such as runs/quickstart")
    loaded, tables = study.load(args.study), read_runs(args.by)
    trials = [t for t in loaded.trials if args.budget in (None, t.config.budget)]
    if not trials:
        known = sorted({t.config.budget for t in loaded.trials if t.config.budget})
        has = ", ".join(f"{budget:g}" for budget in known) or "no budgets"
        raise UserError(f"--budget {args.budget:g}: no trial of {args.study} has it; it has {has}")
    records, fits = [], {}
    for trial in trials:
        forecasts.check_ahead(folder, trial.id)
        part = trial.config.part
        if part not in tables:
            raise UserError(f"--by {args.by}: no part {part!r}; it has {', '.join(tables)}")
        if part not in fits:
            fits[part] = forecasts.fitted(tables[part], args.law)
        counted = tables[part].convention.split()[1].strip(",;")
        run = forecasts.ahead(trial.id, trial.config, counted)
        records.append(forecasts.forecast(fits[part], tables[part], run))
    every = forecasts.append(folder, records)
    print(table([forecasts.Outcome(each, "to come") for each in every[-len(records) :]]))
    print(f"written to {folder / forecasts.forecast_ledger.FILE}; {_head(every)}")
    return 0


def _head(every: list[forecasts.Forecast]) -> str:
    """What is to be known elsewhere, lest lines be cut off the end."""
    return f"{len(every)} forecasts, the last of hash {every[-1]['hash'][:16]}"


def table(found: list[forecasts.Outcome]) -> str:
    """The forecasts as a table in Markdown, and how many of those that are over hit."""
    lines = [
        "| run | FLOPs | times the fitted | forecast | interval | measured | off | inside |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        said, over = each.said, each.status == "finished"
        measured = f"{each.measured:.4f}" if over else each.status
        inside = {None: "", True: "yes", False: "no"}[each.hit]
        beyond = "" if said["reach"] else ", beyond its reach"
        lines.append(
            f"| {said['trial']} | {said['flops']:.3g} | {said['times']:.3g}{beyond} "
            f"| {said['prediction']:.4f} {said['unit']} | [{said['low']:.4f}, {said['high']:.4f}] "
            f"| {measured} | {each.error if over else ''} | {inside} |"
        )
    hits, over, low, high = forecasts.covered(found)
    if over:
        level = found[0].said["level"]
        lines.append(
            f"\n{hits} of {over} inside intervals of {level:.0%}: "
            f"{hits / over:.0%} [{low:.0%}, {high:.0%}]"
        )
    return "\n".join(lines)
