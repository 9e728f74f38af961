"""`python -m research book`: one page of every study, self-contained, searchable, offline.

Studies are read, never run (book_studies.py); their laws are asked of the tables beside them when
the book is made (book_answers.py), so that a table and its law cannot part.
"""

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import markupsafe

from research.report import book_answers, book_figures, theme
from research.report.book_answers import Answer, Row
from research.report.book_studies import AGREES, Study, read_studies
from research.report.words import environment, powers
from research.run.record import write_text

EXAMPLE = """examples:
  python -m research book --out book.html
  python -m research book my_studies --out mine.html

The book reads every study of a folder and the table beside it, NAME.csv of NAME.py. A study names
what answers its question by ANSWERS = ("power --loss loss --over size", ...), verbs of the law lab
without their table; else the table's columns choose.
"""
MOST_FIGURES = 6  # of a study
POWERS = ("alpha", "eta", "t_1")  # what is asked of a law, whose floor comes first
UNSAID = "not said"  # whether it agrees with the literature
STATES = ("run here", "not run here", "published")  # the last: of a paper, reproduced


@dataclass(frozen=True)
class Figure:
    """A picture in both themes (data URLs), the command that it belongs to, and what it shows."""

    light: str
    dark: str
    heading: str
    caption: str


@dataclass(frozen=True)
class Chapter:
    """A study with what was asked of its table."""

    study: Study
    answers: list[Answer] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Whether there is a table to ask: one of `STATES`."""
        if self.study.file.parent.name == "papers":
            return STATES[2]
        return STATES[1] if self.study.table is None else STATES[0]

    @property
    def question(self) -> str:
        """The section `Question:`, or the first paragraph where a study has none."""
        said = self.study.sections
        return said.get("Question") or said.get("", "").partition("\n\n")[0]

    @property
    def cost(self) -> str:
        """The first sentence of the section `Cost:`."""
        flat = " ".join(self.study.sections.get("Cost", "").split())
        return re.split(r"(?<!\bal)\. ", flat)[0]

    @property
    def spent(self) -> str:
        """What the table says of the cost: its rows, and the sums of its FLOPs and seconds."""
        table = self.study.table
        if table is None:
            return ""
        words = f"{len(table):,} rows"
        if "flops" in table and "step" not in table:  # rows along a run would count it again
            words += f", {table.flops.sum():.3g} FLOPs".replace("e+", "e")
        if "seconds" in table:
            words += f", {table.seconds.sum():,.0f} seconds"
        return words

    @property
    def law(self) -> tuple[str, Row] | None:
        """The number that stands for a study, with its verb: its first, or the power of a fit."""
        for each in self.answers:
            if known := [row for row in each.rows if row.value is not None]:
                return each.verb, next((row for row in known if row.name in POWERS), known[0])
        return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `book` to `parser`."""
    parser.add_argument("folder", nargs="?", default="experiments", help="where the studies are")
    parser.add_argument("--out", default="book.html", metavar="FILE", help="the page (book.html)")


def run(args: argparse.Namespace) -> int:
    """Write the book and print its path; what cannot be read is a line of standard error each.

    Raises:
        UserError: a folder without studies, or a page that cannot be written.
    """
    chapters = [ask(study) for study in read_studies(Path(args.folder))]
    write_text(args.out, render(chapters))
    for line in faults(chapters):
        print(f"warning: {line}", file=sys.stderr)
    print(args.out)
    return 0


def ask(study: Study) -> Chapter:
    """Ask the law lab what a study wants to know of its table, and draw it."""
    if study.table is None:
        return Chapter(study)
    asked = study.answers if study.answers is not None else book_answers.by_columns(study.table)
    path = study.file.with_suffix(".csv")
    answers = [book_answers.ask(words, path) for words in asked]
    figures = []
    for answer in answers or [Answer("", "table")]:
        drawn = book_figures.draw(study.table, answer)
        if drawn is not None and len(figures) < MOST_FIGURES:
            chart, caption = drawn
            where = getattr(answer.args, "where", None) or ""
            figures.append(Figure(**book_figures.pictures(chart), heading=where, caption=caption))
    return Chapter(study, answers, figures)


def faults(chapters: list[Chapter]) -> list[str]:
    """What is wrong with studies, their tables and what they ask of them: a line each."""
    found = [line for chapter in chapters for line in chapter.study.faults]
    for chapter in chapters:
        asked = chapter.answers if chapter.study.answers else ()
        found += [
            f"{chapter.study.file}: ANSWERS: {each.command}: {each.refused}"
            for each in asked
            if not each.content
        ]
    return found


def render(chapters: list[Chapter]) -> str:
    """Return the HTML of the book, with styles, script and figures inside it."""
    return environment().get_template("book.html.j2").render(
        chapters=chapters,
        font=theme.FONT,
        families=sorted({name for each in chapters for name in each.study.families}),
        axes=sorted({name for each in chapters for name in each.study.axes}),
        cited=sorted({name for each in chapters for name in each.study.cited}),
        states=STATES,
        agreements=[*AGREES.values(), UNSAID],
        unsaid=UNSAID,
        blocks=blocks,
        prose=prose,
    )  # fmt: skip


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Cut a docstring's prose into ("p", [text]), ("ul", [item, ...]) and ("pre", [text])."""
    found: list[tuple[str, list[str]]] = []
    for block in re.split(r"\n[ \t]*\n", text.strip("\n")):
        if block.startswith("    "):
            found.append(("pre", [re.sub(r"(?m)^    ", "", block)]))
        elif (first := re.search(r"(?m)^- ", block)) is not None:
            if before := block[: first.start()].strip():
                found.append(("p", [before]))
            items = re.split(r"(?m)^- ", block[first.start() :])[1:]
            found.append(("ul", [item.strip() for item in items]))
        elif block.strip():
            found.append(("p", [block.strip()]))
    return found


def prose(text: str) -> markupsafe.Markup:
    """Return prose escaped, with what stands in backticks as code and powers set as powers."""
    pieces = text.split("`")
    said = [
        markupsafe.Markup("<code>{}</code>").format(piece) if number % 2 else powers(piece)
        for number, piece in enumerate(pieces)
    ]
    return markupsafe.Markup("").join(said)
