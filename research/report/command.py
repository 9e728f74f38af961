"""`python -m research report RUN_FOLDER`: the page, and its figures as pictures beside it."""

import argparse
from pathlib import Path

from research.record import write_text
from research.report import export
from research.report.chapters import headline, make_chapter
from research.report.findings import find
from research.report.load import read_study
from research.report.page import render
from research.report.stamp import is_current, stamp


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report` to `parser`."""
    parser.add_argument("folder", help="the run folder of a study, such as runs/quickstart")
    parser.add_argument(
        "--no_pictures", action="store_true", help="write the page alone, no PNG and SVG"
    )


def run(args: argparse.Namespace) -> int:
    """Write report.html and figures/ into the run folder; print the path of the page.

    Raises:
        UserError: when the folder is missing, is no run folder, or has no finished trial.
    """
    print(write_report(args.folder, pictures=not args.no_pictures))
    return 0


def write_report(folder: str | Path, pictures: bool = True) -> Path:
    """Write the report of the run folder `folder` and return the path of its page.

    A report that would come out the same, from the same runs by the same code, is left as it is.
    """
    folder = Path(folder)
    digest, page = stamp(folder, pictures), folder / "report.html"
    if is_current(page, digest):
        return page
    study = read_study(folder)
    findings = find(study)
    found = [(part, findings[part.name]) for part in study.parts]
    chapters = [make_chapter(part, laws) for part, laws in found]
    if pictures:
        target = folder / "figures"
        first = [(part, laws) for part, laws in found if part.floor is None][:2]
        spec = export.print_spec(export.to_spec(headline(first or found[:2])))
        export.write_pictures(spec, target, "headline")
        for chapter in chapters:
            for figure in chapter.figures():
                spec = export.print_spec(figure.spec, figure.heading, chapter.part.title)
                export.write_pictures(spec, target, figure.name)
    write_text(page, render(study, chapters, digest))  # last: its stamp says that all is there
    return page
