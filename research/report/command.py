"""`python -m research report RUN_FOLDER`: the page, and its figures as pictures beside it.

A table of runs, anybody's, gets the same page: `report TABLE --params N --data D --loss L`.
"""

import argparse
import os
from pathlib import Path

from research.errors import UserError
from research.report import export, stamp
from research.report.anyone import study_of
from research.report.chapters import (
    Chapter,
    headline,
    make_chapter,
    ruler_figure,
    rulers_side_by_side,
    time_figure,
)
from research.report.findings import find, find_in
from research.report.load import Study, read_study
from research.report.page import render
from research.report.rulers import read_rulers
from research.run import alone, files
from research.run.record import write_text
from research.run.storage import TEMPORARY
from research.scaling.commands.options import add_table_options, read_tables
from research.scaling.study_laws import FILE as LAWS
from research.scaling.table import Table

EXAMPLE = """examples:
  python -m research report runs/quickstart
  python -m research report runs/quickstart --loss SCORE    (of several, another than the main one)
  python -m research report table.csv --params N --data D --loss L --out page.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report` to `parser`."""
    add_table_options(parser)
    add = parser.add_argument
    add("--no_pictures", action="store_true", help="write the page alone, no PNG and SVG")
    add("--out", metavar="FILE", help="where to write the page of a table (default: TABLE.html)")


def run(args: argparse.Namespace) -> int:
    """Write report.html and figures/ into the run folder, or a table's page; print its path.

    Raises:
        UserError: when the folder is missing, is no run folder, or has no finished trial; or when
            the table cannot be read.
    """
    if args.params is None and args.loss and os.path.isdir(args.source):
        print(write_page_of(args.source, args.loss, args.out))
        return 0
    if args.params is None and args.loss is None and not os.path.isfile(args.source):
        for option in ("out", "part", "where"):
            if getattr(args, option):
                raise UserError(f"--{option}: only for a table; a run folder has its own report")
        print(write_report(args.source, pictures=not args.no_pictures))
        return 0
    if os.path.isdir(args.source):
        raise UserError(f"--params: only for a table; {args.source} is a folder")
    if not args.out and not os.path.isfile(args.source):
        raise UserError("--out: name the page; it has no place beside a pipe")
    print(write_page(read_tables(args, signed_loss=True)[""], args.out or f"{args.source}.html"))
    return 0


def write_page(table: Table, out: str | Path) -> Path:
    """Write the page of anybody's `table` to `out`, without pictures beside it; return its path.

    Raises:
        UserError: more rows than a page can show, or a path that cannot be written.
    """
    study, table = study_of(table)
    (part,) = study.parts
    write_text(out, render(study, [make_chapter(part, find_in(part.runs, table))]))
    return Path(out)


def write_page_of(folder: str | Path, loss: str, out: str | None) -> Path:
    """Write the page of a run folder judged by its score `loss` to `out`; return its path.

    Raises:
        UserError: as `write_report`, or the folder has no such score.
    """
    folder = Path(folder)
    study = read_study(folder, loss)
    path = Path(out) if out else folder / f"report_{files.check_name(loss, '--loss')}.html"
    write_text(path, render(study, _chapters(study, loss)))
    return path


def _chapters(study: Study, loss: str | None = None) -> list[Chapter]:
    findings = find(study, loss)
    return [make_chapter(part, findings[part.name]) for part in study.parts]


def write_report(folder: str | Path, pictures: bool = True) -> Path:
    """Write the report of the run folder `folder` and return the path of its page.

    A report that would come out the same, from the same runs by the same code, is left as it is.
    Of two processes at once, one makes it and the other waits for it.

    Raises:
        UserError: when the folder has no finished trial, or cannot be written.
    """
    folder = Path(folder)
    page = folder / "report.html"
    if stamp.is_current(folder, stamp.stamp(folder, pictures)):
        return page
    read_study(folder)  # which says what is wrong, before anything is written
    try:
        with alone.lock(folder, "report", f"writing {page}"):
            return _write_report(folder, page, pictures)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {error.filename or page}: {reason}") from error


def _write_report(folder: Path, page: Path, pictures: bool) -> Path:
    """Write the report of `folder`, which no other process does meanwhile."""
    digest = stamp.stamp(folder, pictures)
    if stamp.is_current(folder, digest):
        return page
    study = read_study(folder)
    chapters = _chapters(study)
    time = time_figure(study.time) if len(study.time) else None
    rulers = [(ruler, ruler_figure(ruler)) for ruler in read_rulers(study)]
    target = files.within(folder, folder / "figures")
    left = [*folder.glob(f".report.*{TEMPORARY}"), *target.glob(f".*{TEMPORARY}")]
    for unfinished in left:  # by a report that was killed
        unfinished.unlink(missing_ok=True)
    written = [page, folder / LAWS]
    if pictures:
        first = [chapter for chapter in chapters if chapter.part.floor is None][:2]
        chart = headline(first or chapters[:2])
        if rulers:
            chart = rulers_side_by_side([ruler for ruler, _ in rulers])
        pictures_of = {"headline": export.print_spec(export.to_spec(chart))}
        titled = [(chapter.part.title, each) for chapter in chapters for each in chapter.figures]
        whole = [*([time] if time else []), *(figure for _, figure in rulers)]
        for title, figure in [*titled, *((study.title, each) for each in whole)]:
            pictures_of[figure.name] = export.print_spec(figure.spec, figure.heading, title)
        for name, spec in pictures_of.items():
            written += export.write_pictures(spec, target, name)
    write_text(page, render(study, chapters, digest, time, rulers))
    stamp.write(folder, digest, written)
    return page
