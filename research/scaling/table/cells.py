"""Numbers as people write them: 20M, 1.3B, 45.2%, 4.517 ± 0.01, 1,300,000, 3,14, 2·10^9.

A column is read by one convention or not at all. `1,234` alone may be 1234 or 1.234: other values
of its column decide, or its file (semicolons come with decimal commas); else it is refused.
"""

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

from research.numbers import few

# What stands for an empty cell beside what pandas takes for one.
BLANKS = ("", "-", "–", "—", "n/a", "N/A", "NA", "nan", "NaN", "none", "None", "null", "...")
SCALES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6, "b": 9, "bn": 9, "billion": 9}
SCALES |= {"g": 9, "t": 12, "tn": 12, "trillion": 12}
OF_FLOPS = SCALES | {"p": 15, "e": 18, "z": 21}  # 3.2 EFLOPs
LONGEST = 60  # characters of a number with everything around it

CELL = re.compile(r"([+-]?[\d.,'’_ ]*\d[.,]?|[+-]?\d*[.,]\d+)(?:e([+-]?\d+))?\s*(.*)", re.I)
# What may follow a number, and the power of ten of its first group.
TAILS = (
    (re.compile(r"(%)"), {"%": -2}),
    (re.compile(r"[x×·*]\s*10\s*(?:\^|\*\*)\s*([+-]?\d{1,3})"), {}),
    (
        re.compile(
            rf"({'|'.join(SCALES)})?\s*"
            r"(?:tokens?|params?|parameters?|images?|examples?|samples?)?"
        ),
        SCALES,
    ),
    (re.compile(rf"({'|'.join(OF_FLOPS)})?\s*flops?"), OF_FLOPS),
)
BARE_POWER = re.compile(r"10\s*(?:\^|\*\*)\s*([+-]?\d{1,3})")
SPREAD = re.compile(r"\s*(?:±|\+/-|\+-)\s*[\d.,]+(?:e[+-]?\d+)?\s*(%?)$", re.I)
# Digits of a number whose decimal mark is a point, or a comma; groups of three may be parted.
DIGITS = {
    mark: re.compile(
        rf"[+-]?(?:[1-9]\d{{0,2}}(?:([{other}'’_ ])\d{{3}})(?:\1\d{{3}})*(?:[{mark}]\d*)?"
        rf"|\d+(?:[{mark}]\d*)?|[{mark}]\d+)"
    )
    for mark, other in ((".", ","), (",", "."))
}


def as_numbers(column: pd.Series, decimal: str = "") -> tuple[pd.Series, str]:
    """Numbers [rows] of a `column`, NaN where there is none, and how its text was read.

    `decimal` is the decimal mark where the file has decided it. The second value is empty for a
    column of plain numbers; otherwise it quotes one value of each kind, and the number it is.
    """
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    types, known = pd.api.types, column.notna()
    if types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column):
        return numbers, ""
    if decimal != "," and not (numbers.isna() & known).any():
        return numbers, ""
    texts = column[known].astype(str)
    tidy = {text: _tidy(text) for text in texts.unique()}
    mark = decimal_mark(tidy.values(), decimal)
    found = {text: _number(tidy[text], mark) for text in tidy}
    percents = [text for text, value in found.items() if value is not None and "%" in text]
    if len(percents) < sum(value is not None for value in found.values()):
        found |= dict.fromkeys(percents)  # shares beside percentages: which is which?
    read = texts.map(found).astype(float)
    # Infinity, and what is a plain number, are as pandas reads them; not points beside commas.
    plain = read.isna() & ((decimal != ",") | ~texts.str.contains(r"\d"))
    numbers[known] = read.where(~plain, numbers[known])
    return numbers, _said(found)


def blank(column: pd.Series) -> pd.Series:
    """Mask [rows] of the cells that say nothing."""
    if pd.api.types.is_numeric_dtype(column):
        return column.isna()
    return column.isna() | column.astype(str).str.strip().isin(BLANKS)


def remedy(value: str) -> str:
    """How a value that is no number should be written."""
    text = _tidy(value)
    ways = [_number(text, mark) for mark in DIGITS]
    if None not in ways and ways[0] != ways[1]:
        both = " or ".join(f"{way:.12g}" for way in ways)
        return f": write {both}, whichever it is; nothing in the column decides"
    if "%" in text and ways[0] is not None:
        return f": write {ways[0]:g}, or % in every row"
    clear = [way for way in ways if way is not None]
    return f": write {clear[0]:.12g}" if clear else "; expected plain numbers such as 1.3e9"


def number_of(text: str) -> float | None:
    """The number that a cell is by one decimal mark or the other, or None."""
    tidy = _tidy(text)
    point = _number(tidy, ".")
    return _number(tidy, ",") if point is None else point


def decimal_mark(texts: Iterable[str], decimal: str = "") -> str:
    """The decimal mark by which every one of `texts` can be read.

    Where nothing decides it, `decimal` is returned: what the file uses, or nothing.
    """
    texts = list(texts)
    pairs = [(_number(text, "."), _number(text, ",")) for text in texts]
    point = any(comma is None and point is not None for point, comma in pairs)
    comma = any(point is None and comma is not None for point, comma in pairs)
    if point != comma:
        return "." if point else ","
    if all(one == other for one, other in pairs):
        return decimal or "."
    # Beside decimal commas 1.234 may be either: some programs write points whatever the place.
    return "" if point or any("." in text for text in texts) else decimal


def _tidy(text: str) -> str:
    """With one kind of minus and of space, and no superscripts."""
    if len(text) > LONGEST:
        return ""
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    return re.sub(r"\s", " ", text.strip()).replace("−", "-")


def _number(text: str, mark: str) -> float | None:
    """The number that `text` is where `mark` is the decimal mark ("": where any is), or None."""
    if not mark:
        point, comma = (_number(text, each) for each in DIGITS)
        return point if point == comma else None
    if spread := SPREAD.search(text):
        text = text[: spread.start()]
        text += spread[1] * (not text.endswith("%"))
    if bare := BARE_POWER.fullmatch(text):
        return float(f"1e{bare[1]}")
    cell = CELL.fullmatch(text)
    digits = DIGITS[mark].fullmatch(cell[1]) if cell else None
    power = _power(cell[3].lower()) if cell else None
    if cell is None or digits is None or power is None:
        return None
    plain = cell[1].replace(digits[1] or "\0", "").replace(",", ".")
    return float(f"{plain}e{int(cell[2] or 0) + power}")


def _power(tail: str) -> int | None:
    """The power of ten that what follows the digits of a number stands for, or None."""
    for pattern, powers in TAILS:
        if match := pattern.fullmatch(tail):
            word = match[1]
            return powers.get(word, 0) if powers else int(word)
    return None


def _said(found: dict[str, float | None]) -> str:
    """One example of each kind of text that was read as another number than it spells."""
    kinds: dict[str, str] = {}
    for text, value in found.items():
        if value is not None and not _spells(text, value):
            kind = re.sub(r"[\d\s]+", "0", text)
            kinds.setdefault(kind, f"{' '.join(text.split())[:30]!r} as {value:.9g}")
    return few(kinds.values(), 3)


def _spells(text: str, value: float) -> bool:
    try:
        return "_" not in text and float(text) == value
    except ValueError:
        return False
