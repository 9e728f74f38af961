"""Expressions on the columns of a table: comparisons, arithmetic and a few tests of text.

An expression is parsed, never run: its syntax tree is walked over the columns, and what is not on
the short list below is refused. Names of columns that are no Python names stand in `backticks`.
"""

import ast
import operator
import re
import unicodedata
import warnings
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from research.errors import UserError
from research.scaling.table.cells import as_numbers, blank
from research.scaling.table.columns import ColumnError, NoColumn, named_column, spelled

LONGEST, DEEPEST = 10_000, 60  # characters and levels of an expression
ALLOWED = (
    "allowed are columns, numbers, 'text', comparisons, + - * / // % **, and, or, not, in [...],"
    " isna(x), exp, log, log10, sqrt, abs and x.str.contains('text'), startswith, endswith"
)
COMPARE: dict[type, Callable] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: dict[type, Callable] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
}
JOIN: dict[type, Callable] = {ast.And: operator.and_, ast.Or: operator.or_}
FUNCTIONS = {"exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs}
TESTS = ("contains", "startswith", "endswith")
BLANK = {"isna": True, "isnull": True, "notna": False, "notnull": False}
PATTERN = re.compile(r"[\\^$*+?{}\[\]|()]")  # signs of a regular expression, which text is not
LEXEME = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]*)`|[&|]""")


def rows_where(frame: pd.DataFrame, text: str, option: str, source: str) -> np.ndarray:
    """Mask [rows] of the rows where the expression `text` holds ("column == 'value'").

    Raises:
        UserError: as `evaluate`, or `text` is not true or false for every row.
    """
    mask = evaluate(frame, text, option, source)
    if not (isinstance(mask, pd.Series) and mask.dtype == bool):
        raise UserError(f"{option}: {text[:80]!r} is not true or false for each row")
    return mask.to_numpy()


def evaluate(
    frame: pd.DataFrame, text: str, option: str = "expression", source: str = "the table"
) -> Any:
    """The value of the expression `text`: a Series [rows], or a number where it reads no column.

    Arithmetic is of float64 numbers, so that nothing grows beyond them; text is compared with
    text, numbers with numbers, and text columns that hold numbers (20M) are read as such.
    Division by zero and overflow of columns give inf and NaN, as numpy has them.

    Raises:
        UserError: what is not allowed and what is, an unknown column and the nearest, or the row
            where a column is not what the expression takes it for.
    """
    try:
        walk = _Walk(frame, text, option, source)
        with np.errstate(all="ignore"):
            return walk.value(walk.tree)
    except ColumnError:
        raise
    except UserError as error:
        raise UserError(f"{option}: cannot evaluate {text[:80]!r}: {error}") from error


class _Walk:
    """One expression over one frame; `quoted` maps placeholders to the names in backticks."""

    def __init__(self, frame: pd.DataFrame, text: str, option: str, source: str):
        self.frame, self.text, self.option, self.source = frame, text, option, source
        if len(text) > LONGEST:
            raise UserError(f"the expression has {len(text)} characters; {LONGEST} are read")
        self.prefix = "column_"
        while self.prefix in text:
            self.prefix += "_"
        self.quoted: dict[str, str] = {}
        self.plain = LEXEME.sub(self.lexeme, text).strip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tree = ast.parse(self.plain, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise UserError(self.unparsed(error)) from error
        depth, level = 0, [self.tree]
        while level:
            depth, level = depth + 1, [n for node in level for n in ast.iter_child_nodes(node)]
        if depth > DEEPEST:
            raise UserError(f"the expression is nested more than {DEEPEST} deep")

    def lexeme(self, match: re.Match) -> str:
        """What Python reads in place of backticks, & and |; the latter bind as in pandas."""
        if match[1] is not None:
            placeholder = f"{self.prefix}{len(self.quoted)}"
            self.quoted[placeholder] = match[1].strip()
            return f" {placeholder} "
        return {"&": " and ", "|": " or "}.get(str(match[0]), str(match[0]))

    def value(self, node: ast.AST) -> Any:
        """The value of `node`: a Series [rows], a number, a text, a truth, or a list of them."""
        match node:
            case ast.Name(id=name):
                return self.column(name)
            case ast.Constant(value=bool() | str() as value):
                return value
            case ast.Constant(value=int() | float() as value):
                return self.number(float(value) if abs(value) < 1e300 else np.inf, node)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return [self.constant(item) for item in items]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                pair = self.numbers(left), self.numbers(right)
                return self.number(ARITHMETIC[type(op)](*pair), node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                return ARITHMETIC[type(op)](self.numbers(operand))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.truth(operand)
            case ast.BoolOp(op=op, values=values):
                return reduce(JOIN[type(op)], map(self.truth, values))
            case ast.Compare(left=left, ops=ops, comparators=others):
                pairs = zip([left, *others], ops, others, strict=False)
                return reduce(operator.and_, [self.compared(*each) for each in pairs])
            case ast.Call(func=function, args=[*words], keywords=options):
                return self.called(node, function, words, options)
        raise self.refused(node)

    def called(self, node: ast.Call, function: ast.expr, words: list, options: list) -> Any:
        """One of the few functions and tests."""
        match function, words, options:
            case ast.Name(id=name), [word], [] if name in FUNCTIONS:
                return self.number(FUNCTIONS[name](self.numbers(word)), node)
            case ast.Name(id=name), [word], [] if name in BLANK:
                return blank(self.series(word)) == BLANK[name]
            case ast.Attribute(value=inner, attr=name), [], _ if name in BLANK:
                return blank(self.series(inner)) == BLANK[name]
            case ast.Attribute(value=inner, attr="isin"), [word], []:
                return self.among(self.value(inner), word)
            case ast.Attribute(value=ast.Attribute(value=inner, attr="str"), attr=name), [
                word
            ], _ if name in TESTS:
                return self.text_test(node, self.series(inner), name, self.value(word))
        raise self.refused(node)

    def refused(self, node: ast.AST) -> UserError:
        """What to say of a node that is not on the list."""
        bare = self.bare() if isinstance(node, ast.Attribute) else []
        if bare:
            return UserError(f"write `{bare[0]}`, in backticks")
        return UserError(f"{self.shown(node)!r} is not allowed; {ALLOWED}")

    def column(self, word: str) -> pd.Series:
        """The column that a name stands for."""
        name = self.quoted.get(word, word)
        if name not in self.frame:  # Python writes µ and ﬁ in another way than the table may
            names = (n for n in self.frame if unicodedata.normalize("NFKC", str(n)) == name)
            name = next(names, name)
        if name not in self.frame and word not in self.quoted:
            if bare := self.bare():
                raise UserError(f"write `{bare[0]}`, in backticks: no column is called {name!r}")
            texts = self.frame.select_dtypes(exclude=["number", "bool"]).columns[:100]
            if any((self.frame[each].astype(str) == name).any() for each in texts.unique()):
                hint = f"text stands in quotes: '{name}'"
                raise NoColumn(f"{self.option}: no column {name!r} in {self.source}; {hint}")
        column = named_column(self.frame, self.option, name, self.source)
        return column.astype(object) if column.dtype == "category" else column

    def series(self, node: ast.AST) -> pd.Series:
        """The value of `node`, which is a column."""
        found = self.value(node)
        if not isinstance(found, pd.Series):
            raise UserError(f"{self.shown(node)!r} is no column")
        return found

    def constant(self, node: ast.AST) -> Any:
        """The value of `node` in a list."""
        found = self.value(node)
        if isinstance(found, pd.Series | list):
            raise UserError(f"{self.shown(node)!r} in a list: expected numbers or 'text'")
        return found

    def number(self, found: Any, node: ast.AST) -> Any:
        """`found`, refused where it is a single number beyond what float64 holds."""
        if isinstance(found, pd.Series):
            return found
        if not np.isfinite(found):
            raise UserError(f"{self.shown(node)!r} is no finite number")
        return float(found)

    def numbers(self, node: ast.AST) -> Any:
        """The value of `node` as float64: one number or a Series [rows]."""
        found = self.value(node)
        if isinstance(found, str | list):
            raise UserError(f"{self.shown(node)!r} is no number")
        return self.read(found) if isinstance(found, pd.Series) else float(found)

    def read(self, column: pd.Series) -> pd.Series:
        """A column as numbers; blank cells are NaN, anything else is refused."""
        numbers, _ = as_numbers(column, self.frame.attrs.get("decimal", ""))
        bad = numbers.isna() & ~blank(column)
        if bad.any():
            row, value = column.index[bad][0], str(column[bad].iloc[0])
            name = "" if column.name is None else f" {column.name!r}"
            raise UserError(
                f"column{name} holds text in row {row + 1} ({value[:40]!r}), and is taken for"
                f" numbers here; text is compared with 'text' in quotes"
            )
        return numbers

    def truth(self, node: ast.AST) -> Any:
        """The value of `node` as true or false: one numpy bool or a Series [rows]."""
        found = self.value(node)
        if isinstance(found, pd.Series) and found.dtype == bool:
            return found
        if isinstance(found, bool | np.bool_):
            return np.bool_(found)
        text = self.shown(node)
        how = f"; write {text} == 1" if isinstance(found, pd.Series) else ""
        raise UserError(f"{text!r} is not true or false{how}")

    def compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        """One comparison: of two values, or of one with a list."""
        if isinstance(op, ast.Is | ast.IsNot):
            raise UserError(f"{self.shown(left)!r} before `is`: write isna(x) or notna(x)")
        several = isinstance(right, ast.List | ast.Tuple | ast.Set)
        if isinstance(op, ast.In | ast.NotIn) or several and isinstance(op, ast.Eq | ast.NotEq):
            found = self.among(self.value(left), right)
            return ~found if isinstance(op, ast.NotIn | ast.NotEq) else found
        return self.compare(COMPARE[type(op)], self.value(left), self.value(right))

    def among(self, value: Any, node: ast.expr) -> Any:
        """Whether `value` is one of a list."""
        choices = self.value(node)
        if not isinstance(choices, list):
            shown = self.shown(node)
            raise UserError(f"in {shown!r}: expected a list, or {shown}.str.contains('text')")
        each = (self.compare(operator.eq, value, choice) for choice in choices)
        return reduce(operator.or_, each, np.bool_(False))

    def compare(self, how: Callable, left: Any, right: Any) -> Any:
        """One comparison, of numbers with numbers or of text with text."""
        if isinstance(left, list) or isinstance(right, list):
            raise UserError("a list is compared by == or `in` alone, as in size in [1, 2]")
        try:
            found = how(self.beside(left, right), self.beside(right, left))
        except (TypeError, ValueError) as error:
            reason = str(error).splitlines()[0][:120]
            raise UserError(f"the two sides cannot be compared: {reason}") from error
        if isinstance(found, pd.Series):
            return found.fillna(how is operator.ne).astype(bool)
        return np.bool_(found)

    def beside(self, value: Any, other: Any) -> Any:
        """`value` as numbers where it is a column of text beside numbers."""
        if _kind(value) != "text" or _kind(other) != "number":
            return value
        if isinstance(value, pd.Series):
            return self.read(value)
        of = f"column {other.name!r}" if isinstance(other, pd.Series) else f"{other:g}"
        raise UserError(f"{of} holds numbers, and is compared with the text {value!r}")

    def text_test(self, node: ast.Call, column: pd.Series, name: str, text: Any) -> pd.Series:
        """contains, startswith or endswith, of text as it stands."""
        given = {word.arg: self.value(word.value) for word in node.keywords}
        if not isinstance(text, str):
            raise UserError(f"{self.shown(node)!r}: expected a column and a 'text'")
        if not set(given) <= {"case", "regex", "na"} or given.get("regex", False) is not False:
            raise UserError(f"{self.shown(node)!r}: text is matched as it stands; only case=False")
        if name == "contains" and "regex" not in given and PATTERN.search(text):
            raise UserError(
                f"{text!r} looks like a regular expression; text is matched as it stands: join"
                " several tests by `or`, or add regex=False"
            )
        texts = column.where(column.notna(), "").astype(str)
        if given.get("case", True) is False:
            texts, text = texts.str.lower(), text.lower()
        options = {"regex": False} if name == "contains" else {}
        return getattr(texts.str, name)(text, **options).astype(bool)

    def shown(self, node: ast.AST) -> str:
        """What the user wrote for `node`, shortened."""
        written = ast.get_source_segment(self.plain, node) or self.text
        names = rf"{self.prefix}\d+"
        written = re.sub(names, lambda match: f"`{self.quoted[match[0]]}`", written)
        written = " ".join(written.split())
        return written if len(written) <= 60 else written[:59] + "…"

    def bare(self) -> list[str]:
        """Columns that stand in the text without the backticks that they need, longest first."""
        outside = re.sub(r"`[^`]*`", "", self.text)
        names = [str(column) for column in self.frame.columns[:10_000]]
        found = [name for name in names if name and name in outside and spelled(name) != name]
        words = [name for name in found if not re.fullmatch(r"[\d.e+-]+", name)]
        return sorted(words, key=len, reverse=True)

    def unparsed(self, error: Exception) -> str:
        """Why the text is no expression, and what to write."""
        if bare := self.bare():
            return f"write `{bare[0]}`, in backticks"
        if self.text.count("`") % 2:
            return "a backtick is not closed"
        if re.search(r"(?<![<>=!])=(?!=)", LEXEME.sub("", self.text)):
            return "equal is written =="
        if isinstance(error, SyntaxError) and error.msg and "nested" not in error.msg:
            return f"{error.msg.partition(' (')[0]}; {ALLOWED}"
        return "it is nested too deep"


def _kind(value: Any) -> str:
    """Whether a value is "number" (as truths are), "text", or something else, such as dates."""
    if not isinstance(value, pd.Series):
        return "text" if isinstance(value, str) else "number"
    if pd.api.types.is_numeric_dtype(value):
        return "number"
    found = pd.api.types.infer_dtype(value, skipna=True)
    return "text" if found in ("string", "empty") else found
