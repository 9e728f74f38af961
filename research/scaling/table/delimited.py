"""Tables in text: commas, semicolons, tabs, bars or spaces; Markdown; comments; no header."""

import csv
import io
import itertools
import re
import warnings
from collections import Counter

import pandas as pd

from research.errors import UserError
from research.scaling.table.cells import BLANKS, as_numbers, blank, decimal_mark, number_of

SAMPLE = 60  # lines by which a file is judged
MOST_COLUMNS = 10_000
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", r"\s+": "spaces"}
RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:[|+]\s*:?-+:?\s*)*\|?\s*")
COMMA_NUMBER = re.compile(r"(?:^|[;\t|\s])\"?[+-]?\d*,\d", re.MULTILINE)
DIGITS = r"[+-]?[\d.,]*\d[.,]?(?:[eE][+-]?\d+)?"
MARKS = {
    ",": ["decimal commas: 3,14 is 3.14, 1.234.567 is 1234567"],
    ".": ["commas part thousands"],
}


def read_delimited(text: str, source: str, usual: str = ",") -> tuple[pd.DataFrame, list[str]]:
    """The table in `text`, and what it was read as where that is not a plain table.

    `usual` is the separator that needs no word. The frame's attrs tell which names the header
    repeats (pandas renames them) and the decimal mark where the file decides it.

    Raises:
        UserError: no table, several, or rows longer than the header.
    """
    if not text.strip():
        raise UserError(f"{source}: the file is empty; expected a header and rows")
    notes: list[str] = []
    if "|" in text and (found := _markdown(text, source)):
        text, said = found
        notes.append(said)
        usual = "\t"
    elif "#" in text:
        text = _without_comments(text, notes)
    text = re.sub(r"\A\s*\"?sep=.\"?\n", "", text)  # a line for Excel
    lines = _head(text)
    if _is_printed(lines):
        text = text.replace(lines[0], f"row {lines[0]}", 1)
        lines[0] = f"row {lines[0]}"
    separator = _separator(lines)
    rows = [_fields(line, separator) for line in lines]
    if len(rows[0]) > MOST_COLUMNS:
        raise UserError(f"{source}: {len(rows[0])} columns; at most {MOST_COLUMNS} are read")
    if separator != usual and len(rows[0]) > 1:
        notes.append(f"columns separated by {NAMES[separator]}")
    commas = separator != "," and COMMA_NUMBER.search("\n".join(lines)) is not None
    header = not _is_data(rows)
    frame = _parsed(text, separator, header, commas, source)
    if header:
        names = [name.strip() for name in rows[0]]
        frame.columns = frame.columns.str.strip()
    else:
        frame.columns = names = [str(k + 1) for k in range(frame.shape[1])]
        notes.append(f"no header: its columns are called 1 to {frame.shape[1]}")
    frame = frame.dropna(how="all").reset_index(drop=True)  # spreadsheets end in rows of commas
    if commas:
        frame, decimal = _decimal_commas(frame, separator)
        frame.attrs["decimal"] = decimal
        notes += MARKS.get(decimal, [])
    frame.attrs["repeated"] = sorted(n for n, k in Counter(names).items() if n and k > 1)
    return frame, notes


def _head(text: str) -> list[str]:
    """The first lines that hold something, at least one."""
    lines = (line for line in io.StringIO(text, newline="\n") if line.strip())
    return [line.rstrip("\n") for line in itertools.islice(lines, SAMPLE)] or [text.strip()]


def _fields(line: str, separator: str) -> list[str]:
    if separator == r"\s+":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [""])
    except csv.Error:
        return line.split(separator)


def _separator(lines: list[str]) -> str:
    """What parts the header's names, and every line into as many fields."""
    found = []
    for candidate in (",", ";", "\t", "|"):
        first, *others = (len(_fields(line, candidate)) for line in lines)
        if first > 1:
            found.append((others.count(first), first, candidate))
    spaced = {len(line.split()) for line in lines}
    if not found and len(spaced) == 1 and spaced != {1}:
        return r"\s+"
    return max(found, key=lambda each: each[:2])[2] if found else ","


def _is_printed(lines: list[str]) -> bool:
    """Whether `lines` are a data frame as pandas prints it: a number and then a field a name."""
    first, *below = (line.split() for line in lines)
    numbered = all(len(row) == len(first) + 1 and row[0].isdigit() for row in below)
    return bool(below) and numbered and not any(mark in lines[0] for mark in ",;\t|")


def _is_data(rows: list[list[str]]) -> bool:
    """Whether the first row is data: numbers like those below, and text where there is text."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    numbers = [number_of(cell) for cell in first]
    if not below or all(number is None for number in numbers):
        return False
    for name, number, *column in zip(first, numbers, *below, strict=True):
        found = [number_of(cell) for cell in column if cell.strip() not in BLANKS]
        values = [abs(value) for value in found if value is not None]
        if number is None:
            # A name above numbers, or the empty corner of a pivot.
            if len(values) > len(found) / 2 or not name.strip():
                return False
        elif len(values) < len(found) or not values:
            return False
        elif number and not min(values) / 1e3 <= abs(number) <= max(values) * 1e3:
            return False
    return True


def _without_comments(text: str, notes: list[str]) -> str:
    """`text` without lines that begin with #; where they are most lines, they are data.

    A comment just above rows without a header, with a name for each of their columns, names them.
    """
    lines = text.split("\n")
    marked = {k for k, line in enumerate(lines) if line.lstrip().startswith("#")}
    rest = [k for k, line in enumerate(lines) if line.strip() and k not in marked]
    if not marked or len(marked) > len(rest) or lines[rest[0]].count('"') % 2:
        return text
    sample = [lines[k] for k in rest[:SAMPLE]]
    separator = _separator(sample)
    rows = [_fields(line, separator) for line in sample]
    above = max((k for k in marked if k < rest[0]), default=None)
    if above is not None and _is_data(rows):
        name = lines[above].lstrip("# \t")
        fields = _fields(name, separator)
        if len(fields) == len(rows[0]) and all(number_of(field) is None for field in fields):
            lines[above] = name
            marked.remove(above)
            notes.append("its names from the comment above the rows")
    if marked:
        notes.append(f"{len(marked)} comment line{'s' if len(marked) > 1 else ''} left out")
    return "\n".join(line for k, line in enumerate(lines) if k not in marked)


def _markdown(text: str, source: str) -> tuple[str, str] | None:
    """The only Markdown table in `text`, with tabs between its cells, and what to say of it."""
    lines = text.split("\n")
    rules = [k for k in range(1, len(lines)) if _is_rule(lines, k)]
    if not rules:
        return None
    if len(rules) > 1:
        raise UserError(f"{source}: {len(rules)} Markdown tables; expected one in a file")
    (rule,) = rules
    body = [*itertools.takewhile(lambda line: "|" in line, lines[rule + 1 :])]
    header, *rows = map(_cells, [lines[rule - 1], *body])
    for number, row in enumerate(rows, 1):
        if len(row) > len(header):
            raise UserError(
                f"{source}: row {number} of the Markdown table is longer than its header"
            )
    outside = [*lines[: rule - 1], *lines[rule + 1 + len(body) :]]
    others = sum(bool(line.strip()) for line in outside)
    said = "a Markdown table" + (f"; {others} other lines left out" if others else "")
    return "\n".join("\t".join(row) for row in [header, *rows]), said


def _is_rule(lines: list[str], k: int) -> bool:
    """Whether line `k` parts the header of a Markdown table, just above it, from its rows."""
    line, header = lines[k], lines[k - 1]
    ruled = ("|" in line or "+" in line) and RULE.fullmatch(line) is not None
    return ruled and "|" in header and not (k > 1 and "|" in lines[k - 2])


def _cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table, without marks of emphasis."""
    line = re.sub(r"^\s*\||(?<!\\)\|\s*$", "", line)
    cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
    return [re.sub(r"^(\*\*|__|`|\*)(.*)\1$", r"\2", cell).replace("\t", " ") for cell in cells]


def _parsed(text: str, separator: str, header: bool, as_text: bool, source: str) -> pd.DataFrame:
    options = {"sep": separator, "skipinitialspace": separator != r"\s+", "low_memory": False}
    options |= {"dtype": str if as_text else None, "header": "infer" if header else None}
    try:
        with warnings.catch_warnings():
            # Rows longer than the header: pandas would shift or cut them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(io.StringIO(text), index_col=False, **options)
    except pd.errors.ParserWarning as error:
        reason = "rows have more fields than the header has names; numbers such as 1,000 need"
        reason += " quotes, lines above the header a #"
        raise UserError(f"{source}: not a CSV: {reason}") from error
    except ValueError as error:  # pandas' own are ValueErrors too
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"{source}: not a CSV: {reason}") from error


def _decimal_commas(frame: pd.DataFrame, separator: str) -> tuple[pd.DataFrame, str]:
    """Columns of digits as numbers, and the decimal mark of the file.

    Columns that can be read by one mark only decide; where none does, semicolons do, which part
    columns because commas do not.
    """
    columns = [frame.iloc[:, k] for k in range(frame.shape[1])]
    marks: dict[int, str] = {}
    for k, column in enumerate(columns):
        values = column[~blank(column)].str.strip()
        if len(values) and values.str.fullmatch(DIGITS).all():
            marks[k] = decimal_mark(values.unique())
    told = {
        mark
        for k, mark in marks.items()
        if mark and columns[k].str.contains(",", regex=False).any()
    }
    decimal = told.pop() if len(told) == 1 else "," if not told and separator == ";" else ""
    for k in marks:
        numbers, _ = as_numbers(columns[k], decimal)
        if (numbers.notna() | blank(columns[k])).all():
            columns[k] = numbers
    return pd.concat(columns, axis=1), decimal
