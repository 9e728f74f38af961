"""`sweep status|logs|cancel|retry|collect`: after a submission, knowing only the study's folder."""

import argparse
import dataclasses
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from launch import job, journal, variables
from launch.journal import Journal
from research.errors import UserError
from research.run import storage, watch

COMMANDS = {
    "status": ("say how each run of a study is doing", "runs/quickstart"),
    "logs": ("print what the job of a run printed", "runs/quickstart TRIAL"),
    "cancel": ("stop jobs for good", "runs/quickstart"),
    "retry": ("submit again what failed or was cancelled", "runs/quickstart"),
    "collect": ("write the results as a table that `fit` reads", "runs/quickstart --out runs.csv"),
}


def run(name: str, words: Sequence[str], make_parser: Callable[..., Any]) -> int:
    """Run the subcommand `name` of sweep; return its exit code."""
    about, example = COMMANDS[name]
    parser = make_parser(f"sweep {name}", about, f"python -m research sweep {name} {example}")
    parser.add_argument("folder", metavar="STUDY", help="the study's folder, WORKDIR/<name>")
    if name in ("logs", "cancel", "retry"):
        several = "+" if name == "logs" else "*"
        parser.add_argument("runs", metavar="TRIAL", nargs=several, help="default: all of them")
    if name == "status":
        parser.add_argument("--json", action="store_true", help="as a list of objects")
    if name == "retry":
        parser.add_argument("--timeout", help="time one start may take from now on")
        parser.add_argument("--trust", action="store_true", help="run what others wrote down")
    if name == "collect":
        parser.add_argument("--out", required=True, help="a .csv or .parquet file")
    args = parser.parse_args(words)
    folder = storage.path(args.folder)
    if not (folder / "study.json").exists():
        raise UserError(f"{folder}: no study is in it; expected WORKDIR/<name> of a sweep")
    return globals()[name](folder, args)


def _journal(folder: Path) -> Journal:
    found = journal.read(folder)
    if found is None:
        raise UserError(
            f"{folder}: nothing was submitted; a sweep of this machine is stopped by Ctrl-C and "
            "goes on when it is run again"
        )
    return found


def status(folder: Path, args: argparse.Namespace) -> int:
    """Print a line a run: id, step of steps, loss, speed, time left, state, where."""
    rows = states(folder)
    if args.json:
        print(json.dumps([_plain(row) for row in rows], indent=2))
    else:
        watch.show(rows, {**watch.COLUMNS, "where": 0})
    return 0


def _plain(row: watch.Row) -> dict[str, Any]:
    beat = row.beat
    progress = {"step": beat.step, "steps": beat.steps, "loss": beat.loss}
    return {"id": row.id, "state": beat.state, **progress, "where": row.where}


def logs(folder: Path, args: argparse.Namespace) -> int:
    """Print the log of each job that holds one of the runs."""
    found = _journal(folder)
    for element in found.elements(args.runs):
        submission, id = found.current()[element]
        print(submission.open().logs(id).rstrip("\n"))
    return 0


def cancel(folder: Path, args: argparse.Namespace) -> int:
    """Stop what runs or waits; what is finished stays."""
    found = _journal(folder)
    chosen = found.alive(found.elements(args.runs))
    for submission, ids in found.newest(chosen):
        submission.open().cancel(list(ids.values()))
    print(f"{found.study}: {len(chosen)} elements cancelled")
    return 0


def retry(folder: Path, args: argparse.Namespace) -> int:
    """Submit what is neither finished nor on its way as new jobs, on machines as before."""
    found, timeout = _journal(folder), job.minutes(args.timeout) if args.timeout else 0
    if not args.trust:
        journal.check_owner(folder)
    left = set(found.unfinished(folder))
    wanted = [element for element in found.elements(args.runs) if element in left]
    known = found.states(wanted)
    chosen = [e for e in wanted if e not in known or known[e][0] not in journal.ALIVE]
    for submission, ids in found.newest(chosen):
        spec = dataclasses.replace(
            submission.spec,
            name=job.label(found.study, secrets.token_hex(2)),
            array=tuple(ids),
            timeout=timeout or submission.spec.timeout,
        )
        backend = submission.open()
        backend.check(spec)
        submission.check_folder(folder)
        env, written = variables.find(folder, submission.spec.name, spec.env)
        if remains := [id for element, id in ids.items() if element in known]:
            backend.cancel(remains)
        variables.keep(folder, spec.name, written)
        found = journal.submit(folder, found, backend, spec, env)
    print(f"{found.study}: {len(chosen)} elements submitted again")
    return 0


def collect(folder: Path, args: argparse.Namespace) -> int:
    """Write the finished trials of every part as one table."""
    from research.scaling.table import read_runs

    out = Path(args.out)
    if out.suffix not in (".csv", ".parquet"):
        raise UserError(f"--out {out}: expected a name that ends in .csv or .parquet")
    tables = list(read_runs(folder).values())
    names = {"N": "params", "D": "data", "C": "flops", "L": "loss"}
    frame = pd.concat([table.frame for table in tables], ignore_index=True).rename(columns=names)
    parquet = out.suffix == ".parquet"
    storage.write(out, frame.to_parquet() if parquet else frame.to_csv(index=False).encode())
    for note in dict.fromkeys(note for table in tables for note in table.notes):
        print(f"note: {note}")
    where = f" --where \"part == '{tables[0].part}'\"" if len(tables) > 1 else ""
    print(
        f"{len(frame)} trials in {out}; read it with   python -m research fit {out} "
        f"--params params --data data --flops flops --loss loss{where}"
    )
    return 0


def states(folder: Path) -> list[watch.Row]:
    """Return each run of the study, trunks among them, and where its job is.

    The state is what the run's folder says where a job runs or nothing was submitted, else what
    the queue says; "failed" is a job that is gone without a result.
    """
    rows, found = watch.read(folder), journal.read(folder)
    if found is None:
        return rows
    known, submitted = found.states(found.unfinished(folder)), found.current()
    element = {id: name for name, ids in found.groups.items() for id in ids}

    def told(row: watch.Row) -> watch.Row:
        name = element.get(row.id, row.id)
        if row.beat.state in watch.ENDED or name not in submitted:
            return row
        state, where = known.get(name, (job.FAILED, ""))
        if state == job.RUNNING:
            return dataclasses.replace(row, where=where)
        word = job.FAILED if state == job.FINISHED else state
        beat = dataclasses.replace(row.beat, state=word)
        return dataclasses.replace(row, beat=beat, silent=0.0, where=where)

    return [told(row) for row in rows]
