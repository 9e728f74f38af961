"""`python -m research report RUN_FOLDER`: the page, and its figures as pictures beside it.

A table of runs, anybody's, gets the same page: `report TABLE --params N --data D --loss L`.
"""

import argparse
import os
from pathlib import Path

from research.errors import UserError
from research.report import export, spent, stamp
from research.report.anyone import study_of
from research.report.chapters import headline, make_chapter
from research.report.findings import find, find_in
from research.report.load import read_study
from research.report.page import render
from research.run import files
from research.run.record import write_text
from research.scaling.commands.options import add_table_options, read_tables
from research.scaling.table import Table

EXAMPLE = """examples:
  python -m research report runs/quickstart
  python -m research report table.csv --params N --data D --loss L --out page.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report` to `parser`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
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
    if args.params is None and not os.path.isfile(args.source):
        for option in ("out", "part"):
            if getattr(args, option):
                raise UserError(f"--{option}: only for a table; a run folder has its own report")
        print(write_report(args.source, pictures=not args.no_pictures))
        return 0
    if os.path.isdir(args.source):
        raise UserError(f"--params: only for a table; {args.source} is a folder")
    print(write_page(read_tables(args)[""], args.out or f"{args.source}.html"))
    return 0


def write_page(table: Table, out: str | Path) -> Path:
    """Write the page of anybody's `table` to `out`, without pictures beside it; return its path.

    Raises:
        UserError: more rows than a page can show, or a path that cannot be written.
    """
    study, table = study_of(table)
    (part,) = study.parts
    found = find_in(part.runs, table)
    write_text(Path(out), render(study, [make_chapter(part, found)]))
    return Path(out)


def write_report(folder: str | Path, pictures: bool = True) -> Path:
    """Write the report of the run folder `folder` and return the path of its page.

    A report that would come out the same, from the same runs by the same code, is left as it is.
    """
    folder = Path(folder)
    digest, page = stamp.stamp(folder, pictures), folder / "report.html"
    if stamp.is_current(folder, digest):
        return page
    study = read_study(folder)
    findings = find(study)
    found = [(part, findings[part.name]) for part in study.parts]
    chapters = [make_chapter(part, laws) for part, laws in found]
    time = spent.figure(study.seconds) if len(study.seconds) else None
    written = [page]
    if pictures:
        target = files.within(folder, folder / "figures")
        first = [(part, laws) for part, laws in found if part.floor is None][:2]
        spec = export.print_spec(export.to_spec(headline(first or found[:2])))
        written += export.write_pictures(spec, target, "headline")
        for chapter in chapters:
            for figure in chapter.figures():
                spec = export.print_spec(figure.spec, figure.heading, chapter.part.title)
                written += export.write_pictures(spec, target, figure.name)
        if time:
            spec = export.print_spec(time.spec, time.heading, study.title)
            written += export.write_pictures(spec, target, time.name)
    write_text(page, render(study, chapters, digest, time))
    stamp.write(folder, digest, written)
    return page
