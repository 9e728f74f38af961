"""Tables in text: commas, semicolons, tabs, bars or spaces; Markdown; comments; no header."""

import csv
import io
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
    if separator != usual and len(_fields(lines[0], separator)) > 1:
        notes.append(f"columns separated by {NAMES[separator]}")
    rows = [_fields(line, separator) for line in lines]
    if len(rows[0]) > MOST_COLUMNS:
        raise UserError(f"{source}: {len(rows[0])} columns; at most {MOST_COLUMNS} are read")
    header = not _is_data(rows)
    commas = separator != "," and COMMA_NUMBER.search("\n".join(lines)) is not None
    frame = _parsed(text, separator, header, commas, source)
    names = [name.strip() for name in rows[0]]
    if not header:
        frame.columns = names = [str(k + 1) for k in range(frame.shape[1])]
        notes.append(f"no header: its columns are called 1 to {frame.shape[1]}")
    frame = frame.dropna(how="all").reset_index(drop=True)  # spreadsheets end in rows of commas
    frame.columns = [str(name).strip() for name in frame.columns]
    if commas:
        frame, decimal = _decimal_commas(frame, separator)
        frame.attrs["decimal"] = decimal
        said = {
            ",": ["decimal commas: 3,14 is 3.14, 1.234.567 is 1234567"],
            ".": ["commas part thousands"],
        }
        notes += said.get(decimal, [])
    frame.attrs["repeated"] = sorted(n for n, k in Counter(names).items() if n and k > 1)
    return frame, notes


def _head(text: str) -> list[str]:
    """The first lines that hold something, at least one."""
    found, start = [], 0
    while start < len(text) and len(found) < SAMPLE:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end]
        found += [line] if line.strip() else []
        start = end + 1
    return found or [text.strip()]


def _fields(line: str, separator: str) -> list[str]:
    if separator == r"\s+":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [""])
    except csv.Error:
        return line.split(separator)


def _separator(lines: list[str]) -> str:
    """What parts the header's names, and every line into as many fields."""
    best, most = ",", (0.0, 0)
    for candidate in (",", ";", "\t", "|"):
        counts = [len(_fields(line, candidate)) for line in lines]
        if counts[0] > 1:
            same = sum(count == counts[0] for count in counts) / len(counts)
            best, most = max((best, most), (candidate, (same, counts[0])), key=lambda each: each[1])
    counts = {len(line.split()) for line in lines}
    if most[1] < 2 and len(counts) == 1 and counts != {1}:
        return r"\s+"
    return best


def _is_printed(lines: list[str]) -> bool:
    """Whether `lines` are a data frame as pandas prints it: a number and then a field a name."""
    fields = [line.split() for line in lines]
    ours = not any(mark in lines[0] for mark in ",;\t|") and len(lines) > 1
    return ours and all(len(row) == len(fields[0]) + 1 and row[0].isdigit() for row in fields[1:])


def _is_data(rows: list[list[str]]) -> bool:
    """Whether the first row is data: numbers like those below, and text where there is text."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    numbers = [number_of(cell) for cell in first]
    if not below or all(number is None for number in numbers):
        return False
    for k, number in enumerate(numbers):
        found = [number_of(row[k]) for row in below if row[k].strip() not in BLANKS]
        values = [abs(value) for value in found if value is not None]
        if number is None:
            # A name above numbers, or the empty corner of a pivot.
            if len(values) > len(found) / 2 or not first[k].strip():
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
    marked = [k for k, line in enumerate(lines) if line.lstrip().startswith("#")]
    if not marked:
        return text
    rest = [k for k, line in enumerate(lines) if line.strip() and k not in set(marked)]
    if len(marked) > len(rest) or not rest:
        return text
    if lines[rest[0]].count('"') % 2:
        return text
    first = rest[0]
    above = [k for k in marked if k < first]
    separator = _separator([lines[k] for k in rest[:SAMPLE]])
    rows = [_fields(lines[k], separator) for k in rest[:SAMPLE]]
    if above and _is_data(rows):
        name = lines[above[-1]].lstrip().lstrip("#").lstrip(" ")
        fields = _fields(name, separator)
        if len(fields) == len(rows[0]) and all(number_of(field) is None for field in fields):
            lines[above[-1]] = name
            marked.remove(above[-1])
            notes.append("its names from the comment above the rows")
    count = len(marked)
    if count:
        notes.append(f"{count} comment line{'s' if count > 1 else ''} left out")
    dropped = set(marked)
    return "\n".join(line for k, line in enumerate(lines) if k not in dropped)


def _markdown(text: str, source: str) -> tuple[str, str] | None:
    """The only Markdown table in `text`, with tabs between its cells, and what to say of it."""
    lines = text.split("\n")
    rules = [k for k in range(1, len(lines)) if _is_rule(lines, k)]
    if not rules:
        return None
    if len(rules) > 1:
        raise UserError(f"{source}: {len(rules)} Markdown tables; expected one in a file")
    end = rules[0] + 1
    while end < len(lines) and "|" in lines[end]:
        end += 1
    rows = [_cells(lines[k]) for k in range(rules[0] - 1, end) if k != rules[0]]
    for number, row in enumerate(rows[1:], 1):
        if len(row) > len(rows[0]):
            raise UserError(
                f"{source}: row {number} of the Markdown table is longer than its header"
            )
    others = sum(bool(line.strip()) for line in [*lines[: rules[0] - 1], *lines[end:]])
    said = "a Markdown table" + (f"; {others} other lines left out" if others else "")
    return "\n".join("\t".join(row) for row in rows), said


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


def _parsed(text, separator: str, header: bool, as_text: bool, source: str) -> pd.DataFrame:
    options = {"sep": separator, "skipinitialspace": separator != r"\s+", "low_memory": False}
    options |= {"dtype": str} if as_text else {}
    options |= {} if header else {"header": None}
    try:
        with warnings.catch_warnings():
            # Rows longer than the header: pandas would shift or cut them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(io.StringIO(text), index_col=False, **options)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{source}: the file is empty; expected a header and rows") from error
    except pd.errors.ParserWarning as error:
        reason = "rows have more fields than the header has names; numbers such as 1,000 need"
        reason += " quotes, lines above the header a #"
        raise UserError(f"{source}: not a CSV: {reason}") from error
    except (pd.errors.ParserError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"{source}: not a CSV: {reason}") from error


def _decimal_commas(frame: pd.DataFrame, separator: str) -> tuple[pd.DataFrame, str]:
    """Columns of digits as numbers, and the decimal mark of the file.

    Columns that can be read by one mark only decide; where none does, semicolons do, which part
    columns because commas do not.
    """
    digits = {}
    for k in range(frame.shape[1]):
        column = frame.iloc[:, k].dropna()
        values = column.astype(str).str.strip()
        values = values[~values.isin(BLANKS)]
        if len(values) and values.str.fullmatch(DIGITS).all():
            digits[k] = decimal_mark(values.unique())
    marks = {
        mark
        for k, mark in digits.items()
        if mark and frame.iloc[:, k].astype(str).str.contains(",", regex=False).any()
    }
    decimal = marks.pop() if len(marks) == 1 else "," if not marks and separator == ";" else ""
    columns = [frame.iloc[:, k] for k in range(frame.shape[1])]
    for k in digits:
        numbers, _ = as_numbers(columns[k], decimal)
        if (numbers.notna() | blank(columns[k])).all():
            columns[k] = numbers
    return pd.concat(columns, axis=1), decimal
